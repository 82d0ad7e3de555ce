//! The `hint:` line after an error.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::support::{fixtures_root, names, BINARY, REPOSITORY};

/// Runs a failing command, and returns the hint after its error.
#[track_caller]
fn hint(arguments: &[&dyn AsRef<OsStr>]) -> Option<String> {
    let mut command = Command::new(BINARY);
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    let output = command.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty());
    let lines: Vec<_> = error.lines().collect();
    assert!(lines[0].starts_with("hnsw-toolbox: "), "{error}");
    assert!(!lines[0].contains("hint:"), "{error}");
    assert!(lines.len() <= 2, "{error}");
    let hint = lines.get(1)?;
    Some(hint.strip_prefix("hint: ").unwrap().to_string())
}

/// Runs the commands of a hint (in backquotes) with placeholders filled in.
#[track_caller]
fn run_commands(hint: &str, place: &Path, names: &[(&str, &str)]) {
    let commands: Vec<_> = hint.split('`').skip(1).step_by(2).collect();
    assert!(!commands.is_empty(), "{hint}");
    for command in commands {
        let mut command = command.replacen("hnsw-toolbox", BINARY, 1);
        for (stands, name) in names {
            command = command.replace(stands, name);
        }
        let done = Command::new("sh")
            .current_dir(place)
            .args(["-c", &command])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&done.stderr);
        // A salvage without ids is incomplete.
        let status = if command.contains("--salvage") { 3 } else { 0 };
        assert_eq!(done.status.code(), Some(status), "{command}: {error}");
    }
}

fn segment() -> std::path::PathBuf {
    fixtures_root().join("1.5.9/churn/segment")
}

/// Copies the index of a fixture.
fn copy_segment(to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names(&segment()) {
        std::fs::copy(segment().join(&name), to.join(&name)).unwrap();
    }
}

#[test]
fn searching_an_index_directory_suggests_building_a_graph() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("it's an index");
    copy_segment(&dir);
    let queries = scratch.path().join("queries.parquet");
    for arguments in [
        &[&"search" as &dyn AsRef<_>, &dir, &"--queries", &queries][..],
        &[&"recall", &dir],
    ] {
        let hint = hint(arguments).unwrap();
        assert!(hint.contains("is an index directory of Chroma"), "{hint}");
        run_commands(&hint, scratch.path(), &[]);
        std::fs::remove_file(scratch.path().join("index.hnsw")).unwrap();
    }
    std::fs::remove_file(scratch.path().join("vectors.parquet")).unwrap();
    let output = scratch.path().join("out.hnsw");
    let arguments: [&dyn AsRef<OsStr>; 6] =
        [&"build", &dir, &"-o", &output, &"--format", &"parquet"];
    let hint = hint(&arguments).unwrap();
    run_commands(&hint, scratch.path(), &[]);
    assert_eq!(names(scratch.path()), ["it's an index", "vectors.parquet"]);
}

#[test]
fn a_store_of_chroma_0_3_suggests_an_import() {
    let old = Path::new(REPOSITORY).join("tests/fixtures/chroma-0.3");
    let scratch = tempfile::tempdir().unwrap();
    let new = scratch.path().join("new.parquet");
    for verb in ["extract", "repair"] {
        let hint = hint(&[&verb, &old, &"-o", &new]).unwrap();
        assert!(
            hint.contains("is a store of Chroma 0.3; `hnsw-toolbox import "),
            "{hint}"
        );
    }
    assert!(hint(&[&"verify", &old]).unwrap().contains("Chroma 0.3"));
    let index = old.join("index");
    let hint = hint(&[&"extract", &index, &"-o", &new]).unwrap();
    assert!(hint.contains("is a store of Chroma 0.3"), "{hint}");
}

#[test]
fn extracting_or_repairing_a_graph_suggests_other_commands() {
    let scratch = tempfile::tempdir().unwrap();
    let vectors = scratch.path().join("vectors.parquet");
    let index = scratch.path().join("index.hnsw");
    for arguments in [
        [&"extract" as &dyn AsRef<OsStr>, &segment(), &"-o", &vectors],
        [&"build", &vectors, &"-o", &index],
    ] {
        let mut command = Command::new(BINARY);
        let command = arguments.iter().fold(&mut command, |command, argument| {
            command.arg(argument.as_ref())
        });
        assert!(command.output().unwrap().status.success());
    }
    let new = scratch.path().join("new.parquet");
    for verb in ["extract", "repair"] {
        let hint = hint(&[&verb, &index, &"-o", &new]).unwrap();
        assert!(hint.contains("is a .hnsw file; use inspect"), "{hint}");
        assert_eq!(hint_of_file(verb, &vectors, &new), None);
    }
    assert!(!new.exists());
}

#[track_caller]
fn hint_of_file(verb: &str, path: &Path, output: &Path) -> Option<String> {
    hint(&[&verb, &path, &"-o", &output])
}

#[test]
fn a_file_of_an_index_suggests_its_directory() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("index");
    copy_segment(&dir);
    let file = dir.join("data_level0.bin");
    let expected = format!("give the directory of the index, {}", dir.display());
    let output = scratch.path().join("out.parquet");
    for arguments in [
        &[&"extract" as &dyn AsRef<_>, &file, &"-o", &output][..],
        &[&"inspect", &file],
        &[&"verify", &file],
    ] {
        assert_eq!(hint(arguments).as_deref(), Some(&*expected));
    }
}

#[test]
fn self_explanatory_errors_have_no_hint() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out.parquet");
    let nowhere = scratch.path().join("nowhere");
    for arguments in [
        &[&"extract" as &dyn AsRef<_>, &scratch.path(), &"-o", &output][..],
        &[&"extract", &nowhere, &"-o", &output],
        &[
            &"extract",
            &segment(),
            &"-o",
            &scratch.path(),
            &"--format=parquet",
        ],
        &[&"repair", &segment(), &"-o", &scratch.path()],
        &[&"search", &nowhere, &"--queries", &output],
        &[&"verify", &nowhere],
    ] {
        assert_eq!(hint(arguments), None);
    }
}

#[test]
fn a_repair_without_ids_suggests_a_salvage() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("index");
    copy_segment(&dir);
    std::fs::remove_file(dir.join("index_metadata.pickle")).unwrap();
    let new = scratch.path().join("new");
    let hint = hint(&[&"repair", &dir, &"-o", &new]).unwrap();
    assert!(hint.contains("saves the vectors"), "{hint}");
    run_commands(&hint, scratch.path(), &[]);
    assert_eq!(names(scratch.path()), ["index", "vectors.parquet"]);
}

#[cfg(feature = "database")]
mod persist {
    use super::*;
    use crate::support::persist::PersistFixture;

    #[test]
    fn a_persist_directory_and_its_segments_suggest_each_other() {
        let fixture = PersistFixture::unpack("1.5.9");
        let scratch = tempfile::tempdir().unwrap();
        let (dir, output) = (fixture.dir(), scratch.path().join("out.parquet"));
        for arguments in [
            &[&"extract" as &dyn AsRef<_>, &dir, &"-o", &output][..],
            &[&"inspect", &dir],
            &[&"verify", &dir],
        ] {
            let hint = hint(arguments).unwrap();
            assert!(hint.contains("the directory of each collection"), "{hint}");
            run_commands(&hint, scratch.path(), &[]);
        }
        for (arguments, made) in [
            (
                &[
                    &"build" as &dyn AsRef<_>,
                    &dir,
                    &"-o",
                    &output,
                    &"--format=parquet",
                ][..],
                &["vectors.parquet"][..],
            ),
            (
                &[&"search", &dir, &"--queries", &output],
                &["index.hnsw", "vectors.parquet"],
            ),
        ] {
            let hint = hint(arguments).unwrap();
            run_commands(&hint, scratch.path(), &[("NAME", "wal_purged")]);
            assert_eq!(names(scratch.path()), made);
        }

        let segment = fixture.segment("wal_purged");
        let expected = format!("the persist directory is {}", dir.display());
        for arguments in [
            &[&"collections" as &dyn AsRef<_>, &segment][..],
            &[&"export", &segment, &"-o", &output],
            &[&"repair", &segment, &"--collection=a", &"-o", &output],
        ] {
            assert_eq!(hint(arguments).as_deref(), Some(&*expected));
        }
    }

    #[test]
    fn a_repair_without_ids_suggests_the_database() {
        let fixture = PersistFixture::unpack("1.5.9");
        let scratch = tempfile::tempdir().unwrap();
        let segment = fixture.segment("wal_purged");
        std::fs::remove_file(segment.join("index_metadata.pickle")).unwrap();
        let new = scratch.path().join("new");
        let hint = hint(&[&"repair", &segment, &"-o", &new]).unwrap();
        assert!(hint.contains("takes the ids from the database"), "{hint}");
        assert!(hint.contains(fixture.dir().to_str().unwrap()), "{hint}");
        assert!(!new.exists());
    }
}

#[test]
fn non_numeric_labels_suggest_the_option_to_ignore_them() {
    let output = tempfile::tempdir().unwrap();
    let index = output.path().join("x.hnsw");
    for name in ["label-string", "label-float"] {
        for format in ["parquet", "arrow"] {
            let input = Path::new(REPOSITORY)
                .join("tests/fixtures/columnar/bad")
                .join(format!("{name}.{format}"));
            assert_eq!(
                hint(&[&"build", &input, &"-o", &index]).unwrap(),
                "--row-numbers takes the row numbers as labels, --label-column another column"
            );
            let mut build = Command::new(BINARY);
            build.args(["build", "--row-numbers", "-o"]);
            let done = build.arg(&index).arg(&input).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        }
    }
}
