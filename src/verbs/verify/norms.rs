//! `length.bin`: checks that every record has a norm.

use super::finding::{Findings, NORMS_MISSING, NORMS_TOO_SHORT};
use crate::io::source::Source;
use crate::segment::file_name::NORMS;
use crate::segment::norms::Norms;

pub(crate) fn check(norms: Option<Norms<impl Source>>, count: u64, findings: &mut Findings) {
    let Some(norms) = norms else {
        if count > 0 {
            findings.note(&NORMS_MISSING, NORMS, || {
                format!("header.bin counts {count} records")
            });
        }
        return;
    };
    let held = norms.count();
    findings.note_many(&NORMS_TOO_SHORT, NORMS, count.saturating_sub(held), || {
        format!("record {held}: {} bytes hold {held} norms", norms.len())
    });
}
