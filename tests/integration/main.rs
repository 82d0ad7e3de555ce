//! Tests of user-visible behaviour, in one binary so that they are linked once.

#[path = "../support/mod.rs"]
mod support;

mod changing_index;
mod cli;
#[cfg(feature = "database")]
mod documentation;
mod exit_status;
mod extract_fixtures;
mod extract_properties;
mod faults;
mod generated;
mod hints;
mod hostile_index;
mod imports;
#[cfg(feature = "database")]
mod persist;
mod protected_files;
mod refusals;
mod repair;
mod round_trip;
mod salvage;
mod search;
mod standard_output;
mod verify;
