//! What the programs that measure have in common.

pub mod measure;
#[path = "../../support/synthetic_index.rs"]
pub mod synthetic_index;
