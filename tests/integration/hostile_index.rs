//! Invalid segments and outputs: a precise error, never a panic, and no files left behind.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::support::*;
use hnsw_toolbox::{
    extract_index, extract_index_to_columnar, inspect_index, CancelToken, ColumnarFormat,
    ColumnarOptions, Error, ErrorKind, ExtractOptions, InspectOptions, IoMode, Monitor, Result,
};
use proptest::prelude::*;

const PARQUET: ColumnarFormat = ColumnarFormat::Parquet;

/// Small enough that 300 bytes exceed all its records: 8 of 36 bytes.
fn small_index(word: Word) -> Synthetic {
    Synthetic::new(word, 2, 2, 8)
}

/// The rows by each way of reading, which must agree; or the error, which all must give.
fn extract_each_way(dir: &Path) -> Result<Vec<Row>> {
    let mut outcome: Option<Result<Vec<Row>>> = None;
    for io in IO_MODES {
        let rows = rows_by_callback(dir, &extract_options(true, io)).map(|(_, rows)| rows);
        let inspected = inspect_index(
            dir,
            &InspectOptions::default().with_io(io),
            &Monitor::default(),
        );
        assert_eq!(
            rows.as_ref().err().map(ToString::to_string),
            inspected.err().map(|error| error.to_string())
        );
        if let Some(before) = &outcome {
            match (before, &rows) {
                (Ok(before), Ok(now)) => assert_same_rows(now, before, "mmap, read"),
                (before, now) => assert_eq!(
                    before.as_ref().unwrap_err().to_string(),
                    now.as_ref().unwrap_err().to_string()
                ),
            }
        }
        outcome = Some(rows);
    }
    let outcome = outcome.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let options = columnar_options(format, extract_options(true, IoMode::Mmap));
        match (rows_by_file(dir, scratch.path(), &options), &outcome) {
            (Ok((_, export)), Ok(rows)) => assert_same_rows(&export.rows, rows, format.name()),
            (columnar, callback) => {
                assert_eq!(
                    columnar.unwrap_err().to_string(),
                    callback.as_ref().unwrap_err().to_string()
                );
                assert!(names(scratch.path()).is_empty());
            }
        }
    }
    outcome
}

#[track_caller]
fn assert_corrupt(error: &Error, file: &str, field: &str) {
    assert_eq!(error.kind(), ErrorKind::CorruptIndex, "{error:?}");
    assert!(error.path().unwrap().ends_with(file), "{error}");
    assert_eq!(error.field(), Some(field), "{error}");
}

/// Lengths up to 300 bytes: all of them, or usually every fifth and the special ones.
fn lengths(special: &[usize]) -> impl Iterator<Item = usize> + '_ {
    let step = extent(5, 1);
    (0..=300).filter(move |length| length % step == 0 || special.contains(length))
}

#[test]
fn a_header_of_any_other_length_is_rejected() {
    for word in [Word::U32, Word::U64] {
        let index = small_index(word);
        let dir = index.directory();
        let whole = index.header.bytes();
        for length in lengths(&[60, 95, 96, 97, 99, 100, 101]) {
            let mut bytes = whole.clone();
            bytes.resize(length, 0);
            std::fs::write(dir.path().join("header.bin"), &bytes).unwrap();
            let outcome = extract_each_way(dir.path());
            if length == whole.len() {
                assert_same_rows(&outcome.unwrap(), &index.rows(true), "whole");
            } else if length == 100 || length == 60 {
                // Parsed as the header of the other word size, whose fields it does not hold.
                assert!(matches!(
                    outcome.unwrap_err().kind(),
                    ErrorKind::CorruptIndex | ErrorKind::Unsupported
                ));
            } else {
                let error = outcome.unwrap_err();
                assert_corrupt(&error, "header.bin", "length");
                assert!(error.to_string().contains(&format!("found {length} bytes")));
                let hint = error.to_string().contains("single-file hnswlib");
                assert_eq!(hint, length == 96, "{error}");
            }
        }
    }
}

#[test]
fn level_0_data_of_any_length_is_read_or_rejected_with_a_count() {
    for word in [Word::U32, Word::U64] {
        let index = small_index(word);
        let dir = index.directory();
        let size = index.header.size_data_per_element as usize;
        let mut bytes = index.level0_bytes();
        let whole = bytes.len();
        bytes.resize(301, 0xEE);
        for length in lengths(&[whole - 1, whole, whole + 1]) {
            std::fs::write(dir.path().join("data_level0.bin"), &bytes[..length]).unwrap();
            let outcome = extract_each_way(dir.path());
            if length >= whole {
                assert_same_rows(&outcome.unwrap(), &index.rows(true), "whole");
            } else {
                let error = outcome.unwrap_err();
                assert_corrupt(&error, "data_level0.bin", "length");
                let counted = format!("{} whole records", length / size);
                assert!(error.to_string().contains(&counted), "{error}");
                assert!(error.to_string().contains("8 records"), "{error}");
            }
        }
    }
}

#[test]
fn a_truncated_index_is_rejected_and_trailing_junk_is_ignored() {
    let segment = fixtures_root().join("1.5.9/ip/segment");
    let (_, rows) = rows_by_callback(&segment, &extract_options(true, IoMode::Mmap)).unwrap();
    let (count, size) = (2390, 60);
    let mut bytes = std::fs::read(segment.join("data_level0.bin")).unwrap();
    bytes.resize((count + 2) * size, 0xEE);
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(segment.join("header.bin"), dir.path().join("header.bin")).unwrap();
    for records in [1, 2, 1000, count - 1, count, count + 1] {
        for length in [records * size - 1, records * size, records * size + 1] {
            std::fs::write(dir.path().join("data_level0.bin"), &bytes[..length]).unwrap();
            let outcome = extract_each_way(dir.path());
            if length >= count * size {
                assert_same_rows(
                    &without_metadata(outcome.unwrap()),
                    &without_metadata(rows.clone()),
                    "cut",
                );
            } else {
                assert_corrupt(&outcome.unwrap_err(), "data_level0.bin", "length");
            }
        }
    }
}

fn without_metadata(mut rows: Vec<Row>) -> Vec<Row> {
    for row in &mut rows {
        row.user_id = None;
        row.seq_id = None;
    }
    rows
}

#[test]
fn the_norms_and_the_links_are_not_needed() {
    let index = small_index(Word::U64);
    for name in ["length.bin", "link_lists.bin"] {
        let dir = index.directory();
        for length in [299, 33, 32, 31, 5, 4, 3, 0] {
            std::fs::write(dir.path().join(name), vec![0xFF; length]).unwrap();
            assert_same_rows(
                &extract_each_way(dir.path()).unwrap(),
                &index.rows(true),
                name,
            );
        }
        std::fs::remove_file(dir.path().join(name)).unwrap();
        assert_same_rows(
            &extract_each_way(dir.path()).unwrap(),
            &index.rows(true),
            name,
        );
    }
}

/// Each field with values that contradict other fields.
type Damage = (&'static str, fn(&mut Header));

const DAMAGES: &[Damage] = &[
    ("offset_level0", |header| header.offset_level0 = 4),
    ("m", |header| header.m = 0),
    ("max_m", |header| header.m = 3),
    ("max_m", |header| header.max_m = 0),
    ("max_m", |header| header.max_m += 1),
    ("max_m0", |header| header.max_m0 -= 1),
    ("max_m0", |header| header.max_m0 = u64::from(u32::MAX)),
    ("offset_data", |header| header.offset_data = 0),
    ("offset_data", |header| header.offset_data += 4),
    ("label_offset", |header| header.label_offset = 0),
    ("label_offset", |header| header.label_offset += 2),
    ("label_offset", |header| {
        header.label_offset = header.offset_data
    }),
    ("label_offset", |header| {
        header.label_offset = header.offset_data - 4
    }),
    ("label_offset", |header| {
        header.label_offset = u64::from(u32::MAX) - 3
    }),
    ("size_data_per_element", |header| {
        header.size_data_per_element = 0
    }),
    ("size_data_per_element", |header| {
        header.size_data_per_element -= 1
    }),
    ("size_data_per_element", |header| {
        header.size_data_per_element += 4
    }),
    ("size_data_per_element", |header| header.label_offset += 4),
    ("cur_element_count", |header| {
        header.cur_element_count = header.max_elements + 1
    }),
    ("cur_element_count", |header| header.max_elements = 1),
    ("mult", |header| header.mult = 0.0),
    ("mult", |header| header.mult = -header.mult),
    ("mult", |header| header.mult *= 1.0 + 1e-6),
    ("mult", |header| header.mult = f64::NAN),
    ("mult", |header| header.mult = f64::INFINITY),
    ("max_level", |header| header.max_level = -1),
    ("max_level", |header| header.max_level = i32::MIN),
    ("max_level", |header| header.cur_element_count = 0),
    ("enterpoint_node", |header| {
        header.enterpoint_node = u32::MAX
    }),
    ("enterpoint_node", |header| header.enterpoint_node = 8),
    ("enterpoint_node", |header| {
        header.cur_element_count = 0;
        header.max_level = -1;
    }),
];

/// A small index with a damaged header.
fn damaged(word: Word, damage: fn(&mut Header)) -> tempfile::TempDir {
    let mut index = small_index(word);
    let dir = index.directory();
    damage(&mut index.header);
    std::fs::write(dir.path().join("header.bin"), index.header.bytes()).unwrap();
    dir
}

#[test]
fn each_wrong_header_field_is_named() {
    for word in [Word::U32, Word::U64] {
        for (field, damage) in DAMAGES {
            let error = extract_each_way(damaged(word, *damage).path()).unwrap_err();
            assert_corrupt(&error, "header.bin", field);
        }
    }
}

#[test]
fn a_64_bit_header_whose_arithmetic_would_overflow_is_refused() {
    let damages: [Damage; 4] = [
        ("max_m0", |header| {
            header.m = u64::MAX;
            header.max_m = u64::MAX;
        }),
        ("offset_data", |header| {
            header.m = u64::MAX / 2;
            header.max_m = header.m;
            header.max_m0 = header.m * 2;
        }),
        ("label_offset", |header| header.label_offset = u64::MAX),
        ("size_data_per_element", |header| {
            header.size_data_per_element = u64::MAX
        }),
    ];
    for (field, damage) in damages {
        let error = extract_each_way(damaged(Word::U64, damage).path()).unwrap_err();
        assert_corrupt(&error, "header.bin", field);
    }
}

#[test]
fn another_persisted_version_is_not_supported() {
    for word in [Word::U32, Word::U64] {
        for version in [0, 2, -1, i32::MAX, i32::MIN] {
            let mut index = small_index(word);
            index.header.persisted_version = version;
            let error = extract_each_way(index.directory().path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert_eq!(error.field(), Some("persisted version"), "{error}");
            assert_eq!(error.found(), Some(&*version.to_string()), "{error}");
        }
    }
}

#[test]
fn more_records_than_internal_ids_are_rejected() {
    let mut index = small_index(Word::U64);
    index.header.cur_element_count = 1 << 32;
    index.header.max_elements = 1 << 32;
    let error = extract_each_way(index.directory().path()).unwrap_err();
    assert_corrupt(&error, "header.bin", "cur_element_count");

    // The maximum is accepted, but the file does not hold that many.
    index.header.cur_element_count -= 1;
    let error = extract_each_way(index.directory().path()).unwrap_err();
    assert_corrupt(&error, "data_level0.bin", "length");
}

#[test]
fn a_huge_dimension_without_records_takes_no_memory() {
    for count in [0, 1] {
        let header = Header::new(Word::U64, 16, 500_000_000, count);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("header.bin"), header.bytes()).unwrap();
        std::fs::write(dir.path().join("data_level0.bin"), [0; 300]).unwrap();
        let outcome = extract_each_way(dir.path());
        if count == 0 {
            assert!(outcome.unwrap().is_empty());
        } else {
            assert_corrupt(&outcome.unwrap_err(), "data_level0.bin", "length");
        }
    }
}

#[test]
fn the_capacity_is_not_compared_with_the_file() {
    let mut index = small_index(Word::U64);
    index.header.max_elements = u64::MAX;
    let rows = extract_each_way(index.directory().path()).unwrap();
    assert_same_rows(&rows, &index.rows(true), "capacity");
}

#[test]
fn reserved_bits_of_the_flags_do_not_delete() {
    let index = small_index(Word::U64);
    let dir = index.directory();
    let size = index.header.size_data_per_element as usize;
    let mut bytes = index.level0_bytes();
    for record in bytes.chunks_mut(size) {
        record[2] |= 0xFE;
        record[3] = 0xFF;
    }
    std::fs::write(dir.path().join("data_level0.bin"), bytes).unwrap();
    let rows = extract_each_way(dir.path()).unwrap();
    assert_same_rows(&rows, &index.rows(true), "flags");
}

proptest! {
    #![proptest_config(proptest_config(256))]

    #[test]
    fn an_overwritten_header_gives_an_error_or_an_answer(
        wide: bool,
        overwritten in prop::collection::vec((0..100_usize, any::<u8>()), 1..4),
        all in prop::option::weighted(0.1, prop::collection::vec(any::<u8>(), 100)),
    ) {
        let index = small_index(if wide { Word::U64 } else { Word::U32 });
        let dir = index.directory();
        let mut bytes = index.header.bytes();
        let length = bytes.len();
        for (at, byte) in overwritten {
            bytes[at % length] = byte;
        }
        if let Some(all) = all {
            bytes[4..].copy_from_slice(&all[4..length]);
        }
        std::fs::write(dir.path().join("header.bin"), bytes).unwrap();
        for io in IO_MODES {
            let rows = rows_by_callback(dir.path(), &extract_options(true, io));
            let options = InspectOptions::default().with_io(io);
            let report = inspect_index(dir.path(), &options, &Monitor::default());
            match (rows, report) {
                (Ok((summary, rows)), Ok(report)) => {
                    prop_assert_eq!(rows.len() as u64, summary.emitted);
                    prop_assert_eq!(report.live + report.deleted, summary.scanned);
                    assert_same_rows(&rows, &index.rows(true)[..rows.len()], "overwritten");
                }
                (rows, report) => prop_assert_eq!(
                    rows.unwrap_err().to_string(),
                    report.unwrap_err().to_string()
                ),
            }
        }
    }
}

#[test]
fn missing_files_are_named() {
    for name in ["header.bin", "data_level0.bin"] {
        let dir = small_index(Word::U64).directory();
        std::fs::remove_file(dir.path().join(name)).unwrap();
        let error = extract_each_way(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
        assert!(error.path().unwrap().ends_with(name), "{error:?}");
        let cause = std::error::Error::source(&error).unwrap();
        let cause = cause.downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(cause.kind(), std::io::ErrorKind::NotFound);
    }
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let error = extract_each_way(&nowhere).unwrap_err();
    let found = (error.kind(), error.path());
    assert_eq!(found, (ErrorKind::Io, Some(&*nowhere)), "{error:?}");
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = extract_each_way(&file).unwrap_err();
    let found = (error.kind(), error.path());
    assert_eq!(found, (ErrorKind::UnusablePath, Some(&*file)), "{error:?}");
}

#[cfg(unix)]
#[test]
fn special_files_and_link_loops_are_rejected_without_blocking() {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    type Obstacle = (&'static str, fn(&Path));
    let obstacles: [Obstacle; 6] = [
        ("a directory", |path| std::fs::create_dir(path).unwrap()),
        ("a pipe", |path| {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        }),
        ("an endless device", |path| {
            symlink("/dev/zero", path).unwrap()
        }),
        ("an empty device", |path| {
            symlink("/dev/null", path).unwrap()
        }),
        ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
        ("a loop", |path| symlink(path, path).unwrap()),
    ];
    for name in ["header.bin", "data_level0.bin"] {
        for (what, put) in obstacles {
            let dir = small_index(Word::U64).directory();
            let path = dir.path().join(name);
            std::fs::remove_file(&path).unwrap();
            put(&path);
            let error = extract_each_way(dir.path()).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::UnusablePath | ErrorKind::Io),
                "{what}: {error:?}"
            );
            assert_eq!(error.path(), Some(&*path), "{what}: {error:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn symbolic_links_to_files_and_directory_are_followed() {
    let index = small_index(Word::U64);
    let real = index.directory();
    let links = tempfile::tempdir().unwrap();
    for name in names(real.path()) {
        std::os::unix::fs::symlink(real.path().join(&name), links.path().join(&name)).unwrap();
    }
    let directory = links.path().join("directory");
    std::os::unix::fs::symlink(real.path(), &directory).unwrap();
    for dir in [links.path(), &directory] {
        assert_same_rows(&extract_each_way(dir).unwrap(), &index.rows(true), "links");
    }
}

#[test]
fn the_error_of_a_callback_is_returned_unchanged() {
    #[derive(Debug, thiserror::Error)]
    #[error("row {0} is one too many")]
    struct TooMany(u64);

    let index = small_index(Word::U64);
    let dir = index.directory();
    let mut seen = 0;
    let options = extract_options(true, IoMode::Mmap);
    let error = extract_index(dir.path(), &options, &Monitor::default(), |record| {
        seen += 1;
        match record.internal_id {
            5 => Err(TooMany(5).into()),
            _ => Ok(ControlFlow::Continue(())),
        }
    })
    .unwrap_err();
    assert_eq!(seen, 6);
    assert_eq!(error.code(), 401);
    let error = error.into_callback().unwrap();
    assert_eq!(error.downcast_ref::<TooMany>().unwrap().0, 5);
}

/// An index of several windows, pages and batches, an existing output, and options with frequent
/// reports.
struct Run {
    dir: tempfile::TempDir,
    out: tempfile::TempDir,
}

impl Run {
    const OLD: &'static [u8] = b"the earlier content";

    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_sparse(dir.path(), 384, 12_000);
        Self {
            dir,
            out: tempfile::tempdir().unwrap(),
        }
    }

    /// Extracts in each format and way of reading, and calls `on_report` at an intermediate report.
    /// Asserts that the earlier output survives the failure.
    fn fail_each_way(&self, io: &[IoMode], on_report: &(dyn Fn(&Path) + Sync)) -> Vec<Error> {
        let mut errors = Vec::new();
        for format in FORMATS {
            for &io in io {
                write_sparse(self.dir.path(), 384, 12_000);
                let output = self.out.path().join("out");
                std::fs::write(&output, Self::OLD).unwrap();
                let options = columnar_options(format, extract_options(true, io));
                let once = std::sync::Once::new();
                let error = extract_index_to_columnar(
                    self.dir.path(),
                    &output,
                    &options,
                    &Monitor::default().on_progress(&|_| {
                        once.call_once(|| {
                            assert_eq!(names(self.out.path()).len(), 2, "a temporary file");
                            on_report(self.dir.path());
                        });
                    }),
                )
                .unwrap_err();
                assert!(once.is_completed());
                self.assert_untouched();
                errors.push(error);
            }
        }
        errors
    }

    fn assert_untouched(&self) {
        assert_eq!(names(self.out.path()), ["out"]);
        assert_eq!(
            std::fs::read(self.out.path().join("out")).unwrap(),
            Self::OLD
        );
    }
}

fn touch(path: &Path) {
    let later = SystemTime::now() + Duration::from_secs(10);
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(later).unwrap();
}

#[test]
fn an_index_modified_while_read_gives_an_error_and_no_output() {
    let run = Run::new();
    for name in ["header.bin", "data_level0.bin"] {
        let changes: [fn(&Path); 3] = [
            touch,
            |path| {
                let length = std::fs::metadata(path).unwrap().len();
                let file = File::options().append(true).open(path).unwrap();
                file.set_len(length + 1).unwrap();
            },
            |path| {
                // Another file with the same name.
                let copy = path.with_extension("copy");
                std::fs::copy(path, &copy).unwrap();
                let modified = std::fs::metadata(path).unwrap().modified().unwrap();
                let file = File::options().append(true).open(&copy).unwrap();
                file.set_modified(modified).unwrap();
                std::fs::rename(copy, path).unwrap();
            },
        ];
        for change in changes {
            for error in run.fail_each_way(&IO_MODES, &|dir| change(&dir.join(name))) {
                assert_eq!(error.kind(), ErrorKind::InputChanged, "{error:?}");
                assert!(error.path().unwrap().ends_with(name), "{error:?}");
            }
        }
    }
}

#[test]
fn an_index_truncated_while_read_gives_an_error_and_no_output() {
    let run = Run::new();
    let cut = |dir: &Path| {
        let file = File::options()
            .append(true)
            .open(dir.join("data_level0.bin"));
        file.unwrap().set_len(1000).unwrap();
    };
    for error in run.fail_each_way(&[IoMode::Read], &cut) {
        assert_eq!(error.kind(), ErrorKind::InputChanged, "{error:?}");
        assert!(
            error.path().unwrap().ends_with("data_level0.bin"),
            "{error:?}"
        );
    }
}

#[test]
fn an_index_modified_during_the_callback_is_reported_at_the_end() {
    let index = small_index(Word::U64);
    let dir = index.directory();
    for io in IO_MODES {
        let mut seen = 0;
        let options = extract_options(true, io);
        let error = extract_index(dir.path(), &options, &Monitor::default(), |_| {
            seen += 1;
            touch(&dir.path().join("data_level0.bin"));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InputChanged, "{error:?}");
        assert_eq!(seen, 8);
    }
}

#[test]
fn a_cancelled_extraction_leaves_only_the_earlier_output() {
    let run = Run::new();
    let output = run.out.path().join("out");
    std::fs::write(&output, Run::OLD).unwrap();
    for format in FORMATS {
        // Before the work, in the middle, and after the last row.
        for at in [0, 5_000, 12_000] {
            let token = CancelToken::new();
            if at == 0 {
                token.cancel();
            }
            let cancel_at = |progress: hnsw_toolbox::Progress| {
                if progress.done >= at {
                    token.cancel();
                }
            };
            let monitor = Monitor::default()
                .with_cancel(&token)
                .on_progress(&cancel_at);
            let options = columnar_options(format, ExtractOptions::default());
            let error =
                extract_index_to_columnar(run.dir.path(), &output, &options, &monitor).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
            run.assert_untouched();
        }
    }
}

#[test]
fn a_cancelled_callback_extraction_and_inspection_stop() {
    let run = Run::new();
    let token = CancelToken::new();
    let monitor = Monitor::default().with_cancel(&token);
    let mut seen = 0_u64;
    let options = ExtractOptions::default();
    let error = extract_index(run.dir.path(), &options, &monitor, |_| {
        seen += 1;
        token.cancel();
        Ok(ControlFlow::Continue(()))
    })
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
    assert!((1..12_000).contains(&seen), "{seen}");
    let error = inspect_index(run.dir.path(), &InspectOptions::default(), &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
}

fn extract_to(dir: &Path, output: &Path, options: &ColumnarOptions) -> Result<()> {
    extract_index_to_columnar(dir, output, options, &Monitor::default()).map(drop)
}

#[test]
fn the_files_of_the_index_are_never_overwritten() {
    let dir = small_index(Word::U64).directory();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let before = extract_each_way(dir.path()).unwrap();
    for name in [
        "header.bin",
        "data_level0.bin",
        "length.bin",
        "link_lists.bin",
        "index_metadata.pickle",
        "sub/../header.bin",
        "HEADER.BIN",
    ] {
        for format in FORMATS {
            let options = columnar_options(format, ExtractOptions::default());
            let error = extract_to(dir.path(), &dir.path().join(name), &options).unwrap_err();
            assert!(error.kind() == ErrorKind::UnusablePath, "{name}: {error:?}");
        }
    }
    #[cfg(unix)]
    {
        let link = dir.path().join("sub/out.parquet");
        std::os::unix::fs::symlink(dir.path().join("header.bin"), &link).unwrap();
        let options = columnar_options(PARQUET, ExtractOptions::default());
        let error = extract_to(dir.path(), &link, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnusablePath, "{error:?}");
    }
    let after = extract_each_way(dir.path()).unwrap();
    assert_same_rows(&after, &before, "index");
}

#[cfg(unix)]
#[test]
fn impossible_outputs_are_errors_that_name_the_path() {
    let dir = small_index(Word::U64).directory();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    std::fs::write(&file, Run::OLD).unwrap();
    let directory = scratch.path().join("directory");
    std::fs::create_dir(&directory).unwrap();
    let dangling = scratch.path().join("dangling");
    std::os::unix::fs::symlink("nowhere/at/all", &dangling).unwrap();
    let looped = scratch.path().join("loop");
    std::os::unix::fs::symlink(&looped, &looped).unwrap();
    let before = names(scratch.path());
    for output in [
        file.join("out.parquet"),
        directory.clone(),
        dangling,
        looped,
        scratch.path().join("x".repeat(300)),
        scratch.path().join(".."),
        "/proc/out.parquet".into(),
        "/proc/sub/out.parquet".into(),
        "/dev/null".into(),
        "/".into(),
        "".into(),
    ] {
        for format in FORMATS {
            let options = columnar_options(format, ExtractOptions::default());
            let error = extract_to(dir.path(), &output, &options).unwrap_err();
            assert!(
                matches!(error.code(), 300 | 301),
                "{}: {error:?}",
                output.display()
            );
        }
    }
    assert_eq!(names(scratch.path()), before);
    assert!(names(&directory).is_empty());
    assert_eq!(std::fs::read(&file).unwrap(), Run::OLD);
}

#[test]
fn missing_parents_are_created_and_earlier_outputs_replaced() {
    let index = small_index(Word::U64);
    let dir = index.directory();
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("deep/er/out.parquet");
    let options = columnar_options(PARQUET, extract_options(true, IoMode::Mmap));
    for _ in 0..2 {
        extract_to(dir.path(), &output, &options).unwrap();
        let export = read_export(&output, PARQUET);
        assert_same_rows(&export.rows, &index.rows(true), "output");
        assert_eq!(names(output.parent().unwrap()), ["out.parquet"]);
        std::fs::write(&output, Run::OLD).unwrap();
    }
}

#[test]
fn options_out_of_range_are_errors_that_name_the_option() {
    let dir = small_index(Word::U64).directory();
    let output = dir.path().join("out");
    let default = ColumnarOptions::default();
    for (field, options) in [
        ("batch_size", default.clone().with_batch_size(0)),
        ("batch_size", default.clone().with_batch_size((1 << 20) + 1)),
        ("batch_size", default.clone().with_batch_size(usize::MAX)),
        ("row_group_bytes", default.clone().with_row_group_bytes(0)),
        (
            "compression",
            default
                .clone()
                .with_format(ColumnarFormat::ArrowIpc)
                .with_compression(hnsw_toolbox::Compression::Zstd),
        ),
    ] {
        let error = extract_to(dir.path(), &output, &options).unwrap_err();
        let found = (error.kind(), error.field());
        assert_eq!(
            found,
            (ErrorKind::InvalidArgument, Some(field)),
            "{error:?}"
        );
        assert!(!output.exists());
    }
}
