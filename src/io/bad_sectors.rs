//! Reads past sectors that the disk cannot read.
//!
//! A bad sector must not stop a rescue. Its bytes are replaced by a word that no intact segment
//! file contains, so that every check detects it. As `f32` it is NaN, and as an internal id it is
//! out of range. As a flag byte it does not mark a record deleted, and as text or pickle opcode it
//! is invalid. Where a value must not be used at all, such as a label, [`BadSectors::within`]
//! reports the unread bytes.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::error::is_bad_medium;

/// Bytes per read while bad sectors are being located: a page, the unit of system reads.
const PAGE_BYTES: usize = 4096;

/// Smallest sector size of a disk in bytes.
const SECTOR_BYTES: usize = 512;

/// Word that replaces unreadable bytes, indexed by file offset modulo 4.
const FILL: [u8; 4] = 0x7FFA_FFFA_u32.to_le_bytes();

/// Numbers of the unreadable sectors of a file that were met.
#[derive(Debug, Default)]
pub(crate) struct BadSectors(Mutex<BTreeSet<u64>>);

impl BadSectors {
    /// Number of sectors.
    pub(crate) fn count(&self) -> u64 {
        self.lock().len() as u64
    }

    /// Parts of a range of bytes that are in bad sectors.
    pub(crate) fn within(&self, offset: u64, len: usize) -> Vec<Range<u64>> {
        let end = offset.saturating_add(len as u64);
        let sectors = offset / SECTOR_BYTES as u64..end.div_ceil(SECTOR_BYTES as u64);
        if sectors.is_empty() {
            return Vec::new();
        }
        let bytes = |number: &u64| {
            let start = number.saturating_mul(SECTOR_BYTES as u64);
            start.max(offset)..start.saturating_add(SECTOR_BYTES as u64).min(end)
        };
        self.lock().range(sectors).map(bytes).collect()
    }

    /// Reads a range with `read` in small steps, and fills the unreadable parts.
    pub(crate) fn read_past(
        &self,
        bytes: &mut [u8],
        offset: u64,
        read: impl Fn(&mut [u8], u64) -> io::Result<()>,
    ) -> io::Result<()> {
        for_each_aligned(bytes, offset, PAGE_BYTES, |page, offset| {
            match read(page, offset) {
                Err(error) if is_bad_medium(&error) => {
                    // First page by page, then sector by sector within a bad page, because a failed
                    // read is slow.
                    for_each_aligned(page, offset, SECTOR_BYTES, |sector, offset| {
                        match read(sector, offset) {
                            Err(error) if is_bad_medium(&error) => {
                                self.lock().insert(offset / SECTOR_BYTES as u64);
                                fill(sector, offset);
                                Ok(())
                            }
                            done => done,
                        }
                    })
                }
                done => done,
            }
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Visits a range in pieces, divided at multiples of `size` in the file.
fn for_each_aligned(
    mut bytes: &mut [u8],
    mut offset: u64,
    size: usize,
    mut visit: impl FnMut(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        // The first piece ends at the next multiple of `size`.
        let past = usize::try_from(offset % size as u64).map_err(io::Error::other)?;
        let len = size.saturating_sub(past).min(bytes.len());
        let Some((part, rest)) = std::mem::take(&mut bytes).split_at_mut_checked(len) else {
            return Ok(());
        };
        visit(part, offset)?;
        offset = offset.saturating_add(len as u64);
        bytes = rest;
    }
    Ok(())
}

fn fill(sector: &mut [u8], offset: u64) {
    let first = usize::try_from(offset % FILL.len() as u64).unwrap_or_default();
    // Keeps the word aligned to the file, so that every f32 and u32 in the sector reads as a whole
    // word.
    let words = FILL.iter().cycle().skip(first);
    sector
        .iter_mut()
        .zip(words)
        .for_each(|(byte, fill)| *byte = *fill);
}

/// Injected bad sectors for tests.
#[cfg(test)]
pub(crate) mod injected {
    use std::io;
    use std::ops::Range;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    /// EIO on every Unix; ERROR_CRC.
    const CODE: i32 = if cfg!(windows) { 23 } else { 5 };

    static RANGES: Mutex<Vec<(PathBuf, Range<u64>)>> = Mutex::new(Vec::new());

    /// Makes a range of the file unreadable.
    pub(crate) fn add(path: &Path, range: Range<u64>) {
        RANGES.lock().unwrap().push((path.to_path_buf(), range));
    }

    pub(crate) fn check(path: &Path, offset: u64, len: usize) -> io::Result<()> {
        let end = offset + len as u64;
        let ranges = RANGES.lock().unwrap();
        let is_bad = ranges
            .iter()
            .any(|(bad, range)| bad == path && range.start < end && offset < range.end);
        match is_bad {
            true => Err(io::Error::from_raw_os_error(CODE)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::file::{Access, InputFile, IoMode};
    use crate::io::source::Source;

    #[test]
    fn bad_sectors_are_filled_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content: Vec<u8> = (0..100_000_u32).map(|byte| (byte % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        injected::add(&path, 5_000..5_001);
        injected::add(&path, 50_000..52_000);

        let file = InputFile::open(&path, IoMode::Read).unwrap();
        let error = file.window(1 << 20).bytes(0, 10_000).unwrap_err();
        assert_eq!(error.code(), 300);

        let access = Access::from(IoMode::Read).past_bad_sectors();
        let file = InputFile::open(&path, access).unwrap();
        let bad = [4_608..5_120, 49_664..52_224];
        for window in [0, 4_096, 1 << 20] {
            let mut window = file.window(window);
            for (offset, len) in [(0, 100_000), (5_001, 10), (4_999, 300), (51_999, 1_001)] {
                let found = window.bytes(offset, len).unwrap().to_vec();
                for (at, byte) in (offset..).zip(found) {
                    let expected = match bad.iter().any(|bad| bad.contains(&at)) {
                        true => FILL[at as usize % 4],
                        false => content[at as usize],
                    };
                    assert_eq!(byte, expected, "byte {at}");
                }
                let unreadable = window.unreadable(offset, len);
                let count: u64 = unreadable.iter().map(|range| range.end - range.start).sum();
                let end = offset + len as u64;
                let expected = (offset..end).filter(|at| bad.iter().any(|bad| bad.contains(at)));
                assert_eq!(count, expected.count() as u64);
            }
        }
        assert_eq!(file.bad_sectors().count(), 1 + 5);
    }

    #[test]
    fn every_reader_detects_the_fill() {
        let word = u32::from_le_bytes(FILL);
        assert!(f32::from_bits(word).is_nan());
        assert_eq!(FILL[2] & 1, 0, "the delete mark");
        assert!(std::str::from_utf8(&FILL).is_err());
        assert!(word > i32::MAX as u32 / 2);
    }
}
