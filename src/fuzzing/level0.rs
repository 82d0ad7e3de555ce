//! Property: an index is extracted exactly when its header holds in every relation that the format
//! states and its records are there; then each row is what a plain reading of the raw bytes gives.
//!
//! Input: the length of the header (u8), the header, and the rest as `data_level0.bin`.

use zerocopy::IntoBytes;

use super::{assert_same_rows, take, Row};
use crate::chroma::record::{Level0, RecordLayout};
use crate::chroma::IndexHeader;
use crate::Monitor;

/// A `header.bin` that holds in every relation.
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
    let word = match bytes.len() {
        100 => 8,
        60 => 4,
        _ => return None,
    };
    // Words before the two 32-bit fields, and after them.
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

fn expected(header_bytes: &[u8], level0: &[u8]) -> Option<Vec<Row>> {
    let header = header(header_bytes)?;
    if u128::from(header.count) * u128::from(header.record_size) > level0.len() as u128 {
        return None;
    }
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

/// What an extraction gives: how many records it has scanned, and those that it has emitted.
type Extracted = crate::Result<(u64, Vec<Row>)>;

/// Extracts with the parsers alone.
fn extract(header: &[u8], level0: &[u8], include_deleted: bool) -> Extracted {
    // Records are cast in place, from where they are as well aligned as in a file.
    let mut words = vec![0_u64; level0.len().div_ceil(8)];
    let aligned = &mut words.as_mut_bytes()[..level0.len()];
    aligned.copy_from_slice(level0);
    let aligned: &[u8] = aligned;

    let parsed = IndexHeader::read(header).and_then(|header| {
        let layout = RecordLayout::of_header(&header)?;
        layout.check_len(aligned.len() as u64, header.cur_element_count)?;
        Ok(Level0::new(aligned, layout, header.cur_element_count))
    });
    let mut level0 = parsed.map_err(|error| error.in_file("index".as_ref()))?;
    let mut rows = Vec::new();
    level0.for_each(&Monitor::default(), |internal_id, record| {
        let deleted = record.links.is_deleted();
        if include_deleted || !deleted {
            rows.push(Row {
                internal_id,
                label: record.label,
                deleted,
                user_id: None,
                seq_id: None,
                vector: record.vector.iter().map(|value| value.to_bits()).collect(),
            });
        }
        Ok(())
    })?;
    Ok((level0.count(), rows))
}

pub fn property(bytes: &[u8]) -> bool {
    check(bytes, extract)
}

/// Whether `extract` gives what it should: rows of the header, the records, and whether to include
/// deleted ones.
fn check(mut bytes: &[u8], extract: impl Fn(&[u8], &[u8], bool) -> Extracted) -> bool {
    let Some((&header_len, rest)) = bytes.split_first() else {
        return false;
    };
    bytes = rest;
    let header_bytes = take(&mut bytes, header_len);
    let expected = expected(header_bytes, bytes);

    for include_deleted in [false, true] {
        let extracted = extract(header_bytes, bytes, include_deleted);
        match (extracted, expected.clone()) {
            (Ok((scanned, found)), Some(mut expected)) => {
                assert_eq!(scanned, expected.len() as u64);
                expected.retain(|row| include_deleted || !row.deleted);
                assert_same_rows(&found, &expected, "rows");
            }
            (Err(error), None) => assert!(matches!(error.code(), 200 | 203), "{error}"),
            (Ok((scanned, _)), None) => panic!("extracted {scanned} of what does not hold"),
            (Err(error), Some(_)) => panic!("refused what holds: {error}"),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::{replay, rows, Directory};
    use crate::{ExtractOptions, IoMode};

    #[test]
    fn holds_for_seeds_and_regressions() {
        replay("level0", super::property);
    }

    #[test]
    fn holds_for_extractions_from_files() {
        replay("level0", |bytes| {
            [IoMode::Mmap, IoMode::Read].into_iter().all(|io| {
                super::check(bytes, |header, level0, include_deleted| {
                    let directory = Directory::new();
                    directory.write("header.bin", header);
                    directory.write("data_level0.bin", level0);
                    let options = ExtractOptions {
                        include_deleted,
                        ..ExtractOptions::default()
                    };
                    let (summary, rows) = rows(directory.path(), &options, io)?;
                    let skipped = summary.scanned - summary.emitted;
                    assert_eq!(skipped, summary.deleted_skipped);
                    Ok((summary.scanned, rows))
                })
            })
        });
    }
}
