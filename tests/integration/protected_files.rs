//! Files of an index stay unchanged, regardless of the path by which an output leads to them.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;

const INDEX_FILES: [&str; 5] = [
    "header.bin",
    "data_level0.bin",
    "length.bin",
    "link_lists.bin",
    "index_metadata.pickle",
];

/// A copy of a fixture's files.
fn copy_segment(case: &str, to: &Path) -> PathBuf {
    std::fs::create_dir_all(to).unwrap();
    for name in INDEX_FILES {
        let from = fixtures_root().join(case).join("segment").join(name);
        std::fs::copy(from, to.join(name)).unwrap();
    }
    to.to_path_buf()
}

/// Two segments in one persist directory, and files that a test adds beside them.
struct Persisted {
    root: tempfile::TempDir,
    index: PathBuf,
    other: PathBuf,
}

impl Persisted {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let index = copy_segment("1.5.9/cosine", &root.path().join("index"));
        let other = copy_segment("1.5.9/ip", &root.path().join("other"));
        std::fs::write(root.path().join("chroma.sqlite3"), b"SQLite format 3\0").unwrap();
        std::fs::create_dir(root.path().join("sub")).unwrap();
        Self { root, index, other }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut directories = vec![self.root.path().to_path_buf()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    directories.push(entry.path());
                } else if kind.is_symlink() {
                    let to = std::fs::read_link(entry.path()).unwrap();
                    files.insert(entry.path(), to.into_os_string().into_encoded_bytes());
                } else {
                    files.insert(entry.path(), std::fs::read(entry.path()).unwrap());
                }
            }
        }
        files
    }

    /// Runs a command that must reject its output and change nothing.
    #[track_caller]
    fn assert_refused(&self, what: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) {
        let before = self.files();
        let mut command = Command::new(BINARY);
        for argument in arguments {
            command.arg(argument.as_ref());
        }
        let output = command.output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{what}: {error}");
        assert!(
            error.contains("never replaced") || error.contains("the same file as the input"),
            "{what}: {error}"
        );
        assert_eq!(self.files(), before, "{what}");
    }

    #[track_caller]
    fn assert_extract_refused(&self, what: &str, index: &Path, output: &Path) {
        for format in ["parquet", "arrow_ipc"] {
            self.assert_refused(
                what,
                &[&"extract", &index, &"-o", &output, &"--format", &format],
            );
        }
    }
}

#[test]
fn extract_replaces_no_file_of_its_index() {
    let all = Persisted::new();
    for name in INDEX_FILES {
        all.assert_extract_refused(name, &all.index, &all.index.join(name));
        let upper = name.to_uppercase();
        all.assert_extract_refused("upper case", &all.index, &all.index.join(upper));
    }
    all.assert_extract_refused(
        "dots",
        &all.index,
        &all.path("sub/../index/data_level0.bin"),
    );
}

#[test]
fn extract_replaces_no_file_of_another_index_or_of_chroma() {
    let all = Persisted::new();
    for name in INDEX_FILES {
        all.assert_extract_refused(name, &all.index, &all.other.join(name));
    }
    all.assert_extract_refused("database", &all.index, &all.path("chroma.sqlite3"));
}

#[test]
fn extract_follows_no_link_to_a_file_of_an_index() {
    let all = Persisted::new();
    // A directory of links to the real files.
    let links = all.path("links");
    std::fs::create_dir(&links).unwrap();
    for name in INDEX_FILES {
        symlink(all.index.join(name), links.join(name)).unwrap();
    }
    for name in INDEX_FILES {
        all.assert_extract_refused("directory of links", &links, &all.index.join(name));
    }
    // A link to the directory.
    let alias = all.path("alias");
    symlink(&all.index, &alias).unwrap();
    all.assert_extract_refused("linked directory", &alias, &all.index.join("length.bin"));
    all.assert_extract_refused("linked directory", &all.index, &alias.join("length.bin"));
    // Links to files, chained.
    let link = all.path("out.parquet");
    symlink(all.other.join("header.bin"), &link).unwrap();
    all.assert_extract_refused("linked file", &all.index, &link);
    let second = all.path("second.parquet");
    symlink(&link, &second).unwrap();
    all.assert_extract_refused("link to a link", &all.index, &second);
    let hard = all.path("hard.parquet");
    std::fs::hard_link(all.index.join("data_level0.bin"), &hard).unwrap();
    all.assert_extract_refused("hard link", &all.index, &hard);
    // Links whose targets have names other than files of a segment.
    let blobs = all.path("blobs");
    std::fs::create_dir(&blobs).unwrap();
    let linked = all.path("linked");
    std::fs::create_dir(&linked).unwrap();
    for name in INDEX_FILES {
        std::fs::rename(all.index.join(name), blobs.join(format!("blob-{name}"))).unwrap();
        symlink(blobs.join(format!("blob-{name}")), linked.join(name)).unwrap();
    }
    for name in INDEX_FILES {
        let blob = blobs.join(format!("blob-{name}"));
        all.assert_extract_refused("renamed target", &linked, &blob);
    }
}

#[test]
fn extract_replaces_no_pickle_that_it_joins() {
    let all = Persisted::new();
    let pickle = all.path("ids.parquet");
    std::fs::rename(all.index.join("index_metadata.pickle"), &pickle).unwrap();
    let hard = all.path("hard.parquet");
    std::fs::hard_link(&pickle, &hard).unwrap();
    for output in [&pickle, &hard] {
        all.assert_refused(
            "pickle",
            &[
                &"extract",
                &all.index,
                &"--metadata",
                &pickle,
                &"-o",
                output,
            ],
        );
    }
}

#[test]
fn salvage_replaces_no_file_of_another_index() {
    let all = Persisted::new();
    for output in [all.other.join("header.bin"), all.path("chroma.sqlite3")] {
        let salvage = "--salvage";
        let format = "--format=parquet";
        all.assert_refused(
            "salvage",
            &[&"extract", &all.index, &"-o", &output, &salvage, &format],
        );
    }
}

#[test]
fn build_replaces_no_input_and_no_file_of_an_index() {
    let all = Persisted::new();
    let input = all.path("in.parquet");
    let extract = Command::new(BINARY)
        .arg("extract")
        .arg(&all.index)
        .arg("-o")
        .arg(&input)
        .output()
        .unwrap();
    assert!(extract.status.success());
    let hard = all.path("hard.hnsw");
    std::fs::hard_link(&input, &hard).unwrap();
    let link = all.path("link.hnsw");
    symlink(all.other.join("data_level0.bin"), &link).unwrap();
    let mut outputs = vec![
        input.clone(),
        all.path("sub/../in.parquet"),
        hard,
        link,
        all.path("chroma.sqlite3"),
        all.path("Chroma.SQLite3"),
    ];
    outputs.extend(INDEX_FILES.map(|name| all.index.join(name)));
    for output in outputs {
        let what = output.display().to_string();
        all.assert_refused(&what, &[&"build", &input, &"-o", &output]);
    }
}
