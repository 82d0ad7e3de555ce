//! `header.bin`

use super::finding::{Findings, HEADER_INVALID, HEADER_MISSING, HEADER_VERSION};
use crate::chroma::file_name::HEADER;
use crate::chroma::IndexHeader;
use crate::error::{Error, Result};
use crate::io::file::Source;

/// The header, when it is valid.
pub(crate) fn check(
    source: Option<&Source>,
    findings: &mut Findings,
) -> Result<Option<IndexHeader>> {
    let Some(source) = source else {
        findings.note(&HEADER_MISSING, HEADER, || "no header.bin".into());
        return Ok(None);
    };
    let mut note = |result: Result<()>| match result {
        Ok(()) => Ok(true),
        Err(Error::CorruptIndex {
            field,
            found,
            expected,
            ..
        }) => {
            findings.note(&HEADER_INVALID, HEADER, || {
                format!("{field}: found {found}, expected {expected}")
            });
            Ok(false)
        }
        Err(Error::Unsupported { found, .. }) => {
            findings.note(&HEADER_VERSION, HEADER, || format!("version {found}"));
            Ok(false)
        }
        Err(error) => Err(error),
    };
    let header = match IndexHeader::parse(source) {
        Ok(header) => header,
        Err(error) => {
            note(Err(error))?;
            return Ok(None);
        }
    };
    if !note(header.check_version(source.path()))? {
        return Ok(None);
    }
    let mut valid = true;
    for result in header.checks(source.path()) {
        valid &= note(result)?;
    }
    Ok(valid.then_some(header))
}
