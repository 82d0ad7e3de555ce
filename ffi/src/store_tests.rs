//! Repairs of whole stores.

use super::*;

#[allow(dead_code, reason = "other users need the rest")]
#[path = "../../tests/support/persist.rs"]
pub(super) mod persist;

use self::persist::PersistFixture;

pub(super) const FIXTURE: &str = "1.5.9";

pub(super) fn store() -> PersistFixture {
    PersistFixture::unpack(FIXTURE)
}

/// Paths below a directory, with the bytes of files.
pub(super) fn contents(dir: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
            }
            found.push((
                path.clone(),
                path.is_file().then(|| fs::read(&path).unwrap()),
            ));
        }
    }
    found.sort();
    found
}

/// Checks the counts of each collection against the fixture, and that the new store has them.
fn assert_repaired(response: &Value, store: &PersistFixture, new_dir: &Path) {
    let by_id = |list: &Value| -> Vec<(String, u64)> {
        let mut counts: Vec<_> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|collection| {
                // The fixture lists its records, a response counts them.
                let count = match &collection["records"] {
                    Value::Array(records) => records.len() as u64,
                    count => count.as_u64().unwrap(),
                };
                let id = collection["id"].as_str().unwrap();
                (id.to_string(), count)
            })
            .collect();
        counts.sort();
        counts
    };
    let expected = by_id(&store.expected["collections"]);
    assert_eq!(by_id(&response["collections"]), expected);
    let total: u64 = expected.iter().map(|(_, count)| count).sum();
    assert_eq!(response["records"], total);
    assert_eq!(response["left_out"], 0);
    assert_eq!(response["complete"], true);
    let listed = send(
        hnsw_toolbox_list_collections,
        &json!({"persist_dir": new_dir}),
    );
    let listed = listed.unwrap();
    assert_eq!(by_id(&listed["collections"]), expected);
    assert_eq!(listed["complete"], true);
}

#[test]
fn a_store_is_repaired_into_a_new_directory() {
    let (store, directory) = (store(), TempDir::new().unwrap());
    let before = contents(&store.dir());
    let new_dir = directory.path().join("new");
    let request = json!({"persist_dir": store.dir(), "output_dir": new_dir});
    let token = hnsw_toolbox_token_new();
    let response = send(
        hnsw_toolbox_repair_store,
        &with(&request, "token", json!(token)),
    )
    .unwrap();
    assert_repaired(&response, &store, &new_dir);
    let (mut done, mut total) = (0, 0);
    assert!(unsafe { hnsw_toolbox_token_progress(token, &mut done, &mut total) });
    assert!(done == total && total > 4000, "{done} of {total}");
    assert!(hnsw_toolbox_token_free(token));

    assert_eq!(response["persist_dir"], json!(store.dir()));
    assert_eq!(response["output_dir"], json!(new_dir));
    assert_eq!(response["dry_run"], false);
    assert!(response["full_text"].is_string());
    assert!(response["rows_dropped"].is_object());
    for absent in ["left_out_dir", "kept_dir"] {
        assert_eq!(response[absent], Value::Null, "{absent}");
    }
    assert_eq!(response["undo"], json!([]));
    assert!(response["bytes_after"].as_u64().unwrap() > 0);
    assert_eq!(contents(&store.dir()), before);

    let (code, error) = send(hnsw_toolbox_repair_store, &request).unwrap_err();
    assert_eq!(code, 301, "{error}");

    let full = json!({
        "persist_dir": store.dir(), "output_dir": directory.path().join("full"),
        "in_place": false, "template": null, "keep_incomplete": true, "links": "build",
        "metric": null, "dimension": null, "m": null, "threads": 1, "io": "mmap",
        "dry_run": false, "token": null,
    });
    let response = send(hnsw_toolbox_repair_store, &full).unwrap();
    assert_repaired(&response, &store, &directory.path().join("full"));
    let collections = response["collections"].as_array().unwrap();
    let has_vectors = |collection: &&Value| !collection["segment_dir"].is_null();
    assert!(collections.iter().filter(has_vectors).count() > 5);
    for collection in collections.iter().filter(has_vectors) {
        assert_eq!(collection["links"], "build", "{collection}");
    }
}

#[test]
fn records_without_a_vector_make_a_repair_incomplete() {
    let (store, directory) = (store(), TempDir::new().unwrap());
    // The queue has the vectors of 51 of its records.
    fs::remove_dir_all(store.segment("wal_purged")).unwrap();
    let records = store.collection("wal_purged")["count"].as_u64().unwrap();
    let missing = records - 51;
    let request = |name: &str, keep: bool| {
        json!({"persist_dir": store.dir(), "output_dir": directory.path().join(name),
               "keep_incomplete": keep})
    };
    let collection = |response: &Value| {
        let collections = response["collections"].as_array().unwrap();
        let named = collections.iter().find(|c| c["name"] == "wal_purged");
        named.unwrap().clone()
    };
    let response = send(hnsw_toolbox_repair_store, &request("without", false)).unwrap();
    assert_eq!(response["complete"], false);
    assert_eq!(response["left_out"], missing);
    let found = collection(&response);
    assert_eq!(found["without_vector"], missing);
    assert_eq!(
        found["first_ids_without_vector"].as_array().unwrap().len(),
        100
    );
    assert_eq!(found["records"], 51);
    let left_out = directory.path().join("without.without-vectors");
    assert_eq!(response["left_out_dir"], json!(left_out));
    assert!(left_out.join("manifest.json").is_file());

    let response = send(hnsw_toolbox_repair_store, &request("kept", true)).unwrap();
    assert_eq!(response["complete"], false);
    assert_eq!(response["left_out"], 0);
    assert_eq!(collection(&response)["records"], records);
    assert_eq!(response["left_out_dir"], Value::Null);
}

#[test]
fn a_repair_in_place_keeps_the_old_store() {
    let store = store();
    let before = contents(&store.dir());
    let request = json!({"persist_dir": store.dir(), "in_place": true});
    let response = send(hnsw_toolbox_repair_store, &request).unwrap();
    assert_repaired(&response, &store, &store.dir());
    let kept = PathBuf::from(response["kept_dir"].as_str().unwrap());
    let undo = response["undo"].as_array().unwrap();
    let name = kept.file_name().unwrap().to_str().unwrap();
    assert!(
        undo.iter()
            .any(|step| step.as_str().unwrap().contains(name)),
        "{undo:?}"
    );
    let strip = |dir: &Path, contents: Vec<(PathBuf, Option<Vec<u8>>)>| -> Vec<_> {
        let contents = contents.into_iter();
        contents
            .map(|(path, bytes)| (path.strip_prefix(dir).unwrap().to_path_buf(), bytes))
            .collect()
    };
    assert!(strip(&kept, contents(&kept)) == strip(&store.dir(), before));
}

#[test]
fn a_dry_run_of_a_repair_writes_nothing() {
    let store = store();
    let parent = store.dir().parent().unwrap().to_path_buf();
    let before = contents(&parent);
    let new_dir = parent.join("new");
    for request in [json!({"output_dir": new_dir}), json!({"in_place": true})] {
        let request = with(&request, "persist_dir", json!(store.dir()));
        let request = with(&request, "dry_run", json!(true));
        let response = send(hnsw_toolbox_repair_store, &request).unwrap();
        assert_eq!(response["dry_run"], true);
        assert_eq!(response["complete"], true);
        let records: u64 = store
            .collections()
            .iter()
            .map(|c| c["count"].as_u64().unwrap())
            .sum();
        assert_eq!(response["records"], records);
        assert_eq!(response["full_text"], Value::Null);
        assert_eq!(response["undo"], json!([]));
        assert!(contents(&parent) == before);
    }
}

#[test]
fn a_cancelled_token_stops_a_repair_of_a_store() {
    let store = store();
    let parent = store.dir().parent().unwrap().to_path_buf();
    let before = contents(&parent);
    let token = hnsw_toolbox_token_new();
    assert!(hnsw_toolbox_token_cancel(token));
    for request in [
        json!({"output_dir": parent.join("new")}),
        json!({"in_place": true}),
        json!({"in_place": true, "dry_run": true}),
    ] {
        let request = with(&request, "persist_dir", json!(store.dir()));
        let request = with(&request, "token", json!(token));
        let (code, error) = send(hnsw_toolbox_repair_store, &request).unwrap_err();
        assert_eq!((code, error.as_str()), (400, "[E400] cancelled"));
        assert!(contents(&parent) == before);
    }
    assert!(hnsw_toolbox_token_free(token));
}

#[test]
fn repair_store_errors_name_the_field_that_is_wrong() {
    let (store, directory) = (store(), TempDir::new().unwrap());
    let new_dir = directory.path().join("new");
    let request = json!({"persist_dir": store.dir(), "output_dir": new_dir});
    let not_a_name = [json!(1), json!({}), json!(""), json!("Keep"), json!("x\0")];
    let not_a_flag = [json!(null), json!(1), json!("true")];
    refuses(
        hnsw_toolbox_repair_store,
        &request,
        &[
            ("persist_dir", &paths()),
            ("output_dir", &paths()),
            ("in_place", &not_a_flag),
            ("template", &paths()[1..]),
            ("keep_incomplete", &not_a_flag),
            ("links", &not_a_name),
            ("metric", &not_a_name),
            ("metric", &[json!("euclidean")]),
            ("dimension", &[json!(-1), json!("5")]),
            ("m", &[json!(1.5), json!([])]),
            (
                "threads",
                &[json!(0), json!(-1), json!("1"), json!(1u64 << 40)],
            ),
            ("io", &[json!(null), json!("mmap2")]),
            ("dry_run", &not_a_flag),
            ("token", &[json!(0), json!([1])]),
            ("output_path", &[json!("x")]),
            ("collection", &[json!("x")]),
        ],
    );
    for (request, expected) in [
        (json!({}), "persist_dir: found nothing"),
        (
            json!({"persist_dir": store.dir()}),
            "output_dir: found nothing, expected a path as a string, or \"in_place\": true",
        ),
        (
            json!({"persist_dir": store.dir(), "in_place": false}),
            "output_dir: found nothing, expected a path as a string, or \"in_place\": true",
        ),
        (
            with(&request, "in_place", json!(true)),
            "output_dir: found a path, expected none, because \"in_place\" is true",
        ),
    ] {
        let (code, error) = send(hnsw_toolbox_repair_store, &request).unwrap_err();
        assert_eq!(code, 101);
        assert!(error.starts_with(&format!("[E101] {expected}")), "{error}");
    }
    assert!(!new_dir.exists());
}

/// The response of a repair in place has the resolved path.
#[cfg(target_os = "linux")]
#[test]
fn a_link_to_a_path_that_is_not_utf8_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let (store, directory) = (store(), TempDir::new().unwrap());
    let target = directory.path().join(OsStr::from_bytes(b"\xff"));
    fs::rename(store.dir(), &target).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let request = json!({"persist_dir": link, "in_place": true});
    let (code, error) = send(hnsw_toolbox_repair_store, &request).unwrap_err();
    assert_eq!(code, 101);
    assert!(error.starts_with("[E101] persist_dir: found "), "{error}");
    assert!(error.contains("UTF-8"), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}
