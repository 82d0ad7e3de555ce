//! Shared by the measuring programs.

pub mod measure;
#[path = "../../support/synthetic_index.rs"]
pub mod synthetic_index;
