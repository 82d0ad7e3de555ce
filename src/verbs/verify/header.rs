//! `header.bin`: checks that it exists and that its fields are consistent.

use super::finding::{Findings, HEADER_INVALID, HEADER_MISSING, HEADER_VERSION};
use crate::error::Result;
use crate::io::source::Source;
use crate::segment::decode_error::{DecodeError, Decoded, Location};
use crate::segment::file_name::HEADER;
use crate::segment::IndexHeader;

/// Returns the header if it is valid.
pub(crate) fn check(
    source: Option<impl Source>,
    findings: &mut Findings,
) -> Result<Option<IndexHeader>> {
    let Some(source) = source else {
        findings.note(&HEADER_MISSING, HEADER, || "no header.bin".into());
        return Ok(None);
    };
    let header = IndexHeader::parse(source).and_then(|header| {
        header.check_version()?;
        Ok(header)
    });
    let Some(header) = note(header, findings)? else {
        return Ok(None);
    };
    // Every inconsistency is noted, not only the first.
    let mut valid = true;
    for result in header.checks() {
        valid &= note(result, findings)?.is_some();
    }
    Ok(valid.then_some(header))
}

/// Turns a decoding error into a finding.
fn note<T>(result: Decoded<T>, findings: &mut Findings) -> Result<Option<T>> {
    match result {
        Ok(value) => return Ok(Some(value)),
        Err(DecodeError::Invalid {
            at: Location::Field(field),
            found,
            expected,
        }) => findings.note(&HEADER_INVALID, HEADER, || {
            format!("{field}: found {found}, expected {expected}")
        }),
        Err(DecodeError::Unsupported { found, .. }) => {
            findings.note(&HEADER_VERSION, HEADER, || format!("version {found}"));
        }
        Err(error) => return Err(error.in_file(HEADER.as_ref())),
    }
    Ok(None)
}
