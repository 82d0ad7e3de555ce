//! Imports into stores.

use super::stores::persist::{empty_database_of, PersistFixture};
use super::stores::{contents, store, FIXTURE};
use super::*;

/// A directory with a store without collections, `empty`.
fn scratch() -> TempDir {
    let directory = TempDir::new().unwrap();
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("chroma.sqlite3"), empty_database_of(FIXTURE)).unwrap();
    directory
}

/// The number of records of each collection by tenant, database and name.
fn counts(dir: &Path) -> Vec<([String; 3], u64)> {
    let listed = send(hnsw_toolbox_list_collections, &json!({"persist_dir": dir})).unwrap();
    assert_eq!(listed["complete"], true);
    let collections = listed["collections"].as_array().unwrap();
    let mut counts: Vec<_> = collections
        .iter()
        .map(|collection| {
            let key = ["tenant", "database", "name"]
                .map(|field| collection[field].as_str().unwrap().to_string());
            (key, collection["records"].as_u64().unwrap())
        })
        .collect();
    counts.sort();
    counts
}

fn records(store: &PersistFixture) -> u64 {
    let collections = store.collections().iter();
    collections.map(|c| c["count"].as_u64().unwrap()).sum()
}

/// Checks an import of the whole fixture into an empty store, and that the new store has it.
fn assert_imported(response: &Value, store: &PersistFixture, new_dir: &Path) {
    assert_eq!(counts(new_dir), counts(&store.dir()));
    assert_eq!(response["complete"], true);
    assert_eq!(response["dry_run"], false);
    assert_eq!(response["records"], records(store));
    assert_eq!(response["imported"], records(store));
    for none in ["skipped", "replaced", "left_out"] {
        assert_eq!(response[none], 0, "{none}");
    }
    assert_eq!(response["full_text"], "built");
    assert_eq!(response["sources"], json!([store.dir()]));
    let collections = response["collections"].as_array().unwrap();
    assert_eq!(collections.len(), store.collections().len());
    for collection in collections {
        assert_eq!(collection["is_new"], true);
        let origin = json!({"path": store.dir(), "collection": collection["name"]});
        assert_eq!(collection["origins"], json!([origin]));
    }
}

#[test]
fn a_store_is_imported_into_a_new_directory() {
    let (store, scratch) = (store(), scratch());
    let (empty, new_dir) = (scratch.path().join("empty"), scratch.path().join("new"));
    let before = (contents(&store.dir()), contents(&empty));
    let request = json!({"sources": [store.dir()], "into_dir": empty, "output_dir": new_dir});
    let token = hnsw_toolbox_token_new();
    let response = send(hnsw_toolbox_import, &with(&request, "token", json!(token))).unwrap();
    assert_imported(&response, &store, &new_dir);
    let (mut done, mut total) = (0, 0);
    assert!(unsafe { hnsw_toolbox_token_progress(token, &mut done, &mut total) });
    assert!(done == total && total > 4000, "{done} of {total}");
    assert!(hnsw_toolbox_token_free(token));
    assert_eq!(response["into_dir"], json!(empty));
    assert_eq!(response["output_dir"], json!(new_dir));
    assert_eq!(response["kept_dir"], Value::Null);
    assert_eq!(response["undo"], json!([]));
    assert!(response["bytes_after"].as_u64() > response["bytes_before"].as_u64());
    assert!((contents(&store.dir()), contents(&empty)) == before);

    let (code, error) = send(hnsw_toolbox_import, &request).unwrap_err();
    assert_eq!(code, 301, "{error}");
}

#[test]
fn an_import_takes_every_field_of_its_request() {
    let (store, scratch) = (store(), scratch());
    let (empty, out) = (scratch.path().join("empty"), scratch.path().join("out"));
    let export = json!({"persist_dir": store.dir(), "output_path": out,
                        "collections": ["wal_purged"]});
    let exported = send(hnsw_toolbox_export, &export).unwrap();
    let file = exported["summary"]["files"][0]["file"].as_str().unwrap();
    let request = json!({
        "sources": [out.join(file)], "into_dir": empty,
        "output_dir": scratch.path().join("new"), "in_place": false,
        "collections": ["wal_purged"],
        "columns": {"id": "id", "vector": "vector", "document": null, "metadata": []},
        "rename": {"wal_purged": "books"}, "database": "default_database",
        "tenant": "default_tenant", "metric": "ip", "m": 8, "ef_construction": 40,
        "on_conflict": "skip", "lists": "json", "keep_incomplete": true, "threads": 1,
        "dry_run": false, "token": null,
    });
    let response = send(hnsw_toolbox_import, &request).unwrap();
    let collection = &response["collections"][0];
    assert_eq!(collection["name"], "books");
    assert_eq!(collection["metric"], "ip");
    assert_eq!(collection["records"], 2400);
    assert_eq!(collection["origins"][0]["columns"]["vector"], "vector");
    let segment = collection["segment_dir"].as_str().unwrap();
    let segment = json!({"index_dir": scratch.path().join("new").join(segment)});
    let header = &send(hnsw_toolbox_inspect, &segment).unwrap()["header"];
    assert_eq!(
        (&header["m"], &header["ef_construction"]),
        (&json!(8), &json!(40))
    );

    let nulls = json!({
        "sources": [out], "into_dir": empty, "output_dir": scratch.path().join("nulls"),
        "collections": null, "columns": null, "rename": null, "database": null, "tenant": null,
        "metric": null, "m": null, "ef_construction": null, "threads": null,
    });
    let response = send(hnsw_toolbox_import, &nulls).unwrap();
    assert_eq!(response["collections"][0]["name"], "wal_purged");
}

#[test]
fn a_copy_of_a_collection_gets_an_id_of_its_own() {
    let (store, directory) = (store(), TempDir::new().unwrap());
    let new_dir = directory.path().join("new");
    let request = json!({"sources": [store.dir()], "into_dir": store.dir(), "output_dir": new_dir,
                         "collections": ["schema_cosine"], "rename": {"schema_cosine": "copy"}});
    let response = send(hnsw_toolbox_import, &request).unwrap();
    let copy = &response["collections"][0];
    assert_eq!(copy["is_new"], true);
    assert_ne!(copy["id"], store.collection("schema_cosine")["id"]);
    assert_eq!(copy["records"], store.collection("schema_cosine")["count"]);
    assert_eq!(counts(&new_dir).len(), store.collections().len() + 1);
}

#[test]
fn records_whose_id_exists_are_refused_skipped_or_replace() {
    let (store, directory) = (store(), TempDir::new().unwrap());
    let request = |name: &str, conflict: &str| {
        json!({"sources": [store.dir()], "into_dir": store.dir(), "collections": ["wal_purged"],
               "output_dir": directory.path().join(name), "on_conflict": conflict})
    };
    let (code, error) = send(hnsw_toolbox_import, &request("error", "error")).unwrap_err();
    assert_eq!(code, 101);
    assert!(
        error.starts_with("[E101] sources: found a record with the id"),
        "{error}"
    );
    for (conflict, field, other) in [
        ("skip", "skipped", "replaced"),
        ("replace", "replaced", "skipped"),
    ] {
        let response = send(hnsw_toolbox_import, &request(conflict, conflict)).unwrap();
        assert_eq!(response["complete"], true);
        assert_eq!(response["records"], records(&store));
        assert_eq!(
            (&response[field], &response[other]),
            (&json!(2400), &json!(0))
        );
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn an_import_in_place_keeps_the_old_store() {
    let (store, scratch) = (store(), scratch());
    let empty = scratch.path().join("empty");
    let before = fs::read(empty.join("chroma.sqlite3")).unwrap();
    let request = json!({"sources": [store.dir()], "into_dir": empty, "in_place": true});
    let response = send(hnsw_toolbox_import, &request).unwrap();
    assert_imported(&response, &store, &empty);
    let kept = PathBuf::from(response["kept_dir"].as_str().unwrap());
    let undo = response["undo"].to_string();
    assert!(
        undo.contains(kept.file_name().unwrap().to_str().unwrap()),
        "{undo}"
    );
    assert!(fs::read(kept.join("chroma.sqlite3")).unwrap() == before);
}

#[test]
fn an_import_that_is_dry_or_cancelled_writes_nothing() {
    let (store, scratch) = (store(), scratch());
    let before = contents(scratch.path());
    let token = hnsw_toolbox_token_new();
    assert!(hnsw_toolbox_token_cancel(token));
    for request in [
        json!({"output_dir": scratch.path().join("new")}),
        json!({"in_place": true}),
    ] {
        let request = with(&request, "sources", json!([store.dir()]));
        let request = with(&request, "into_dir", json!(scratch.path().join("empty")));
        let dry = with(&request, "dry_run", json!(true));
        let response = send(hnsw_toolbox_import, &dry).unwrap();
        assert_eq!(response["dry_run"], true);
        assert_eq!(response["complete"], true);
        assert_eq!(response["imported"], records(&store));
        assert_eq!(response["records"], records(&store));
        assert_eq!(response["full_text"], Value::Null);
        assert_eq!(response["undo"], json!([]));
        for request in [request, dry] {
            let request = with(&request, "token", json!(token));
            let (code, error) = send(hnsw_toolbox_import, &request).unwrap_err();
            assert_eq!((code, error.as_str()), (400, "[E400] cancelled"));
        }
        assert!(contents(scratch.path()) == before);
    }
    assert!(hnsw_toolbox_token_free(token));
}

#[test]
fn import_errors_name_the_field_that_is_wrong() {
    let (store, scratch) = (store(), scratch());
    let new_dir = scratch.path().join("new");
    let before = contents(scratch.path());
    let into = scratch.path().join("empty");
    let request = json!({"sources": [store.dir()], "into_dir": into, "output_dir": new_dir});
    let not_a_name = [json!(1), json!({}), json!(""), json!("Skip"), json!("x\0")];
    let not_a_flag = [json!(null), json!(1), json!("true")];
    let not_texts = [json!(1), json!("a"), json!([1]), json!([null])];
    let not_a_text = [json!(1), json!(["a"])];
    let lists: Vec<_> = paths()
        .iter()
        .map(|path| json!([store.dir(), path]))
        .collect();
    refuses(
        hnsw_toolbox_import,
        &request,
        &[
            (
                "sources",
                &[json!(null), json!(7), json!("a"), json!({}), json!([])],
            ),
            ("sources", &lists),
            ("into_dir", &paths()),
            ("output_dir", &paths()),
            ("in_place", &not_a_flag),
            ("collections", &not_texts),
            ("columns", &[json!(1), json!("a"), json!(["id"])]),
            (
                "rename",
                &[json!(1), json!(["a"]), json!({"a": 1}), json!({"a": null})],
            ),
            ("rename", &[json!({"nobody": "somebody"})]),
            ("database", &not_a_text),
            ("tenant", &not_a_text),
            ("metric", &not_a_name),
            ("metric", &[json!("euclidean")]),
            (
                "m",
                &[
                    json!(1.5),
                    json!([]),
                    json!(-1),
                    json!(0),
                    json!(1),
                    json!(257),
                ],
            ),
            (
                "ef_construction",
                &[json!("5"), json!(0), json!(65537), json!(u64::MAX)],
            ),
            ("on_conflict", &not_a_name),
            ("on_conflict", &[json!(null)]),
            ("lists", &not_a_name),
            ("lists", &[json!(null)]),
            ("keep_incomplete", &not_a_flag),
            (
                "threads",
                &[json!(0), json!(-1), json!("1"), json!(1u64 << 40)],
            ),
            ("dry_run", &not_a_flag),
            ("token", &[json!(0), json!([1])]),
            ("io", &[json!("read")]),
            ("persist_dir", &[json!("x")]),
        ],
    );
    for (request, expected) in [
        (
            json!({}),
            "sources: found nothing, expected an array of paths",
        ),
        (json!({"sources": ["a"]}), "into_dir: found nothing"),
        (
            json!({"sources": ["a"], "into_dir": into}),
            "output_dir: found nothing, expected a path as a string, or \"in_place\": true",
        ),
        (
            with(&request, "in_place", json!(true)),
            "output_dir: found a path, expected none, because \"in_place\" is true",
        ),
        (
            with(&request, "columns", json!({"vector": 1})),
            "columns.vector: found 1, expected a string",
        ),
        (
            with(&request, "columns", json!({"metadata": "page"})),
            "columns.metadata: found \"page\", expected an array of strings, or null",
        ),
        (
            with(&request, "columns", json!({"ids": "a"})),
            "columns.ids: found an unknown field, expected one of id, vector, document, metadata",
        ),
        (
            with(&request, "m", json!(257)),
            "m: found 257, expected a number from 2 to 256",
        ),
        (
            with(&request, "ef_construction", json!(0)),
            "ef_construction: found 0, expected a number from 1 to 65536",
        ),
    ] {
        let (code, error) = send(hnsw_toolbox_import, &request).unwrap_err();
        assert_eq!(code, 101);
        assert!(error.starts_with(&format!("[E101] {expected}")), "{error}");
    }
    assert!(contents(scratch.path()) == before);
}

/// The response of an import in place has the resolved path, and each response the found files.
#[cfg(target_os = "linux")]
#[test]
fn a_response_never_lacks_a_path_that_is_not_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let (store, scratch) = (store(), scratch());
    let (empty, files) = (scratch.path().join("empty"), scratch.path().join("files"));
    let export = json!({"persist_dir": store.dir(), "collections": ["wal_purged"],
                        "output_path": scratch.path().join("out.parquet")});
    send(hnsw_toolbox_export, &export).unwrap();
    fs::create_dir(&files).unwrap();
    let name = OsStr::from_bytes(b"a\xff.parquet");
    fs::rename(scratch.path().join("out.parquet"), files.join(name)).unwrap();
    let request = json!({"sources": [files], "into_dir": empty,
                         "output_dir": scratch.path().join("new")});
    let response = send(hnsw_toolbox_import, &request).unwrap();
    let path = response["collections"][0]["origins"][0]["path"].as_str();
    assert!(path.unwrap().ends_with("a\\xFF.parquet"), "{path:?}");

    let target = scratch.path().join(OsStr::from_bytes(b"\xff"));
    fs::rename(&empty, &target).unwrap();
    let link = scratch.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let request = json!({"sources": [store.dir()], "into_dir": link, "in_place": true});
    let (code, error) = send(hnsw_toolbox_import, &request).unwrap_err();
    assert_eq!(code, 101);
    assert!(error.starts_with("[E101] into_dir: found "), "{error}");
    assert!(error.contains("UTF-8"), "{error}");
}
