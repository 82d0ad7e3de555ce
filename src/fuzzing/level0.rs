//! Property: an index is extracted if and only if its header satisfies every constraint of the
//! format and all of its records exist. Each row then equals a naive decoding of the raw bytes.
//!
//! Input: the length of the header (u8), the header, and `data_level0.bin`.

use zerocopy::IntoBytes;

use super::take;
use crate::segment::{AlignedBytes, DecodeError, Record, Segment};
use crate::Monitor;

/// A `header.bin` that satisfies every constraint.
struct Header {
    word: usize,
    count: u64,
    record_size: u64,
    label_offset: u64,
    offset_data: u64,
}

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let mut word = [0; 8];
    word[..size].copy_from_slice(&bytes[at..at + size]);
    u64::from_le_bytes(word)
}

fn header(bytes: &[u8]) -> Option<Header> {
    // The length tells the size of hnswlib's `size_t`: a header has ten of them, three 32-bit
    // fields and a double.
    let word = match bytes.len() {
        100 => 8,
        60 => 4,
        _ => return None,
    };
    // Words before max_level and enterpoint_node, which have 32 bits, and after them.
    let early = |at: usize| number(bytes, 4 + at * word, word);
    let late = |at: usize| number(bytes, 12 + (6 + at) * word, word);
    let [offset_level0, max_elements, count, record_size, label_offset, offset_data] =
        [0, 1, 2, 3, 4, 5].map(early);
    let version = number(bytes, 0, 4);
    let max_level = number(bytes, 4 + 6 * word, 4) as u32 as i32;
    let entry_point = number(bytes, 8 + 6 * word, 4);
    let [max_m, max_m0, m] = [0, 1, 2].map(late);
    let mult = f64::from_bits(number(bytes, 12 + 9 * word, 8));

    let inverse = 1.0 / (m as f64).ln();
    let vector = i128::from(label_offset) - i128::from(offset_data);
    let holds = version == 1
        && offset_level0 == 0
        && count <= max_elements
        && count < 1 << 32
        && m > 0
        && max_m == m
        && u128::from(max_m0) == 2 * u128::from(m)
        && u128::from(offset_data) == 4 + 4 * u128::from(max_m0)
        && (4..0x7FF0_0000).contains(&vector)
        && vector % 4 == 0
        && u128::from(record_size) == u128::from(label_offset) + word as u128
        && (mult == inverse || (mult - inverse).abs() <= 1e-9 * inverse)
        && if count == 0 {
            max_level == -1 && entry_point == 0xFFFF_FFFF
        } else {
            max_level >= 0 && entry_point < count
        };
    holds.then_some(Header {
        word,
        count,
        record_size,
        label_offset,
        offset_data,
    })
}

/// Returns the header of a readable index: it is valid, and all of its records exist.
fn readable(header_bytes: &[u8], level0: &[u8]) -> Option<Header> {
    let header = header(header_bytes)?;
    let needed = u128::from(header.count) * u128::from(header.record_size);
    (needed <= level0.len() as u128).then_some(header)
}

/// Splits an input into the header and the records.
fn split(mut bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&header_len, rest) = bytes.split_first()?;
    bytes = rest;
    Some((take(&mut bytes, header_len), bytes))
}

fn assert_is(record: &Record<'_>, raw: &[u8], header: &Header) {
    let (data, label) = (header.offset_data as usize, header.label_offset as usize);
    assert_eq!(record.label, number(raw, label, header.word));
    assert_eq!(u64::from(record.links.count.get()), number(raw, 0, 2));
    assert_eq!(record.links.is_deleted(), raw[2] & 1 == 1);
    assert_eq!(record.neighbours.as_bytes(), &raw[4..data]);
    assert_eq!(record.vector.as_bytes(), &raw[data..label]);
}

pub fn property(bytes: &[u8]) -> bool {
    let Some((header_bytes, level0)) = split(bytes) else {
        return false;
    };
    // Records are cast in place, so they need the same alignment as in a file.
    let segment = Segment::new(header_bytes, AlignedBytes::from(level0));
    match (segment, readable(header_bytes, level0)) {
        (Ok(mut segment), Some(header)) => {
            let mut records = level0.chunks_exact(header.record_size as usize);
            let mut read = 0;
            segment
                .records_mut()
                .for_each(&Monitor::default(), |id, record| {
                    assert_eq!(id, read);
                    assert_is(&record, records.next().unwrap(), &header);
                    read += 1;
                    Ok(())
                })
                .unwrap();
            assert_eq!(read, header.count);
        }
        (Err(DecodeError::Invalid { .. } | DecodeError::Unsupported { .. }), None) => {}
        (segment, readable) => panic!("{segment:?}, readable: {}", readable.is_some()),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::{assert_same_rows, replay, rows, Directory, Row};
    use super::{number, readable, split};
    use crate::{ExtractOptions, IoMode};

    #[test]
    fn holds_for_seeds_and_regressions() {
        replay("level0", super::property);
    }

    /// Returns the expected result of an extraction: a row for each record.
    fn expected(header_bytes: &[u8], level0: &[u8]) -> Option<Vec<Row>> {
        let header = readable(header_bytes, level0)?;
        let row = |internal_id| {
            let record = &level0[(internal_id * header.record_size) as usize..];
            let (data, label) = (header.offset_data as usize, header.label_offset as usize);
            Row {
                internal_id,
                label: number(record, label, header.word),
                deleted: record[2] & 1 == 1,
                user_id: None,
                seq_id: None,
                vector: (data..label)
                    .step_by(4)
                    .map(|at| number(record, at, 4) as u32)
                    .collect(),
            }
        };
        Some((0..header.count).map(row).collect())
    }

    #[test]
    fn holds_for_extractions_from_files() {
        replay("level0", |bytes| {
            let (header, level0) = split(bytes).unwrap();
            let expected = expected(header, level0);
            let directory = Directory::new();
            directory.write("header.bin", header);
            directory.write("data_level0.bin", level0);
            for io in [IoMode::Mmap, IoMode::Read] {
                for include_deleted in [false, true] {
                    let options = ExtractOptions {
                        include_deleted,
                        ..ExtractOptions::default()
                    };
                    let found = rows(directory.path(), &options, io);
                    match (found, expected.clone()) {
                        (Ok((summary, found)), Some(mut expected)) => {
                            assert_eq!(summary.scanned, expected.len() as u64);
                            expected.retain(|row| include_deleted || !row.deleted);
                            assert_same_rows(&found, &expected, "rows");
                            let skipped = summary.scanned - summary.emitted;
                            assert_eq!(skipped, summary.deleted_skipped);
                        }
                        (Err(error), None) => {
                            assert!(matches!(error.code(), 200 | 203), "{error}");
                        }
                        (found, _) => panic!("{found:?}"),
                    }
                }
            }
            true
        });
    }
}
