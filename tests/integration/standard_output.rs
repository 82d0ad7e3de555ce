//! `-o -`: records as an Arrow IPC stream on standard output.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::table::{read_arrow, read_arrow_stream};
use crate::support::*;

/// The end-of-stream marker.
const END: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];

/// The bytes in front of a file's messages.
const FILE_START: &[u8; 8] = b"ARROW1\0\0";

fn run(arguments: &[&dyn AsRef<OsStr>]) -> Output {
    let mut command = Command::new(BINARY);
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    command.output().unwrap()
}

/// Asserts a failure explained on standard error alone, and returns the explanation.
#[track_caller]
fn refusal(output: &Output, status: i32) -> String {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{error}");
    assert!(output.stdout.is_empty());
    error
}

/// Runs a command with `-o FILE` and with `-o -`, and asserts that both write the same messages.
/// Returns the second's standard error.
#[track_caller]
fn assert_stream_is_file(arguments: &[&dyn AsRef<OsStr>]) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("out.arrow");
    let to_file = run(&[arguments, &[&"-o", &path]].concat());
    assert_eq!(to_file.status.code(), Some(0));
    let file = std::fs::read(&path).unwrap();

    let output = run(&[arguments, &[&"-o", &"-"]].concat());
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{words}");
    let stream = output.stdout;
    assert!(stream.ends_with(&END));
    let messages = file.strip_prefix(FILE_START).unwrap();
    assert!(messages.starts_with(&stream));
    assert_eq!(read_arrow_stream(&stream), read_arrow(&path));
    words
}

#[test]
fn a_stream_of_an_index_has_the_messages_of_its_file() {
    for case in fixtures() {
        let segment = case.join("segment");
        assert_stream_is_file(&[&"extract", &segment]);
        assert_stream_is_file(&[
            &"extract",
            &segment,
            &"--batch-size=100",
            &"--include-deleted",
            &"--no-metadata",
            &"--io=read",
        ]);
    }
    let empty = Synthetic::new(Word::U64, 4, 4, 0).directory();
    assert_stream_is_file(&[&"extract", &empty.path(), &"--format=arrow_ipc"]);
}

#[test]
fn the_summary_of_a_stream_goes_to_standard_error() {
    let segment = fixtures_root().join("1.5.9/churn/segment");
    let words = assert_stream_is_file(&[&"extract", &segment]);
    for part in ["standard output", "960 rows", "180 deleted"] {
        assert!(words.contains(part), "{words}");
    }
    let words = assert_stream_is_file(&[&"extract", &segment, &"--quiet"]);
    assert_eq!(words, "");
}

#[test]
fn a_graph_is_built_of_a_stream() {
    let scratch = tempfile::tempdir().unwrap();
    let segment = fixtures_root().join("1.5.9/ip/segment");
    let stream = run(&[&"extract", &segment, &"-o", &"-"]).stdout;
    let path = scratch.path().join("in.arrows");
    std::fs::write(&path, stream).unwrap();
    let index = scratch.path().join("out.hnsw");
    let output = run(&[&"build", &path, &"-o", &index]);
    assert_eq!(output.status.code(), Some(0));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("2054 vectors"), "{printed}");
}

#[cfg(feature = "database")]
#[test]
fn a_stream_of_a_collection_has_the_messages_of_its_file() {
    use crate::support::persist::{PersistFixture, PERSIST_FIXTURES};

    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        let dir = fixture.dir();
        for collection in fixture.collections() {
            let name = collection["name"].as_str().unwrap();
            let database = collection["database"].as_str().unwrap();
            let arguments: [&dyn AsRef<OsStr>; 6] = [
                &"export",
                &dir,
                &"--collection",
                &name,
                &"--database",
                &database,
            ];
            let words = assert_stream_is_file(&arguments);
            let rows = collection["records"].as_array().unwrap().len();
            let expected = format!("standard output: {rows} rows of \"{name}\"");
            assert!(words.contains(&expected), "{words}");
            let columns: [&dyn AsRef<OsStr>; 2] = [&"--metadata=columns", &"--index-columns"];
            assert_stream_is_file(&[&arguments[..], &columns].concat());
        }
        let error = refusal(&run(&[&"export", &dir, &"-o", &"-"]), 2);
        assert!(error.contains("--collection: found "), "{error}");
        assert!(error.contains("expected one collection"), "{error}");
    }
}

#[test]
fn impossible_streams_are_wrong_usage() {
    let segment = fixtures_root().join("1.5.9/ip/segment");
    for (option, words) in [
        ("--format=parquet", "--format: found parquet"),
        ("--json", "--json: found with -o -"),
        ("--compression=zstd", "--compression: found zstd"),
        ("--batch-size=0", "--batch-size: found 0"),
    ] {
        let error = refusal(&run(&[&"extract", &segment, &"-o", &"-", &option]), 2);
        assert!(error.contains(words), "{error}");
    }
    // A file named `-` can still be written.
    let scratch = tempfile::tempdir().unwrap();
    let output = Command::new(BINARY)
        .current_dir(scratch.path())
        .arg("extract")
        .arg(segment)
        .args(["-o", "./-", "--format=parquet", "--json"])
        .output();
    assert!(output.unwrap().status.success());
    assert_eq!(names(scratch.path()), ["-"]);
}

#[test]
fn an_unreadable_index_gives_no_stream() {
    let scratch = tempfile::tempdir().unwrap();
    let error = refusal(&run(&[&"extract", &scratch.path(), &"-o", &"-"]), 1);
    assert!(error.contains("header.bin"), "{error}");
}

#[cfg(unix)]
mod unix {
    use std::io::{Read, Write};
    use std::process::{Child, ChildStdout, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// Starts a stream of `count` vectors, reads its first bytes and leaves the pipe full.
    fn start(dir: &Path, count: u64) -> (Child, ChildStdout) {
        write_sparse(dir, 384, count);
        let mut child = Command::new(BINARY)
            .arg("extract")
            .arg(dir)
            .args(["-o", "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stream = child.stdout.take().unwrap();
        stream.read_exact(&mut [0; 10]).unwrap();
        (child, stream)
    }

    fn interrupt(child: &Child) {
        let pid = child.id().to_string();
        assert!(Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success());
    }

    #[test]
    fn a_closed_pipe_ends_a_stream_silently() {
        let dir = tempfile::tempdir().unwrap();
        let (child, stream) = start(dir.path(), 10_000);
        drop(stream);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stderr.is_empty());
    }

    #[test]
    fn an_interrupt_ends_a_stream_with_any_reader() {
        let dir = tempfile::tempdir().unwrap();
        for reader in ["waits", "reads", "goes"] {
            let (child, mut stream) = start(dir.path(), 10_000_000);
            let started = Instant::now();
            interrupt(&child);
            let kept = match reader {
                "waits" => Some(stream),
                "reads" => {
                    std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
                    None
                }
                _ => None,
            };
            let output = child.wait_with_output().unwrap();
            let error = refusal(&output, 130);
            assert_eq!(error, "hnsw-toolbox: cancelled\n", "{reader}");
            assert!(started.elapsed() < Duration::from_secs(20), "{reader}");
            drop(kept);
        }
    }

    #[test]
    fn a_stream_of_a_modified_index_has_no_end_marker_and_status_1() {
        let dir = tempfile::tempdir().unwrap();
        let (child, mut stream) = start(dir.path(), 10_000);
        std::fs::File::options()
            .append(true)
            .open(dir.path().join("data_level0.bin"))
            .unwrap()
            .write_all(b"more")
            .unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.len() > 10_000 * 384 * 4);
        assert!(!rest.ends_with(&END));
        let error = refusal(&child.wait_with_output().unwrap(), 1);
        assert!(error.contains("data_level0.bin: changed while"), "{error}");
    }

    #[test]
    fn an_unwritable_stream_gives_status_1() {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = Command::new(BINARY)
            .arg("extract")
            .arg(fixtures_root().join("1.5.9/ip/segment"))
            .args(["-o", "-"])
            .stdout(full)
            .output()
            .unwrap();
        let error = refusal(&output, 1);
        assert!(error.contains("standard output: "), "{error}");
    }
}

/// Runs a command in a terminal with a variable set. Returns its exit status and everything the
/// terminal shows, or `None` if the command `script` is missing.
#[cfg(target_os = "linux")]
pub(crate) fn in_terminal(
    arguments: &str,
    variable: Option<&str>,
) -> Option<(Option<i32>, String)> {
    let mut command = Command::new("script");
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    if let Some(variable) = variable {
        command.env(variable, "1");
    }
    let output = command
        .args(["--quiet", "--return", "--command"])
        .arg(format!("'{BINARY}' {arguments}"))
        .arg("/dev/null")
        .stdin(std::process::Stdio::null())
        .output()
        .ok()?;
    Some((
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    ))
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_no_stream() {
    let segment = fixtures_root().join("1.5.9/ip/segment");
    let arguments = format!("extract '{}' -o -", segment.display());
    let Some((status, shown)) = in_terminal(&arguments, None) else {
        return;
    };
    assert_eq!(status, Some(2), "{shown}");
    assert!(shown.contains("which is a terminal"), "{shown}");
    assert!(!shown.contains('\0'));
}
