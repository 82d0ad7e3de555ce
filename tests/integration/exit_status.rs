//! Exit statuses, and `complete` in the corresponding responses.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::*;

fn run(arguments: &[&dyn AsRef<OsStr>]) -> Output {
    let mut command = Command::new(BINARY);
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    command.output().unwrap()
}

/// Asserts a command's exit status with and without `--json`, and that `complete` agrees.
#[track_caller]
fn assert_status(arguments: &[&dyn AsRef<OsStr>], fresh: &Path, status: i32) -> Value {
    let remove = || {
        drop(std::fs::remove_dir_all(fresh));
        drop(std::fs::remove_file(fresh));
    };
    remove();
    let output = run(arguments);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{words}");
    remove();
    let output = run(&[arguments, &[&"--json"]].concat());
    assert_eq!(output.status.code(), Some(status));
    let response: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(response["complete"], status != 3, "{response}");
    response
}

fn copy_segment(case: &str, to: &Path) {
    let segment = fixtures_root().join(case).join("segment");
    std::fs::create_dir(to).unwrap();
    for name in names(&segment) {
        std::fs::copy(segment.join(&name), to.join(&name)).unwrap();
    }
}

#[test]
fn work_on_an_intact_segment_is_complete() {
    let scratch = tempfile::tempdir().unwrap();
    let segment = scratch.path().join("segment");
    copy_segment("1.5.9/churn", &segment);
    let [parquet, graph, new, answers] =
        ["v.parquet", "v.hnsw", "new", "a.parquet"].map(|name| scratch.path().join(name));
    let spare = scratch.path().join("spare.parquet");
    assert_status(&[&"extract", &segment, &"-o", &spare], &spare, 0);
    assert_status(
        &[&"extract", &segment, &"-o", &parquet, &"--salvage"],
        &parquet,
        0,
    );
    assert_status(&[&"build", &parquet, &"-o", &graph], &graph, 0);
    assert_status(&[&"inspect", &segment], &new, 0);
    assert_status(&[&"inspect", &graph], &new, 0);
    assert_status(&[&"verify", &segment], &new, 0);
    assert_status(&[&"verify", &graph], &new, 0);
    assert_status(&[&"repair", &segment, &"-o", &new], &new, 0);
    let search: [&dyn AsRef<OsStr>; 4] = [&"search", &graph, &"--queries", &parquet];
    assert_status(&[&search[..], &[&"-o", &answers]].concat(), &answers, 0);
    let printed = run(&[&search[..], &[&"--json"]].concat());
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(printed["complete"], true);
    assert_status(&[&"recall", &graph, &"--sample", &"20"], &answers, 0);
}

type Damage = fn(&Path);

#[test]
fn salvage_and_repair_with_lost_records_exit_with_3() {
    let cut = |segment: &Path| {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(segment.join("data_level0.bin"))
            .unwrap();
        file.set_len(100_000).unwrap();
    };
    let nan: Damage = |segment| {
        let path = segment.join("data_level0.bin");
        let mut bytes = std::fs::read(&path).unwrap();
        // The vector of the last record of 140 + 20 bytes.
        let record = 4 + 4 * 32 + 4 * 5 + 8;
        let live = (0..1140).find(|id| bytes[id * record + 2] == 0).unwrap();
        bytes[live * record + 132..live * record + 136].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
    };
    let no_pickle: Damage =
        |segment| std::fs::remove_file(segment.join("index_metadata.pickle")).unwrap();
    let damages: [(Damage, bool); 3] = [(cut, true), (nan, true), (no_pickle, false)];
    for (damage, repairable) in damages {
        let scratch = tempfile::tempdir().unwrap();
        let segment = scratch.path().join("segment");
        copy_segment("1.5.9/churn", &segment);
        damage(&segment);
        let output = scratch.path().join("out.parquet");
        assert_status(
            &[&"extract", &segment, &"-o", &output, &"--salvage"],
            &output,
            3,
        );
        let streamed = run(&[&"extract", &segment, &"-o", &"-", &"--salvage", &"--quiet"]);
        assert_eq!(streamed.status.code(), Some(3));
        assert!(!streamed.stderr.is_empty());
        let new = scratch.path().join("new");
        if repairable {
            assert_status(&[&"repair", &segment, &"-o", &new], &new, 3);
        } else {
            assert_eq!(
                run(&[&"repair", &segment, &"-o", &new]).status.code(),
                Some(1)
            );
        }
        // Finding damage is the purpose of a check.
        let verified = run(&[&"verify", &segment, &"--json"]);
        assert_eq!(verified.status.code(), Some(1));
        let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert_eq!(report["complete"], true);
    }
}

#[cfg(feature = "database")]
mod persist {
    use super::*;
    use crate::support::persist::{PersistFixture, PERSIST_FIXTURES};

    #[test]
    fn sound_stores_are_complete() {
        for name in PERSIST_FIXTURES {
            let fixture = PersistFixture::unpack(name);
            let scratch = tempfile::tempdir().unwrap();
            let output = scratch.path().join("out");
            let list = assert_status(&[&"collections", &fixture.dir()], &output, 0);
            for collection in list["collections"].as_array().unwrap() {
                for finding in collection["findings"].as_array().unwrap() {
                    assert_eq!(finding["loss"], false, "{finding}");
                }
            }
            assert_status(&[&"export", &fixture.dir(), &"-o", &output], &output, 0);
        }
    }

    #[test]
    fn an_export_with_lost_vectors_exits_with_3() {
        let fixture = PersistFixture::unpack("1.5.9");
        let database = rusqlite::Connection::open(fixture.database()).unwrap();
        database
            .execute_batch("DELETE FROM embeddings_queue")
            .unwrap();
        drop(database);
        let segment = fixture.segment("wal_purged");
        std::fs::remove_file(segment.join("data_level0.bin")).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let [directory, file] = ["out", "out.parquet"].map(|name| scratch.path().join(name));
        let dir = fixture.dir();
        assert_status(&[&"collections", &dir], &directory, 3);
        let response = assert_status(&[&"export", &dir, &"-o", &directory], &directory, 3);
        let files = response["summary"]["files"].as_array().unwrap();
        for file in files {
            let mut findings = file["findings"].as_array().unwrap().iter();
            let has_loss = findings.any(|finding| finding["loss"] == true);
            assert!(has_loss || file["without_vector"] == 0, "{file}");
        }
        let is_it = |file: &&Value| {
            file["segment_id"] == fixture.collection("wal_purged")["vector_segment"]
        };
        assert_ne!(files.iter().find(is_it).unwrap()["without_vector"], 0);
        let one: [&dyn AsRef<OsStr>; 4] = [&"export", &dir, &"--collection", &"wal_purged"];
        assert_status(&[&one[..], &[&"-o", &file]].concat(), &file, 3);
        let streamed = run(&[&one[..], &[&"-o", &"-"]].concat());
        assert_eq!(streamed.status.code(), Some(3));
        assert!(!streamed.stdout.is_empty());
    }

    #[test]
    fn damage_without_lost_vectors_is_no_loss_in_an_export() {
        let fixture = PersistFixture::unpack("1.5.9");
        let name = "ip_default";
        // Ids and vectors are joined by rank.
        std::fs::remove_file(fixture.segment(name).join("index_metadata.pickle")).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let output = scratch.path().join("out.parquet");
        let arguments: [&dyn AsRef<OsStr>; 6] = [
            &"export",
            &fixture.dir(),
            &"--collection",
            &name,
            &"-o",
            &output,
        ];
        let response = assert_status(&arguments, &output, 0);
        assert_eq!(response["summary"]["files"][0]["state"], "damaged");
        assert_status(&[&"collections", &fixture.dir()], &output, 3);
    }

    #[test]
    fn failures_end_with_1_and_wrong_usage_with_2() {
        let fixture = PersistFixture::unpack("1.5.9");
        let scratch = tempfile::tempdir().unwrap();
        let (nothing, output) = (scratch.path().join("nothing"), scratch.path().join("out"));
        std::fs::create_dir(&nothing).unwrap();
        let dir = fixture.dir();
        for (arguments, status) in [
            (&[&"collections" as &dyn AsRef<OsStr>, &nothing][..], 1),
            (&[&"export", &nothing, &"-o", &output], 1),
            (&[&"repair", &nothing, &"-o", &output], 1),
            (&[&"extract", &nothing, &"-o", &output.join("a.parquet")], 1),
            (&[&"verify", &scratch.path().join("absent")], 2),
            (&[&"verify", &dir], 2),
            (&[&"collections"], 2),
            (
                &[&"export", &dir, &"-o", &output, &"--collection", &"absent"],
                2,
            ),
            (&[&"export", &dir, &"-o", &output, &"--batch-size", &"0"], 2),
        ] {
            let failed = run(arguments);
            let words = String::from_utf8_lossy(&failed.stderr);
            assert_eq!(failed.status.code(), Some(status), "{words}");
            assert!(failed.stdout.is_empty() && !failed.stderr.is_empty());
            assert!(!output.exists());
        }
    }
}
