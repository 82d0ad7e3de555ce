//! The hash by which a manifest knows its files again.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::progress::Monitor;

/// Bytes hashed between two looks at the cancel token.
const BLOCK: usize = 256 << 10;

/// The length of a file, and its hash in hexadecimal digits.
pub(super) fn of_file(path: &Path, monitor: &Monitor<'_>) -> Result<(u64, String)> {
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut block = vec![0; BLOCK];
    let mut hasher = Sha256::new();
    let mut length = 0;
    loop {
        monitor.check()?;
        let count = file.read(&mut block).map_err(Error::io(path, "read"))?;
        if count == 0 {
            break;
        }
        hasher.update(block.get(..count).unwrap_or_default());
        length += count as u64;
    }
    let digits = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok((length, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_standard() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, b"abc").unwrap();
        let (length, digits) = of_file(&path, &Monitor::default()).unwrap();
        assert_eq!(length, 3);
        assert_eq!(
            digits,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
