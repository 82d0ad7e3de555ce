//! Errors of the operating system, which must be reported neither as damage nor as success.
#![cfg(unix)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hnsw_toolbox::{repair_index, ErrorKind, Monitor, RepairOptions};

use crate::support::*;

/// Runs the command by a shell line, in which `"$@"` stands for it.
fn run_by(line: &str, arguments: &[&dyn AsRef<OsStr>]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", line, "sh", BINARY]);
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    command.output().unwrap()
}

fn segment(case: &str) -> PathBuf {
    fixtures_root().join(case).join("segment")
}

fn copy_segment(to: &Path) {
    std::fs::create_dir(to).unwrap();
    for name in names(&segment("1.5.9/churn")) {
        std::fs::copy(segment("1.5.9/churn").join(&name), to.join(&name)).unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_closed_standard_output_fails_before_the_work() {
    let scratch = tempfile::tempdir().unwrap();
    let index = segment("1.5.9/churn");
    let out = scratch.path().join("out.parquet");
    let closed = ["exec \"$@\" >&-", "exec \"$@\" 1</dev/null"];
    for line in closed {
        for (arguments, status) in [
            (&[&"extract" as &dyn AsRef<_>, &index, &"-o", &"-"][..], 1),
            (&[&"extract", &index, &"-o", &out], 1),
            (&[&"extract", &index, &"-o", &out, &"--json", &"--quiet"], 1),
            (&[&"inspect", &index], 1),
            (&[&"verify", &index], 2),
            (&[&"completions", &"bash"], 1),
            (&[&"--help"], 1),
            (&[&"extract", &"--frobnicate"], 2),
        ] {
            let output = run_by(line, arguments);
            let words = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(status), "{line}: {words}");
            assert!(!words.is_empty());
            assert!(!out.exists());
        }
    }
    let output = run_by("exec \"$@\" >/dev/null", &[&"inspect", &index]);
    assert_eq!(output.status.code(), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let index = segment("1.5.9/churn");
    let [parquet, graph] = ["v.parquet", "v.hnsw"].map(|name| scratch.path().join(name));
    let done = run_by("exec \"$@\"", &[&"extract", &index, &"-o", &parquet]);
    assert!(done.status.success());
    let done = run_by("exec \"$@\"", &[&"build", &parquet, &"-o", &graph]);
    assert!(done.status.success());
    let search: [&dyn AsRef<OsStr>; 4] = [&"search", &graph, &"--queries", &parquet];
    for arguments in [
        &[&"extract" as &dyn AsRef<_>, &index, &"-o", &"-"][..],
        &[&"inspect", &index],
        &[&"inspect", &graph, &"--json"],
        &[&"recall", &graph, &"--sample", &"10"],
        &search,
        &[&search[..], &[&"--json"]].concat(),
        &[&"completions", &"fish"],
        &[&"--version"],
        &[&"extract", &"--help"],
    ] {
        let output = run_by("exec \"$@\" >/dev/full", arguments);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains("standard output: "), "{words}");
    }
}

#[test]
fn outputs_of_private_files_are_private() {
    let scratch = tempfile::tempdir().unwrap();
    let index = scratch.path().join("index");
    copy_segment(&index);
    let [parquet, graph, answers, new] =
        ["v.parquet", "v.hnsw", "a.arrow", "new"].map(|name| scratch.path().join(name));
    let run = |arguments: &[&dyn AsRef<OsStr>]| {
        let output = run_by("umask 022; exec \"$@\"", arguments);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}");
    };
    type Change = fn(&Path);
    let cases: [(Change, u32, u32); 4] = [
        (|_| {}, 0o644, 0o755),
        (
            |index| set_mode(&index.join("data_level0.bin"), 0o600),
            0o600,
            0o700,
        ),
        (
            |index| set_mode(&index.join("length.bin"), 0o640),
            0o640,
            0o750,
        ),
        (|index| set_mode(index, 0o700), 0o600, 0o700),
    ];
    for (change, file, directory) in cases {
        set_mode(&index, 0o755);
        for name in names(&index) {
            set_mode(&index.join(name), 0o644);
        }
        change(&index);
        run(&[&"extract", &index, &"-o", &parquet]);
        run(&[&"build", &parquet, &"-o", &graph]);
        run(&[&"search", &graph, &"--queries", &parquet, &"-o", &answers]);
        run(&[&"repair", &index, &"-o", &new]);
        for path in [&parquet, &graph, &answers] {
            assert_eq!(mode(path), file, "{path:?}");
            std::fs::remove_file(path).unwrap();
        }
        assert_eq!(mode(&new), directory);
        for name in names(&new) {
            assert_eq!(mode(&new.join(&name)), file, "{name}");
        }
        std::fs::remove_dir_all(&new).unwrap();
    }
    // A replaced file keeps its permissions as far as the inputs grant them.
    for (before, after) in [(0o640, 0o600), (0o666, 0o600), (0o400, 0o400)] {
        std::fs::write(&parquet, b"old").unwrap();
        set_mode(&parquet, before);
        run(&[&"extract", &index, &"-o", &parquet]);
        assert_eq!(mode(&parquet), after);
    }
}

#[test]
fn a_repair_without_ids_or_records_has_its_own_code() {
    let scratch = tempfile::tempdir().unwrap();
    let repair = |index: &Path| {
        let new = scratch.path().join("new");
        repair_index(index, new, &RepairOptions::default(), &Monitor::default()).unwrap_err()
    };
    let index = scratch.path().join("index");
    copy_segment(&index);
    std::fs::remove_file(index.join("index_metadata.pickle")).unwrap();
    let error = repair(&index);
    assert_eq!(error.kind(), ErrorKind::NoIds, "{error}");
    assert_eq!(error.code(), 206);
    let other = fixtures_root().join("1.5.9/l2/segment/index_metadata.pickle");
    std::fs::copy(other, index.join("index_metadata.pickle")).unwrap();
    let path = index.join("data_level0.bin");
    let len = std::fs::metadata(&path).unwrap().len();
    std::fs::write(&path, vec![0; len as usize]).unwrap();
    let error = repair(&index);
    assert_eq!(error.kind(), ErrorKind::NothingToRepair, "{error}");
    assert_eq!(error.code(), 207);
}

#[test]
fn paths_that_are_not_utf_8_work() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join(OsStr::from_bytes(b"caf\xe9\n"));
    std::fs::create_dir(&dir).unwrap();
    let index = dir.join("index");
    copy_segment(&index);
    let [parquet, graph, new] = ["v.parquet", "v.hnsw", "new"].map(|name| dir.join(name));
    let run = |arguments: &[&dyn AsRef<OsStr>], status| {
        let output = run_by("exec \"$@\"", arguments);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&[&"extract", &index, &"-o", &parquet], 0);
    run(&[&"build", &parquet, &"-o", &graph], 0);
    run(&[&"verify", &graph], 0);
    // The printed steps have the intended effect in any shell.
    let printed = run(&[&"repair", &index, &"-o", &new], 0);
    let moves: Vec<_> = printed
        .lines()
        .filter_map(|line| line.split_once(". mv "))
        .collect();
    assert_eq!(moves.len(), 2, "{printed}");
    for (_, paths) in moves {
        let moved = Command::new("sh")
            .args(["-c", &format!("mv {paths}")])
            .status();
        assert!(moved.unwrap().success(), "{paths}");
    }
    assert_eq!(mode(&index) & 0o700, 0o700);
    assert!(!new.exists());
    run(&[&"repair", &index, &"-o", &new, &"--json"], 2);
    assert!(!new.exists());
}

#[cfg(feature = "database")]
mod persist {
    use super::*;
    use crate::faults::{as_plain_user, shared_directory};
    use crate::support::persist::PersistFixture;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_limit_on_open_files_is_an_error_or_has_no_effect() {
        let fixture = PersistFixture::unpack("1.5.9");
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("out.arrow");
        let whole = scratch.path().join("whole.arrow");
        let (dir, index) = (fixture.dir(), fixture.segment("wal_purged"));
        let export: [&dyn AsRef<OsStr>; 4] = [&"export", &dir, &"--collection", &"wal_purged"];
        let sound = run_by("exec \"$@\"", &[&export[..], &[&"-o", &whole]].concat());
        assert_eq!(sound.status.code(), Some(0));
        let whole = std::fs::read(&whole).unwrap();
        let (mut failed, mut done) = (0, 0);
        for limit in (8..=20).step_by(extent(3, 1)) {
            let line = format!("ulimit -n {limit}; exec \"$@\"");
            for (arguments, failure) in [
                (&[&export[..], &[&"-o", &out]].concat()[..], 1),
                (&[&"collections", &dir, &"--json"], 1),
                (
                    &[&"repair", &dir, &"--collection", &"wal_purged", &"-o", &out],
                    1,
                ),
                (&[&"extract", &index, &"-o", &out, &"--salvage"], 1),
                (&[&"repair", &index, &"-o", &out], 1),
                (&[&"verify", &index], 2),
            ] {
                let output = run_by(&line, arguments);
                let words = String::from_utf8_lossy(&output.stderr);
                let verb = arguments[0].as_ref().to_str().unwrap();
                if output.status.code() == Some(failure) {
                    failed += 1;
                    assert!(!out.exists(), "{limit}: {words}");
                    let is_refusal = words.contains("Too many open files")
                        || words.contains("unable to open database file");
                    assert!(is_refusal, "{verb}, {limit}: {words}");
                    continue;
                }
                assert_eq!(output.status.code(), Some(0), "{verb}, {limit}: {words}");
                done += 1;
                if verb == "export" {
                    assert!(std::fs::read(&out).unwrap() == whole, "{limit}");
                }
                if out.is_dir() {
                    std::fs::remove_dir_all(&out).unwrap();
                } else if out.exists() {
                    std::fs::remove_file(&out).unwrap();
                }
            }
        }
        assert!(failed > 0 && done > 0, "{failed} failed, {done} done");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn unreadable_files_are_errors_and_not_damage() {
        let (shared, binary) = shared_directory();
        let fixture = PersistFixture::unpack("1.5.9");
        let dir = shared.path().join("persist");
        let copied = Command::new("cp")
            .arg("-r")
            .args([&fixture.dir(), &dir])
            .status();
        assert!(copied.unwrap().success());
        let index = dir.join(fixture.segment("wal_purged").file_name().unwrap());
        let out = shared.path().join("out");
        let run = |arguments: &[&dyn AsRef<OsStr>]| {
            let mut command = Command::new(&binary);
            for argument in arguments {
                command.arg(argument.as_ref());
            }
            let output = as_plain_user(&mut command).output().unwrap();
            (
                output.status.code(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )
        };
        let files = names(&index).into_iter().map(|name| index.join(name));
        for path in files.chain([index.clone()]) {
            let before = mode(&path);
            set_mode(&path, 0);
            let name = path.file_name().unwrap();
            let mut verbs: Vec<Vec<&dyn AsRef<OsStr>>> = vec![
                vec![&"collections", &dir],
                vec![&"export", &dir, &"-o", &out],
                vec![&"repair", &dir, &"--collection", &"wal_purged", &"-o", &out],
            ];
            if name != "link_lists.bin" && name != "length.bin" {
                verbs.push(vec![&"extract", &index, &"-o", &out, &"--salvage"]);
            } else {
                // This file is not read.
                verbs.remove(0);
                if name == "link_lists.bin" {
                    verbs.remove(0);
                }
            }
            for arguments in verbs {
                let arguments = match arguments[0].as_ref().to_str() {
                    Some("extract") => [&arguments[..], &[&"--format", &"parquet"]].concat(),
                    _ => arguments,
                };
                let (status, words) = run(&arguments);
                assert_eq!(status, Some(1), "{name:?}: {words}");
                assert!(words.contains("Permission denied"), "{name:?}: {words}");
            }
            set_mode(&path, before);
        }
    }

    #[test]
    fn exports_of_private_stores_are_private() {
        let fixture = PersistFixture::unpack("1.5.9");
        let dir = fixture.dir();
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("out");
        let new = scratch.path().join("new");
        let one = scratch.path().join("one.parquet");
        let run = |arguments: &[&dyn AsRef<OsStr>]| {
            let output = run_by("umask 022; exec \"$@\"", arguments);
            let words = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{words}");
        };
        let level0 = fixture.segment("wal_purged").join("data_level0.bin");
        for (private, was) in [
            (None, 0),
            (Some(fixture.database()), 0o600),
            (Some(dir.clone()), 0o700),
            (Some(level0), 0o600),
        ] {
            let (file, directory) = match &private {
                None => (0o644, 0o755),
                Some(path) => {
                    set_mode(path, was);
                    (0o600, 0o700)
                }
            };
            let name: [&dyn AsRef<OsStr>; 2] = [&"--collection", &"wal_purged"];
            run(&[&"export", &dir, &"-o", &out]);
            run(&[&[&"export" as &dyn AsRef<_>, &dir, &"-o", &one], &name[..]].concat());
            run(&[&[&"repair" as &dyn AsRef<_>, &dir, &"-o", &new], &name[..]].concat());
            assert_eq!(mode(&one), file, "{private:?}");
            for made in [&out, &new] {
                assert_eq!(mode(made), directory, "{private:?}");
                for name in names(made) {
                    assert_eq!(mode(&made.join(&name)), file, "{private:?}: {name}");
                }
                std::fs::remove_dir_all(made).unwrap();
            }
            std::fs::remove_file(&one).unwrap();
            if let Some(path) = private {
                set_mode(&path, if path.is_dir() { 0o755 } else { 0o644 });
            }
        }
    }

    #[test]
    fn nothing_is_written_into_a_store() {
        let fixture = PersistFixture::unpack("1.5.9");
        let dir = fixture.dir();
        let before = names(&dir);
        let absent = dir.join("deep/er/new");
        for new in [dir.join("new"), absent, dir.join("x/../new")] {
            let name: [&dyn AsRef<OsStr>; 2] = [&"--collection", &"wal_purged"];
            for verb in ["repair", "export"] {
                let arguments: [&dyn AsRef<OsStr>; 4] = [&verb, &dir, &"-o", &new];
                let output = run_by("exec \"$@\"", &[&arguments[..], &name].concat());
                let words = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(1), "{words}");
                assert!(
                    words.contains("inside the directory that is read"),
                    "{words}"
                );
                assert_eq!(names(&dir), before);
            }
        }
    }

    #[test]
    fn a_store_with_a_non_utf_8_path_is_exported_with_a_manifest() {
        let fixture = PersistFixture::unpack("1.5.9");
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join(OsStr::from_bytes(b"caf\xe9"));
        std::fs::rename(fixture.dir(), &dir).unwrap();
        let out = scratch.path().join(OsStr::from_bytes(b"out\xff"));
        let output = run_by("exec \"$@\"", &[&"export", &dir, &"-o", &out]);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{words}");
        let manifest = std::fs::read(out.join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let shown = manifest["persist_dir"].as_str().unwrap();
        assert!(shown.ends_with("caf\\xE9"), "{shown}");
        std::fs::remove_dir_all(&out).unwrap();
        let output = run_by("exec \"$@\"", &[&"export", &dir, &"-o", &out, &"--json"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(!out.exists());
    }
}
