//! Round trips: extraction returns the written records for any index, options and path.

use std::ops::ControlFlow;
use std::sync::Mutex;

use crate::support::*;
use hnsw_toolbox::{
    extract_index, extract_index_to_columnar, inspect_index, ColumnarFormat, ColumnarOptions,
    Compression, InspectOptions, IoMode, Monitor, Progress,
};
use proptest::prelude::*;

/// Any 32 bits, with a bias towards fragile floats.
fn float_bits() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => any::<u32>(),
        1 => prop::sample::select(vec![
            0x0000_0000, // 0.0
            0x8000_0000, // −0.0
            0x7FC0_0000, // quiet NaN
            0x7F80_0001, // signalling NaN
            0xFFC1_2345, // NaN with sign and payload
            0x7F80_0000, // ∞
            0xFF80_0000, // −∞
            0x0000_0001, // smallest subnormal
            0x807F_FFFF, // largest negative subnormal
        ]),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Deletion {
    Nothing,
    All,
    Every(usize),
    First(usize),
    Last(usize),
    Random(u64),
}

impl Deletion {
    fn holds(self, at: usize, count: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Every(step) => at.is_multiple_of(step),
            Self::First(most) => at < most,
            Self::Last(most) => at + most >= count,
            Self::Random(seed) => Random(seed ^ at as u64).next().is_multiple_of(2),
        }
    }
}

fn deletion() -> impl Strategy<Value = Deletion> {
    prop_oneof![
        Just(Deletion::Nothing),
        Just(Deletion::All),
        (2..9_usize).prop_map(Deletion::Every),
        (1..300_usize).prop_map(Deletion::First),
        (1..300_usize).prop_map(Deletion::Last),
        any::<u64>().prop_map(Deletion::Random),
    ]
}

fn index() -> impl Strategy<Value = Synthetic> {
    let word = prop_oneof![Just(Word::U32), Just(Word::U64)];
    (word, 1..=24_u64, 1..=40_usize, 0..=300_usize).prop_flat_map(|(word, m, dimension, count)| {
        let label = match word {
            Word::U32 => any::<u32>().prop_map(u64::from).boxed(),
            Word::U64 => any::<u64>().boxed(),
        };
        (
            prop::collection::vec(float_bits(), dimension * count),
            prop::collection::vec(label, count),
            deletion(),
            prop::collection::vec(any::<u8>(), 0..200),
        )
            .prop_map(move |(bits, labels, deletion, trailing)| {
                let elements = labels.into_iter().enumerate().map(|(at, label)| Element {
                    label,
                    deleted: deletion.holds(at, count),
                    vector: bits
                        .iter()
                        .copied()
                        .skip(at * dimension)
                        .take(dimension)
                        .collect(),
                });
                Synthetic {
                    trailing,
                    ..Synthetic::of(word, m, dimension, elements.collect())
                }
            })
    })
}

fn columnar(format: ColumnarFormat) -> impl Strategy<Value = ColumnarOptions> {
    let compression = match format {
        ColumnarFormat::Parquet => prop_oneof![
            Just(Compression::None),
            Just(Compression::Snappy),
            Just(Compression::Zstd)
        ]
        .boxed(),
        _ => Just(Compression::None).boxed(),
    };
    let batch_size = prop_oneof![1..=8_usize, 9..=400_usize, Just(1_usize << 20)];
    let row_group_bytes = prop_oneof![1..=2000_u64, Just(64_u64 << 20), Just(u64::MAX)];
    (
        batch_size,
        row_group_bytes,
        compression,
        any::<bool>(),
        prop::sample::select(IO_MODES.to_vec()),
    )
        .prop_map(
            move |(batch_size, row_group_bytes, compression, include_deleted, io)| {
                columnar_options(format, extract_options(include_deleted, io))
                    .with_batch_size(batch_size)
                    .with_row_group_bytes(row_group_bytes)
                    .with_compression(compression)
            },
        )
}

/// Removes the output, so that an earlier case's file cannot pass for this one's.
fn extract_and_compare(index: &Synthetic, options: &ColumnarOptions) -> Export {
    let dir = index.directory();
    let include_deleted = options.extract.include_deleted;
    let expected = index.rows(include_deleted);
    let (summary, export) = rows_by_file(dir.path(), dir.path(), options).unwrap();
    assert_same_rows(&export.rows, &expected, "columnar");
    let scanned = index.elements.len();
    assert_eq!(summary.scanned, scanned as u64);
    assert_eq!(summary.emitted, expected.len() as u64);
    assert_eq!(summary.deleted_skipped, (scanned - expected.len()) as u64);
    let properties = &summary.index_properties;
    assert_eq!(
        u64::from(properties.word_size_bytes),
        index.header.word.size()
    );
    assert_eq!(properties.m, index.header.m);
    assert_eq!(properties.max_elements, index.header.max_elements);
    assert!(export.largest_page <= options.batch_size);
    export
}

proptest! {
    #![proptest_config(proptest_config(40))]

    #[test]
    fn a_callback_gets_the_records_bit_for_bit_mapped_or_read(
        index in index(),
        include_deleted: bool,
    ) {
        let dir = index.directory();
        for io in IO_MODES {
            let options = extract_options(include_deleted, io);
            let (summary, rows) = rows_by_callback(dir.path(), &options).unwrap();
            assert_same_rows(&rows, &index.rows(include_deleted), "callback");
            prop_assert_eq!(summary.scanned, index.elements.len() as u64);
            prop_assert_eq!(summary.emitted, rows.len() as u64);
            prop_assert_eq!(summary.dimension as u64 * 4,
                index.header.label_offset - index.header.offset_data);
        }
    }

    #[test]
    fn parquet_holds_exact_records_in_row_groups_of_the_given_size(
        index in index(),
        options in columnar(ColumnarFormat::Parquet),
    ) {
        let export = extract_and_compare(&index, &options);
        let vector_bytes = index.header.label_offset - index.header.offset_data;
        let full = (options.row_group_bytes / vector_bytes).max(1);
        if let Some((last, before)) = export.groups.split_last() {
            prop_assert!(before.iter().all(|&rows| rows as u64 == full));
            prop_assert!(*last as u64 <= full);
        }
    }

    #[test]
    fn arrow_ipc_holds_exact_records_in_batches_of_the_given_size(
        index in index(),
        options in columnar(ColumnarFormat::ArrowIpc),
    ) {
        let export = extract_and_compare(&index, &options);
        if let Some((last, before)) = export.groups.split_last() {
            prop_assert!(before.iter().all(|&rows| rows == options.batch_size));
            prop_assert!(*last <= options.batch_size);
        }
    }

    #[test]
    fn mapped_and_read_files_are_the_same_bytes(
        index in index(),
        options in columnar(ColumnarFormat::Parquet),
    ) {
        let dir = index.directory();
        let mut files = Vec::new();
        for io in IO_MODES {
            let mut options = options.clone();
            options.extract.io = io;
            rows_by_file(dir.path(), dir.path(), &options).unwrap();
            files.push(std::fs::read(dir.path().join("out.parquet")).unwrap());
        }
        prop_assert!(files.iter().all(|file| file == &files[0]));
    }

    #[test]
    fn stopping_after_any_record_counts_the_records_delivered(
        index in index(),
        after in 0..300_usize,
    ) {
        let dir = index.directory();
        let expected = index.rows(false);
        prop_assume!(after < expected.len());
        let mut seen = Vec::new();
        let options = extract_options(false, IO_MODES[0]);
        let summary = extract_index(dir.path(), &options, &Monitor::default(), |record| {
            seen.push(record.internal_id);
            Ok(if seen.len() > after {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })
        .unwrap();
        let handed_out = expected.iter().map(|row| row.internal_id);
        prop_assert!(handed_out.take(after + 1).eq(seen.iter().copied()));
        prop_assert_eq!(summary.emitted, after as u64 + 1);
        prop_assert_eq!(summary.scanned, seen.last().unwrap() + 1);
        prop_assert_eq!(summary.deleted_skipped, summary.scanned - summary.emitted);
    }

    #[test]
    fn progress_is_monotonic_and_ends_with_all_records(
        index in index(),
        parquet in columnar(ColumnarFormat::Parquet),
        ipc in columnar(ColumnarFormat::ArrowIpc),
    ) {
        let dir = index.directory();
        let total = index.elements.len() as u64;
        let ends_well = |run: &dyn Fn(&Monitor<'_>)| {
            let reports = Mutex::new(Vec::new());
            run(&Monitor::default().on_progress(&|progress| {
                reports.lock().unwrap().push(progress);
            }));
            let reports = reports.into_inner().unwrap();
            reports.is_sorted_by_key(|progress| progress.done)
                && reports.iter().all(|progress| progress.total == total)
                && reports.last().is_some_and(|progress| progress.done == total)
        };
        let output = dir.path().join("out");
        for options in [&parquet, &ipc] {
            let holds = ends_well(&|monitor| {
                extract_index_to_columnar(dir.path(), &output, options, monitor).unwrap();
            });
            prop_assert!(holds, "{:?}", options);
        }
        let callback = ends_well(&|monitor| {
            let go_on = |_: hnsw_toolbox::Record<'_>| Ok(ControlFlow::Continue(()));
            extract_index(dir.path(), &parquet.extract, monitor, go_on).unwrap();
        });
        prop_assert!(callback, "callback");
    }

    #[test]
    fn inspect_counts_the_written_records(index in index()) {
        let dir = index.directory();
        let live: Vec<u64> = index
            .elements
            .iter()
            .filter(|element| !element.deleted)
            .map(|element| element.label)
            .collect();
        let mut distinct = live.clone();
        distinct.sort_unstable();
        distinct.dedup();
        for io in IO_MODES {
            let options = InspectOptions::default().with_io(io);
            let report = inspect_index(dir.path(), &options, &Monitor::default()).unwrap();
            prop_assert_eq!(report.live, live.len() as u64);
            prop_assert_eq!(report.deleted, (index.elements.len() - live.len()) as u64);
            prop_assert_eq!(report.labels.map(|range| range.min), distinct.first().copied());
            prop_assert_eq!(report.labels.map(|range| range.max), distinct.last().copied());
            prop_assert_eq!(report.duplicate_labels, (live.len() - distinct.len()) as u64);
        }
    }

    #[test]
    fn inspect_finds_labels_that_live_records_share(
        labels in prop::collection::vec(0..60_u64, 1..100),
        far: bool,
    ) {
        // Sparse labels are counted by another method than dense ones.
        let elements = labels.iter().map(|&label| Element {
            label: if far { label << 50 } else { label + 1 },
            deleted: label % 7 == 0,
            vector: vec![0; 2],
        });
        let dir = Synthetic::of(Word::U64, 2, 2, elements.collect()).directory();
        let mut live = labels.clone();
        live.retain(|label| label % 7 != 0);
        let mut distinct = live.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let report =
            inspect_index(dir.path(), &InspectOptions::default(), &Monitor::default()).unwrap();
        prop_assert_eq!(report.duplicate_labels, (live.len() - distinct.len()) as u64);
    }
}

#[test]
fn an_index_of_many_windows_is_extracted_completely() {
    // Windows are not multiples of records, and the file fills several.
    let index = Synthetic::new(Word::U64, 16, 301, 9_000);
    let dir = index.directory();
    for io in IO_MODES {
        for include_deleted in [false, true] {
            let extract = extract_options(include_deleted, io);
            let expected = index.rows(include_deleted);
            let (_, rows) = rows_by_callback(dir.path(), &extract).unwrap();
            assert_same_rows(&rows, &expected, "callback");
            for format in FORMATS {
                let options = columnar_options(format, extract.clone());
                let (_, export) = rows_by_file(dir.path(), dir.path(), &options).unwrap();
                assert_same_rows(&export.rows, &expected, format.name());
            }
        }
    }
}

#[test]
fn progress_advances_in_small_steps_within_a_row_group() {
    let count = 20_000;
    for dimension in [1, 300] {
        let dir = tempfile::tempdir().unwrap();
        write_sparse(dir.path(), dimension, count);
        let reports = Mutex::new(Vec::new());
        let report = |progress: Progress| reports.lock().unwrap().push(progress);
        let mut options =
            columnar_options(ColumnarFormat::Parquet, extract_options(true, IoMode::Read));
        options.batch_size = 400;
        let output = dir.path().join("out.parquet");
        let monitor = Monitor::default().on_progress(&report);
        extract_index_to_columnar(dir.path(), &output, &options, &monitor).unwrap();
        // One row group, with 50 pages in each column.
        assert_eq!(
            read_export(&output, ColumnarFormat::Parquet).groups,
            [20_000]
        );
        let mut before = 0;
        for progress in reports.into_inner().unwrap() {
            assert_eq!(progress.total, count);
            let step = progress.done.checked_sub(before).unwrap();
            assert!(
                step <= count / 50,
                "{dimension}: from {before}, {step} rows"
            );
            before = progress.done;
        }
        assert_eq!(before, count);
    }
}
