//! Checks of a rollback journal before SQLite replays it.
//!
//! ```text
//! header:   magic (8), records (4), checksum seed (4), pages of the database before (4),
//!           sector size (4), page size (4)
//! records:  page number, page, checksum
//! end, of a transaction over several databases:
//!           page number (4), name, its length (4), its checksum (4), magic (8)
//! ```
//!
//! All numbers are big-endian. The name is the path of the super-journal, a file that exists until
//! the transaction is committed in all databases.

use std::fs::File;
use std::io;

use crate::error::Result;
use crate::io::file::{read_exact_at, InputFile};

const MAGIC: [u8; 8] = [0xD9, 0xD5, 0x05, 0xF9, 0x20, 0xA1, 0x63, 0xD7];

/// Bytes after the name of a super-journal: its length, its checksum and the magic.
const TRAILER_BYTES: usize = 16;

/// Longest name in bytes that is read. SQLite's longest path is 512 bytes on Unix and 131,068 on
/// Windows.
const MAX_NAME_BYTES: usize = 1 << 17;

/// Characters of a name that an error message shows.
const MAX_SHOWN_CHARS: usize = 256;

/// Returns the super-journal's name at the end of a journal of `len` bytes, quoted. Returns `None`
/// if SQLite would see none.
///
/// Versions differ in the names they accept, so any name counts here. The checksum is the sum of
/// the bytes. C treats `char` as signed on some processors and as unsigned on others, so either sum
/// counts.
pub(super) fn super_journal(journal: &File, len: u64) -> io::Result<Option<String>> {
    let mut first = [0];
    let mut trailer = [0; TRAILER_BYTES];
    let Some(end) = len.checked_sub(TRAILER_BYTES as u64) else {
        return Ok(None);
    };
    read_exact_at(journal, &mut first, 0)?;
    read_exact_at(journal, &mut trailer, end)?;
    // SQLite ignores a journal that begins with a zero: its transaction has ended.
    if first == [0] || !trailer.ends_with(&MAGIC) {
        return Ok(None);
    }
    let [length, checksum] = [number(&trailer, 0), number(&trailer, 4)];
    let (start, length) = match (end.checked_sub(length.into()), usize::try_from(length)) {
        (Some(start), Ok(length)) if (1..=MAX_NAME_BYTES).contains(&length) => (start, length),
        _ => return Ok(None),
    };
    let mut name = vec![0; length];
    read_exact_at(journal, &mut name, start)?;
    let sum = |number: fn(u8) -> u32| {
        let numbers = name.iter().map(|byte| number(*byte));
        numbers.fold(0, u32::wrapping_add)
    };
    let sums = [
        sum(u32::from),
        sum(|byte| i32::from(byte.cast_signed()).cast_unsigned()),
    ];
    if !sums.contains(&checksum) {
        return Ok(None);
    }
    let name = String::from_utf8_lossy(&name);
    Ok(Some(format!(
        "{:?}",
        name.chars().take(MAX_SHOWN_CHARS).collect::<String>()
    )))
}

/// Length in bytes of the database that a journal would restore; 0 if it restores none.
pub(super) fn initial_len(journal: &InputFile, page_size: u64) -> Result<u64> {
    const PAGES: usize = 16;
    const PAGE_SIZE: usize = 24;
    let mut header = [0; 28];
    if journal.len() < header.len() as u64 {
        return Ok(0);
    }
    journal.read_at(&mut header, 0)?;
    if !header.starts_with(&MAGIC) {
        return Ok(0);
    }
    let pages = u64::from(number(&header, PAGES));
    // Old versions of SQLite write 0 for the page size of the database.
    let page_size = page_size.max(number(&header, PAGE_SIZE).into());
    Ok(pages.saturating_mul(page_size))
}

/// Big-endian number at an offset, or 0 beyond the end.
fn number(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// The end of a journal that names a super-journal.
    fn end(name: &[u8], length: usize, checksum: u32, magic: [u8; 8]) -> Vec<u8> {
        let length = u32::try_from(length).unwrap().to_be_bytes();
        let parts = [
            &[0, 0, 0, 9],
            name,
            &length,
            &checksum.to_be_bytes(),
            &magic,
        ];
        parts.concat()
    }

    fn found(bytes: &[u8]) -> Option<String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        super_journal(&file, bytes.len() as u64).unwrap()
    }

    #[test]
    fn every_name_that_sqlite_may_open_is_found() {
        let sum = |name: &[u8]| name.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let ascii = b"fifo-mj0000009AB".as_slice();
        let mut journal = MAGIC.to_vec();
        journal.extend([7; 512]);
        for (name, checksum, shown) in [
            (ascii, sum(ascii), "\"fifo-mj0000009AB\""),
            (b"/dev/tty", sum(b"/dev/tty"), "\"/dev/tty\""),
            (b"a\0b\n", sum(b"a\0b\n"), "\"a\\0b\\n\""),
            // As unsigned numbers, and as signed ones.
            (b"\xC3\xA9", 0xC3 + 0xA9, "\"é\""),
            (b"\xC3\xA9", (0xC3 + 0xA9_u32).wrapping_sub(512), "\"é\""),
        ] {
            let bytes = [journal.clone(), end(name, name.len(), checksum, MAGIC)].concat();
            assert_eq!(found(&bytes).as_deref(), Some(shown));
        }
        // The name may be as long as the file.
        let bytes = end(ascii, ascii.len(), sum(ascii), MAGIC);
        assert!(found(&bytes[4..]).is_some());
    }

    #[test]
    fn a_journal_without_a_name_is_left_to_sqlite() {
        let name = b"fifo-mj0000009AB".as_slice();
        let sum = name.iter().map(|byte| u32::from(*byte)).sum();
        let long = vec![b'a'; MAX_NAME_BYTES + 1];
        let long_sum = 97 * u32::try_from(long.len()).unwrap();
        for bytes in [
            Vec::new(),
            vec![0xD9; 15],
            end(name, name.len(), sum + 1, MAGIC),
            end(name, name.len(), sum, [0; 8]),
            end(name, 0, 0, MAGIC),
            end(name, 1000, sum, MAGIC),
            end(&long, long.len(), long_sum, MAGIC),
        ] {
            assert_eq!(found(&[MAGIC.to_vec(), bytes].concat()), None);
        }
        // The transaction is over.
        let ended = [vec![0; 512], end(name, name.len(), sum, MAGIC)].concat();
        assert_eq!(found(&ended), None);
    }
}
