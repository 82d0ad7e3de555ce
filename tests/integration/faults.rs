//! Failing machines: a clear error, an untouched earlier output, and no files left behind.
//!
//! `cli.rs` has the tests of a kill and of a full disk if the shell ignores the signal.
#![cfg(target_os = "linux")]

use std::os::unix::fs::{symlink, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::*;
use hnsw_toolbox::{
    verify_index, Error, ErrorKind, ExtractOptions, IndexState, IoMode, MetadataFrom, Monitor,
    Salvage, VectorForm, VerifyOptions,
};

const OLD: &[u8] = b"the earlier content";

/// Asserts an error with an explanation, and returns it.
#[track_caller]
fn words(output: &Output) -> String {
    words_of(output, 1)
}

/// The same with a given exit status.
#[track_caller]
fn words_of(output: &Output, status: i32) -> String {
    let words = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{words}");
    assert!(output.stdout.is_empty());
    assert!(
        words.starts_with("hnsw-toolbox: ") && !words.contains("panicked"),
        "{words}"
    );
    words
}

#[test]
fn a_limit_on_file_sizes_is_an_error_not_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    write_sparse(dir.path(), 384, 10_000);
    let scratch = tempfile::tempdir().unwrap();
    for (name, blocks) in [
        ("out.parquet", "0"),
        ("out.parquet", "2000"),
        ("out.arrow", "2000"),
    ] {
        let path = scratch.path().join(name);
        std::fs::write(&path, OLD).unwrap();
        let output = Command::new("sh")
            .args(["-c", "ulimit -f \"$1\"; shift; exec \"$@\"", "sh", blocks])
            .arg(BINARY)
            .arg("extract")
            .arg(dir.path())
            .arg("-o")
            .arg(&path)
            .output()
            .unwrap();
        let words = words(&output);
        assert!(
            words.contains(name) && words.contains("cannot write"),
            "{words}"
        );
        assert_eq!(names(scratch.path()), [name]);
        assert_eq!(std::fs::read(&path).unwrap(), OLD);
        std::fs::remove_file(path).unwrap();
    }
}

/// A directory that any user can enter, with the command in it.
pub(crate) fn shared_directory() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = dir.path().join("command");
    // Copied by another process. A child forked by another thread would inherit this process's open
    // write handle, and the system refuses to execute a file that is open for writing.
    let copied = Command::new("cp").arg(BINARY).arg(&binary).status();
    assert!(copied.unwrap().success());
    (dir, binary)
}

/// A user to whom permissions apply.
pub(crate) fn as_plain_user(command: &mut Command) -> &mut Command {
    let id = Command::new("id").arg("-u").output().unwrap();
    match id.stdout.as_slice() {
        b"0\n" => command.uid(65534).gid(65534),
        _ => command,
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn unwritable_directories_and_unreadable_files_are_named() {
    let (shared, binary) = shared_directory();
    let index = shared.path().join("index");
    std::fs::create_dir(&index).unwrap();
    Synthetic::new(Word::U64, 4, 4, 10).write(&index);
    let output_dir = shared.path().join("out");
    std::fs::create_dir(&output_dir).unwrap();
    let output = output_dir.join("out.parquet");
    std::fs::write(&output, OLD).unwrap();
    set_mode(&output_dir, 0o555);
    let run = |arguments: &[&Path]| {
        let mut command = Command::new(&binary);
        as_plain_user(command.args(arguments)).output().unwrap()
    };
    let extract = |output: &Path| run(&[Path::new("extract"), &index, Path::new("-o"), output]);

    for target in [output.clone(), output_dir.join("sub/out.parquet")] {
        let words = words(&extract(&target));
        assert!(words.contains("Permission denied"), "{words}");
        assert!(words.contains(output_dir.to_str().unwrap()), "{words}");
    }
    assert_eq!(names(&output_dir), ["out.parquet"]);
    assert_eq!(std::fs::read(&output).unwrap(), OLD);

    set_mode(&output_dir, 0o777);
    for name in ["data_level0.bin", "header.bin"] {
        set_mode(&index.join(name), 0o000);
        for (output, status) in [
            (extract(&output), 1),
            (run(&[Path::new("verify"), &index]), 2),
        ] {
            let words = words_of(&output, status);
            assert!(
                words.contains(name) && words.contains("Permission denied"),
                "{words}"
            );
        }
    }
    set_mode(&index, 0o000);
    let words = words(&extract(&output));
    set_mode(&index, 0o755);
    assert!(words.contains("Permission denied"), "{words}");
    assert_eq!(names(&output_dir), ["out.parquet"]);
    assert_eq!(std::fs::read(&output).unwrap(), OLD);
}

/// A replacement for a file, and its name.
type Placing = (&'static str, fn(&Path));

#[test]
fn special_files_are_rejected_without_blocking() {
    let put: [Placing; 4] = [
        ("a directory", |path| std::fs::create_dir(path).unwrap()),
        ("a pipe", |path| {
            assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        }),
        ("a device", |path| symlink("/dev/zero", path).unwrap()),
        ("a loop", |path| symlink(path, path).unwrap()),
    ];
    for name in [
        "header.bin",
        "data_level0.bin",
        "length.bin",
        "link_lists.bin",
        "index_metadata.pickle",
    ] {
        for (what, put) in put {
            let dir = Synthetic::new(Word::U64, 4, 4, 10).directory();
            let path = dir.path().join(name);
            drop(std::fs::remove_file(&path));
            put(&path);
            for io in IO_MODES {
                let error = verify_index(
                    dir.path(),
                    &VerifyOptions::default().with_io(io),
                    &Monitor::default(),
                )
                .unwrap_err();
                assert_names(&error, &path, what);
                if name == "link_lists.bin" {
                    continue; // never opened
                }
                let options = ExtractOptions::default()
                    .with_metadata(match name {
                        "index_metadata.pickle" => MetadataFrom::Path(path.clone()),
                        _ => MetadataFrom::None,
                    })
                    .with_vectors(VectorForm::Original)
                    .with_io(io);
                let error = rows_by_callback(dir.path(), &options).unwrap_err();
                assert_names(&error, &path, what);
            }
        }
    }
}

#[track_caller]
fn assert_names(error: &Error, expected: &Path, what: &str) {
    assert!(
        matches!(error.kind(), ErrorKind::UnusablePath | ErrorKind::Io),
        "{what}: {error:?}"
    );
    assert_eq!(error.path(), Some(expected), "{what}: {error:?}");
}

#[test]
fn extreme_sizes_and_more_than_2_to_the_32_records_are_reported() {
    let fields: [fn(&mut Header, u64); 10] = [
        |header, value| header.offset_level0 = value,
        |header, value| header.max_elements = value,
        |header, value| header.cur_element_count = value,
        |header, value| header.size_data_per_element = value,
        |header, value| header.label_offset = value,
        |header, value| header.offset_data = value,
        |header, value| header.max_m = value,
        |header, value| header.max_m0 = value,
        |header, value| header.m = value,
        |header, value| header.ef_construction = value,
    ];
    for (word, largest) in [(Word::U32, u64::from(u32::MAX)), (Word::U64, u64::MAX)] {
        let index = Synthetic::new(word, 4, 4, 10);
        let dir = index.directory();
        for (at, set) in fields.iter().enumerate() {
            for value in [
                largest,
                largest - 3,
                largest / 2,
                largest / 2 + 1,
                1 << 31,
                1 << 32,
            ] {
                if value > largest {
                    continue;
                }
                let mut header = index.header.clone();
                set(&mut header, value);
                std::fs::write(dir.path().join("header.bin"), header.bytes()).unwrap();
                let harmless = at == 1 || at == 9;
                for io in IO_MODES {
                    let report = verify_index(
                        dir.path(),
                        &VerifyOptions::default().with_io(io),
                        &Monitor::default(),
                    )
                    .unwrap();
                    // The links of these directories are random, so all are damaged.
                    assert_eq!(report.state == IndexState::BadHeader, !harmless);
                    let strict = rows_by_callback(dir.path(), &extract_options(true, io));
                    assert_eq!(strict.is_ok(), harmless, "field {at}: {value}");
                    let salvage = extract_options(true, io).with_salvage(Salvage::default());
                    if let Ok((_, rows)) = rows_by_callback(dir.path(), &salvage) {
                        assert_same_rows(&rows, &index.rows(true), "salvaged");
                    }
                }
            }
        }
    }

    let mut index = Synthetic::new(Word::U64, 4, 4, 10);
    for count in [1 << 32, (1 << 32) + 10, u64::MAX] {
        index.header.cur_element_count = count;
        index.header.max_elements = count;
        let dir = index.directory();
        let report = verify_index(
            dir.path(),
            &VerifyOptions::default().with_io(IoMode::Read),
            &Monitor::default(),
        )
        .unwrap();
        assert_eq!(report.state, IndexState::BadHeader);
        let first = report.findings[0].first.as_deref().unwrap();
        assert!(first.contains("cur_element_count"), "{first}");
    }
}

/// Runs a command in an address space of `kib` KiB.
fn run_within(kib: u64, arguments: &[&str]) -> Output {
    Command::new("sh")
        .args(["-c", "ulimit -v \"$1\"; shift; exec \"$@\"", "sh"])
        .arg(kib.to_string())
        .arg(BINARY)
        .args(arguments)
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap()
}

/// The smallest address space, in steps, in which the command can print its version.
fn least_address_space(step: u64) -> u64 {
    (1..1000)
        .map(|steps| steps * step)
        .find(|kib| run_within(*kib, &["--version"]).status.success())
        .unwrap()
}

#[test]
fn any_address_space_suffices_or_gives_an_error() {
    const ENOUGH: u64 = 1 << 20;
    let step = extent(4 << 10, 2 << 10);
    let dir = tempfile::tempdir().unwrap();
    Synthetic::new(Word::U64, 8, 32, 3000).write(dir.path());
    let index = dir.path().to_str().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_string();
    let (parquet, arrow) = (path("in.parquet"), path("in.arrow"));
    for (output, more) in [(&parquet, "--compression=zstd"), (&arrow, "--quiet")] {
        let output = run_within(ENOUGH, &["extract", index, "-o", output, more]);
        assert!(output.status.success(), "{output:?}");
    }
    let out = path("out");
    let least = least_address_space(step);
    for arguments in [
        &[
            "extract",
            index,
            "-o",
            &out,
            "--format=parquet",
            "--compression=zstd",
        ][..],
        &[
            "extract",
            index,
            "-o",
            &out,
            "--format=arrow_ipc",
            "--io=read",
        ],
        &["verify", index],
        &["inspect", index],
        &["build", &parquet, "-o", &out, "--threads=2"],
        &["build", &arrow, "-o", &out, "--threads=2", "--io=read"],
    ] {
        let mut errors = 0;
        // Clap needs additional memory to parse a command's arguments.
        let done = (1..200).map(|steps| least + steps * step).find(|kib| {
            let output = run_within(*kib, arguments);
            let error = String::from_utf8_lossy(&output.stderr);
            // verify reports the index's random links as damaged.
            if error.is_empty() && matches!(output.status.code(), Some(0 | 1)) {
                return true;
            }
            errors += 1;
            assert!(
                matches!(output.status.code(), Some(1 | 2)),
                "{arguments:?} within {kib} KiB: {:?}: {error}",
                output.status
            );
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(error.starts_with("hnsw-toolbox: "), "{error}");
            assert!(
                error.contains("out of memory") || error.contains("os error"),
                "{arguments:?} within {kib} KiB: {error}"
            );
            assert!(
                names(scratch.path()).len() <= 3,
                "{:?}",
                names(scratch.path())
            );
            false
        });
        assert!(done.is_some(), "{arguments:?} never succeeds");
        assert!(errors > 0, "{arguments:?} is not limited");
    }
}
