//! An index changed by another thread during extraction: the old rows, or an error.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, Once};
use std::time::{Duration, SystemTime};

use crate::support::metadata_pickles::Shape;
use crate::support::*;
use hnsw_toolbox::{
    extract_index, extract_index_to_columnar, ColumnarOptions, ErrorKind, ExtractSummary, IoMode,
    MetadataFrom, Monitor, Result, Salvage, VectorForm,
};

const DIMENSION: u64 = 384;
const COUNT: u64 = 6000;
const OLD: &[u8] = b"the earlier content";

type Change = fn(&Path);

const CHANGES: [(&str, Change); 4] = [
    ("truncated", truncate),
    ("grown", grow),
    ("overwritten", overwrite),
    ("replaced", replace),
];

fn truncate(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn grow(path: &Path) {
    let mut file = File::options().append(true).open(path).unwrap();
    file.write_all(&[0xAB; 100_000]).unwrap();
}

fn overwrite(path: &Path) {
    let mut file = File::options().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    // From end to start, so that the bytes read first are changed last.
    let step = 100_000;
    for at in (0..length.div_ceil(step)).rev() {
        file.seek(SeekFrom::Start(at * step)).unwrap();
        let len = step.min(length - at * step);
        file.write_all(&vec![0x3F; usize::try_from(len).unwrap()])
            .unwrap();
    }
}

fn replace(path: &Path) {
    let other = path.with_extension("other");
    let length = std::fs::metadata(path).unwrap().len();
    std::fs::write(&other, vec![0x3F; usize::try_from(length).unwrap()]).unwrap();
    std::fs::rename(other, path).unwrap();
}

/// The time at which a file is changed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// This long after the extraction was requested.
    FromStart(Duration),
    /// This long after its first report: the files are open and some rows are read.
    FromFirstReport(Duration),
    /// Certainly in the middle: the first report waits for the change.
    AtFirstReport,
}

/// Extracts while another thread changes the file `path`.
fn extract_while(
    dir: &Path,
    output: &Path,
    options: &ColumnarOptions,
    (path, change): (&Path, Change),
    moment: Moment,
) -> Result<ExtractSummary> {
    let (sender, receiver) = sync_channel::<()>(1);
    let (changed, done) = sync_channel::<()>(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            match moment {
                Moment::FromStart(delay) => std::thread::sleep(delay),
                Moment::FromFirstReport(delay) => {
                    // Without a report, the extraction has failed.
                    let _ = receiver.recv();
                    std::thread::sleep(delay);
                }
                Moment::AtFirstReport => {
                    let _ = receiver.recv();
                }
            }
            change(path);
            let _ = changed.send(());
        });
        // Both ends are dropped when the extraction ends, which the thread notices.
        let done = Mutex::new(done);
        let report = move |_| {
            // Only the first report blocks.
            if sender.try_send(()).is_ok() && matches!(moment, Moment::AtFirstReport) {
                let _ = done.lock().unwrap().recv();
            }
        };
        let monitor = Monitor::default().on_progress(&report);
        extract_index_to_columnar(dir, output, options, &monitor)
    })
}

#[test]
fn an_index_changed_meanwhile_gives_the_old_rows_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out");
    for (what, change) in CHANGES {
        for name in ["data_level0.bin", "header.bin"] {
            let mut errors = 0;
            for round in 0..8_u64 {
                let format = FORMATS[usize::from(round % 2 == 0)];
                write_sparse(dir.path(), DIMENSION, COUNT);
                std::fs::write(&output, OLD).unwrap();
                let moment = match round {
                    0 => Moment::AtFirstReport,
                    _ => Moment::FromFirstReport(Duration::from_micros(round * 500)),
                };
                let mut options = columnar_options(format, extract_options(true, IoMode::Read));
                options.row_group_bytes = 1 << 20;
                let path = dir.path().join(name);
                let change = (path.as_path(), change);
                let result = extract_while(dir.path(), &output, &options, change, moment);
                assert_eq!(names(scratch.path()), ["out"], "{what}");
                match result {
                    Ok(summary) => {
                        assert_eq!(summary.emitted, COUNT);
                        let export = read_export(&output, format);
                        assert_eq!(export.rows.len() as u64, COUNT);
                        for row in export.rows {
                            assert!(row.label == 0 && row.vector.iter().all(|bits| *bits == 0));
                        }
                    }
                    Err(error) => {
                        errors += 1;
                        assert!(error.kind() == ErrorKind::InputChanged, "{what}: {error:?}");
                        assert_eq!(std::fs::read(&output).unwrap(), OLD);
                    }
                }
            }
            assert!(errors > 0, "{what}: no change came in the middle");
        }
    }
}

const PICKLE: &str = "index_metadata.pickle";
const LENGTH: &str = "length.bin";

/// An index with ids, sequence numbers, and norms of 1.
struct Joined {
    dir: tempfile::TempDir,
    expected: Vec<Row>,
}

impl Joined {
    fn new() -> Self {
        let index = Synthetic::new(Word::U64, 4, 16, COUNT as usize);
        let dir = index.directory();
        let mut expected = index.rows(true);
        for row in &mut expected {
            let label = row.label as u32;
            row.user_id = Some(metadata_pickles::id(label));
            row.seq_id = Some(metadata_pickles::seq_id(label));
        }
        let joined = Self { dir, expected };
        joined.restore();
        joined
    }

    /// Writes the two files that the tests change.
    fn restore(&self) {
        let dir = self.dir.path();
        crate::support::metadata_pickles::write(
            &dir.join(PICKLE),
            Shape::PythonShared,
            COUNT as u32,
        )
        .unwrap();
        let norms: Vec<u8> = (0..COUNT).flat_map(|_| 1_f32.to_le_bytes()).collect();
        std::fs::write(dir.join(LENGTH), norms).unwrap();
    }

    fn options(&self, format: hnsw_toolbox::ColumnarFormat, io: IoMode) -> ColumnarOptions {
        let mut options = columnar_options(format, extract_options(true, io));
        options.extract.metadata = MetadataFrom::Path(self.dir.path().join(PICKLE));
        options.extract.vectors = VectorForm::Original;
        options.batch_size = 100;
        options.row_group_bytes = 1 << 15;
        options
    }
}

#[test]
fn metadata_or_norms_changed_meanwhile_give_old_rows_or_error() {
    let index = Joined::new();
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out");
    for (what, change) in CHANGES {
        for name in [PICKLE, LENGTH] {
            let path = index.dir.path().join(name);
            let mut errors = 0;
            for round in 0..16_u64 {
                let format = FORMATS[usize::from(round % 2 == 0)];
                index.restore();
                std::fs::write(&output, OLD).unwrap();
                let mut options = index.options(format, IoMode::Read);
                if round % 4 >= 2 {
                    // Salvage tolerates damaged metadata, but not changed metadata.
                    options.extract.salvage = Some(Salvage::default());
                }
                let salvages_metadata = options.extract.salvage.is_some() && name == PICKLE;
                let moment = match round {
                    0 | 2 => Moment::AtFirstReport,
                    // The pickle is read before the first report. Norms changed before they are
                    // opened are valid.
                    _ if round >= 8 && name == PICKLE => {
                        Moment::FromStart(Duration::from_millis(2 * (round - 8)))
                    }
                    _ => Moment::FromFirstReport(Duration::from_micros(round * 300)),
                };
                let context = format!("{name}, {what}, round {round}");
                let dir = index.dir.path();
                let result = extract_while(dir, &output, &options, (&path, change), moment);
                assert_eq!(names(scratch.path()), ["out"], "{context}");
                match result {
                    Ok(summary) => {
                        let found = read_export(&output, format).rows;
                        let metadata_error = summary.salvage.and_then(|it| it.metadata_error);
                        if let Some(error) = metadata_error {
                            // It was already damaged when opened.
                            assert!(salvages_metadata, "{context}: {error}");
                            let mut expected = index.expected.clone();
                            for row in &mut expected {
                                (row.user_id, row.seq_id) = (None, None);
                            }
                            assert_same_rows(&found, &expected, &context);
                        } else {
                            assert_same_rows(&found, &index.expected, &context);
                        }
                    }
                    Err(error) => {
                        errors += 1;
                        let explained = matches!(
                            error.kind(),
                            ErrorKind::InputChanged | ErrorKind::CorruptMetadata
                        );
                        assert!(explained, "{context}: {error:?}");
                        assert_eq!(error.path(), Some(&*path), "{context}: {error:?}");
                        assert_eq!(std::fs::read(&output).unwrap(), OLD);
                    }
                }
            }
            assert!(errors > 1, "{name}, {what}: no change came in the middle");
        }
    }
}

#[test]
fn changed_metadata_and_norms_are_noticed_mapped_or_read() {
    let changes: [(&str, Change); 3] = [
        ("modification time", |path| {
            let file = File::options().append(true).open(path).unwrap();
            let later = SystemTime::now() + Duration::from_secs(10);
            file.set_modified(later).unwrap();
        }),
        ("size", |path| {
            let modified = std::fs::metadata(path).unwrap().modified().unwrap();
            let mut file = File::options().append(true).open(path).unwrap();
            file.write_all(b".").unwrap();
            file.set_modified(modified).unwrap();
        }),
        ("another file", replace),
    ];
    let index = Joined::new();
    let dir = index.dir.path();
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out");
    std::fs::write(&output, OLD).unwrap();
    for io in IO_MODES {
        for name in [PICKLE, LENGTH] {
            let path = dir.join(name);
            let assert_noticed = |result: Result<ExtractSummary>, what: &str| {
                let error = result.unwrap_err();
                let found = (error.kind(), error.path());
                let expected = (ErrorKind::InputChanged, Some(&*path));
                assert_eq!(found, expected, "{name}, {what}, {io}: {error:?}");
                index.restore();
            };
            for (what, change) in changes {
                for format in FORMATS {
                    let options = index.options(format, io);
                    let change = (path.as_path(), change);
                    let moment = Moment::AtFirstReport;
                    let result = extract_while(dir, &output, &options, change, moment);
                    assert_noticed(result, what);
                    assert_eq!(names(scratch.path()), ["out"]);
                    assert_eq!(std::fs::read(&output).unwrap(), OLD);
                }
                let once = Once::new();
                let options = index.options(FORMATS[0], io).extract;
                let result = extract_index(dir, &options, &Monitor::default(), |_| {
                    once.call_once(|| change(&path));
                    Ok(ControlFlow::Continue(()))
                });
                assert_noticed(result, what);
            }
        }
    }
}
