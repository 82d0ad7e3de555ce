//! Property: whatever an index directory holds, mapping and reading its files give the same rows or
//! the same kind of error, and an extraction never panics.
//!
//! Input: length of the pickle (u16, 0 for none), length of the header (u8), header, pickle, and
//! the rest as `data_level0.bin`.

#![no_main]

use std::ops::ControlFlow;

use hnsw_toolbox::{extract_index, verify_index, ExtractOptions, IoMode, Monitor, Salvage};
use hnsw_toolbox_fuzz::Directory;
use libfuzzer_sys::fuzz_target;

type Row = (u64, u64, bool, Option<String>, Option<u64>, Vec<u32>);

fn rows(directory: &Directory, options: &ExtractOptions) -> Result<Vec<Row>, u16> {
    let mut rows = Vec::new();
    let summary = extract_index(directory.path(), options, &Monitor::default(), |record| {
        let bits: Vec<u32> = record.vector.iter().map(|value| value.to_bits()).collect();
        rows.push((
            record.internal_id,
            record.label,
            record.deleted,
            record.user_id.map(str::to_string),
            record.seq_id,
            bits,
        ));
        Ok(ControlFlow::Continue(()))
    })
    .map_err(|error| error.code())?;
    assert_eq!(summary.emitted, rows.len() as u64);
    assert!(rows.iter().all(|row| row.5.len() == summary.dimension));
    Ok(rows)
}

fuzz_target!(|bytes: &[u8]| {
    let [low, high, header, rest @ ..] = bytes else {
        return;
    };
    let pickle = usize::from(u16::from_le_bytes([*low, *high]));
    let header = usize::from(*header).min(rest.len());
    let (header, rest) = rest.split_at(header);
    let (pickle, level0) = rest.split_at(pickle.min(rest.len()));

    let directory = Directory::new();
    directory.write("header.bin", header);
    directory.write("data_level0.bin", level0);
    let metadata = (!pickle.is_empty()).then(|| directory.write("index_metadata.pickle", pickle));

    for salvage in [None, Some(Salvage::default())] {
        let mut options = ExtractOptions {
            metadata: metadata.clone(),
            include_deleted: true,
            salvage,
            ..ExtractOptions::default()
        };
        let mapped = rows(&directory, &options);
        options.io = IoMode::Read;
        assert_eq!(mapped, rows(&directory, &options));
    }
    let verified =
        |io| verify_index(directory.path(), io, &Monitor::default()).map_err(|error| error.code());
    assert_eq!(verified(IoMode::Mmap), verified(IoMode::Read));
});
