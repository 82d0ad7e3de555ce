//! `--io read` while another thread changes the index: the answer of before, or an error.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::Mutex;
use std::time::Duration;

use common::*;
use hnsw_toolbox::{extract_index_to_columnar, Error, IoMode, Monitor};

const DIMENSION: u64 = 384;
const COUNT: u64 = 6000;
const OLD: &[u8] = b"what was there before";

type Change = fn(&Path);

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
    // From the end to the start, so that what is read first is changed last.
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

#[test]
fn an_index_that_is_changed_by_another_thread_gives_the_old_rows_or_an_error() {
    let changes: [(&str, Change); 4] = [
        ("truncated", truncate),
        ("grown", grow),
        ("overwritten", overwrite),
        ("replaced", replace),
    ];
    let dir = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out");
    for (what, change) in changes {
        for name in ["data_level0.bin", "header.bin"] {
            let mut errors = 0;
            for round in 0..8_u64 {
                let format = FORMATS[usize::from(round % 2 == 0)];
                write_sparse(dir.path(), DIMENSION, COUNT);
                std::fs::write(&output, OLD).unwrap();
                let path = dir.path().join(name);
                let (sender, receiver) = sync_channel::<()>(1);
                let (changed, done) = sync_channel::<()>(1);
                let writer = std::thread::spawn(move || {
                    // The index is open, and its first rows are read; the others are not yet.
                    receiver.recv().unwrap();
                    std::thread::sleep(Duration::from_micros(round * 500));
                    change(&path);
                    let _ = changed.send(());
                });
                let done = Mutex::new(done);
                let report = |_| {
                    // Only the first report is waited for.
                    if sender.try_send(()).is_ok() && round == 0 {
                        // Once at least, the change is sure to come in the middle.
                        let _ = done.lock().unwrap().recv();
                    }
                };
                let monitor = Monitor::default().reporting_to(&report);
                let mut options = columnar_options(format, extract_options(true, IoMode::Read));
                options.row_group_bytes = 1 << 20;
                let result = extract_index_to_columnar(dir.path(), &output, &options, &monitor);
                writer.join().unwrap();
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
                        assert!(
                            matches!(error, Error::InputChanged { .. }),
                            "{what}: {error:?}"
                        );
                        assert_eq!(std::fs::read(&output).unwrap(), OLD);
                    }
                }
            }
            assert!(errors > 0, "{what}: no change came in the middle");
        }
    }
}
