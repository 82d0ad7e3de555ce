use std::ffi::{CStr, CString};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;
use std::thread;

use serde_json::{json, Value};
use tempfile::TempDir;

use super::*;

#[cfg(feature = "database")]
#[path = "import_tests.rs"]
mod imports;
#[cfg(feature = "database")]
#[path = "store_tests.rs"]
mod stores;

type Call = unsafe extern "C" fn(*const c_char) -> *mut c_char;
const CALLS: [Call; 5] = [
    hnsw_toolbox_extract_index,
    hnsw_toolbox_build_index,
    hnsw_toolbox_inspect,
    hnsw_toolbox_verify,
    hnsw_toolbox_repair_index,
];

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/chroma/1.5.9/churn/segment")
}

fn last_error() -> Option<String> {
    let text = hnsw_toolbox_get_last_error();
    (!text.is_null()).then(|| {
        unsafe { CStr::from_ptr(text) }
            .to_str()
            .unwrap()
            .to_string()
    })
}

/// Parts of the last error.
fn last_parts() -> Option<Value> {
    let json = hnsw_toolbox_get_last_error_json();
    (!json.is_null())
        .then(|| serde_json::from_slice(unsafe { CStr::from_ptr(json) }.to_bytes()).unwrap())
}

/// Returns the response, or the error's code and text.
fn raw(call: Call, request: *const c_char) -> Result<Value, (u32, String)> {
    let response = unsafe { call(request) };
    let code = hnsw_toolbox_get_last_error_code();
    if response.is_null() {
        let text = last_error().unwrap();
        let parts = last_parts().unwrap();
        let message = parts["message"].as_str().unwrap();
        assert_eq!(text, format!("[E{code}] {message}"));
        assert_eq!(parts["code"], code);
        return Err((code, text));
    }
    assert_eq!((last_error(), last_parts(), code), (None, None, 0));
    let value = serde_json::from_slice(unsafe { CStr::from_ptr(response) }.to_bytes()).unwrap();
    unsafe { hnsw_toolbox_free_string(response) };
    Ok(value)
}

fn text(call: Call, request: &str) -> Result<Value, (u32, String)> {
    raw(call, CString::new(request).unwrap().as_ptr())
}

fn send(call: Call, request: &Value) -> Result<Value, (u32, String)> {
    text(call, &request.to_string())
}

fn extract_request(directory: &TempDir) -> Value {
    json!({"index_dir": fixture(), "output_path": directory.path().join("out.parquet")})
}

fn build_request(directory: &TempDir) -> Value {
    let input = directory.path().join("in.parquet");
    if !input.exists() {
        let request = json!({"index_dir": fixture(), "output_path": input});
        send(hnsw_toolbox_extract_index, &request).unwrap();
    }
    json!({"input_path": input, "output_path": directory.path().join("out.hnsw")})
}

fn read_request() -> Value {
    json!({"index_dir": fixture()})
}

fn with(request: &Value, field: &str, value: Value) -> Value {
    let mut request = request.clone();
    request[field] = value;
    request
}

#[test]
fn versions_are_reported() {
    let version = unsafe { CStr::from_ptr(hnsw_toolbox_version()) };
    assert_eq!(version.to_str().unwrap(), env!("CARGO_PKG_VERSION"));
    assert_eq!(hnsw_toolbox_abi_version(), HNSW_TOOLBOX_ABI_VERSION);
}

#[test]
fn extract_response_matches_the_contract() {
    let directory = TempDir::new().unwrap();
    let request = extract_request(&directory);
    let expected: Value =
        serde_json::from_slice(&fs::read(fixture().join("../expected.json")).unwrap()).unwrap();
    let header = &expected["header"];
    let deleted = expected["deleted_records"].as_u64().unwrap();
    let mut summary = json!({
        "scanned": header["cur_element_count"],
        "emitted": expected["live_records"],
        "deleted_skipped": deleted,
        "dimension": expected["dim"],
        "index_properties": {
            "m": header["M"],
            "ef_construction": header["ef_construction"],
            "cur_element_count": header["cur_element_count"],
            "max_elements": header["max_elements"],
            "persisted_version": 1,
            "word_size_bytes": 8,
        },
    });
    let response = send(hnsw_toolbox_extract_index, &request).unwrap();
    assert_eq!(
        response,
        json!({
            "output_path": request["output_path"], "output_format": "parquet", "summary": summary,
            "complete": true,
        })
    );
    assert!(fs::read(directory.path().join("out.parquet"))
        .unwrap()
        .starts_with(b"PAR1"));

    summary["emitted"] = header["cur_element_count"].clone();
    summary["deleted_skipped"] = json!(0);
    let request = json!({
        "index_dir": fixture(), "output_path": directory.path().join("out.arrow"),
        "output_format": "arrow_ipc", "metadata_path": null, "include_deleted": true,
        "batch_size": 7, "vectors": "stored", "compression": "none", "row_group_bytes": 1000,
        "io": "read", "token": null,
    });
    let response = send(hnsw_toolbox_extract_index, &request).unwrap();
    assert_eq!(
        response,
        json!({
            "output_path": request["output_path"], "output_format": "arrow_ipc",
            "summary": summary, "complete": true,
        })
    );
    assert!(fs::read(directory.path().join("out.arrow"))
        .unwrap()
        .starts_with(b"ARROW1"));
}

#[test]
fn build_response_matches_the_contract() {
    let directory = TempDir::new().unwrap();
    let request = build_request(&directory);
    let response = send(hnsw_toolbox_build_index, &request).unwrap();
    let rows = response["summary"]["scanned"].clone();
    assert!(rows.as_u64().unwrap() > 900);
    let summary = json!({"scanned": rows, "inserted": rows, "deleted_skipped": 0, "dimension": 5});
    assert_eq!(
        response,
        json!({
            "input_path": request["input_path"], "output_path": request["output_path"],
            "input_format": "parquet", "metric": "euclidean", "summary": summary,
            "complete": true,
        })
    );
    assert!(fs::read(directory.path().join("out.hnsw"))
        .unwrap()
        .starts_with(b"HNSWNDX\0"));

    let full = json!({
        "input_path": request["input_path"], "output_path": request["output_path"],
        "input_format": "parquet", "metric": "squared_euclidean", "include_deleted": true,
        "m": 8, "m0": 16, "ef_construction": 40, "batch_size": 100, "capacity": 100_000,
        "seed": u64::MAX, "threads": 1, "engine": "hnsw_rs", "io": "read", "token": null,
    });
    let response = send(hnsw_toolbox_build_index, &full).unwrap();
    assert_eq!(response["metric"], "squared_euclidean");
    let nulls = json!({
        "input_path": request["input_path"], "output_path": request["output_path"],
        "m0": null, "capacity": null, "seed": null, "threads": null,
    });
    send(hnsw_toolbox_build_index, &nulls).unwrap();
}

/// A complete report, as a C program receives it.
fn parsed(report: &impl serde::Serialize) -> Value {
    let report = serde_json::from_str(&serde_json::to_string(report).unwrap()).unwrap();
    with(&report, "complete", json!(true))
}

#[test]
fn inspect_and_verify_return_the_reports_of_the_library() {
    let expected: Value =
        serde_json::from_slice(&fs::read(fixture().join("../expected.json")).unwrap()).unwrap();
    for io in ["mmap", "read"] {
        let request = with(&read_request(), "io", json!(io));
        let report = send(hnsw_toolbox_inspect, &request).unwrap();
        let options = toolbox::InspectOptions::default();
        let same = toolbox::inspect_index(fixture(), &options, &toolbox::Monitor::default());
        assert_eq!(report, parsed(&same.unwrap()));
        assert_eq!(report["live"], expected["live_records"]);
        assert_eq!(report["header"]["m"], expected["header"]["M"]);

        let report = send(hnsw_toolbox_verify, &request).unwrap();
        let options = toolbox::VerifyOptions::default();
        let same = toolbox::verify_index(fixture(), &options, &toolbox::Monitor::default());
        assert_eq!(report, parsed(&same.unwrap()));
        assert_eq!(report["deleted"], expected["deleted_records"]);
        assert_eq!(report["state"], "healthy");
    }
}

#[test]
fn a_damaged_index_is_a_report_not_an_error() {
    let directory = TempDir::new().unwrap();
    // Only the header: the records are missing.
    fs::copy(
        fixture().join("header.bin"),
        directory.path().join("header.bin"),
    )
    .unwrap();
    let request = json!({"index_dir": directory.path()});
    let report = send(hnsw_toolbox_verify, &request).unwrap();
    assert_eq!(report["state"], "torn_data");
    assert_eq!(report["damaged"], true);
    assert_eq!(report["findings"][0]["code"], "level0.missing");
    let (code, error) = send(hnsw_toolbox_inspect, &request).unwrap_err();
    assert_eq!(code, 300);
    assert!(error.contains("data_level0.bin"), "{error}");
}

#[test]
fn inspect_and_verify_errors_name_the_field_that_is_wrong() {
    for call in [hnsw_toolbox_inspect as Call, hnsw_toolbox_verify] {
        refuses(
            call,
            &read_request(),
            &[
                ("index_dir", &paths()),
                ("io", &[json!(null), json!("Mmap"), json!(1)]),
                ("token", &[json!(0), json!("1"), json!(true)]),
                ("output_path", &[json!("x")]),
            ],
        );
    }
}

#[test]
fn repair_response_reports_the_repaired_index() {
    let directory = TempDir::new().unwrap();
    let request = json!({"index_dir": fixture(), "output_path": directory.path().join("new")});
    let response = send(hnsw_toolbox_repair_index, &request).unwrap();
    assert_eq!(response["output_path"], request["output_path"]);
    let summary = &response["summary"];
    assert_eq!(summary["state_before"], "healthy");
    assert_eq!(summary["scanned"], 1140);
    assert_eq!(summary["metric"], Value::Null);
    assert_eq!(summary["metric_source"], "unknown");
    assert_eq!(summary["links"], "keep");
    assert_eq!(summary["compared_by"], "squared_euclidean");
    assert_eq!(
        summary["index_properties"]["cur_element_count"],
        summary["records"]
    );
    assert!(directory.path().join("new/header.bin").is_file());

    let (code, error) = send(hnsw_toolbox_repair_index, &request).unwrap_err();
    assert_eq!(code, 301, "{error}");

    let full = json!({
        "index_dir": fixture(), "output_path": directory.path().join("full"), "links": "build",
        "metric": "l2", "dimension": null, "m": null, "threads": 1, "io": "read", "token": null,
    });
    let response = send(hnsw_toolbox_repair_index, &full).unwrap();
    assert_eq!(response["summary"]["links"], "build");
    assert_eq!(response["summary"]["metric_source"], "option");
}

#[test]
fn repair_errors_name_the_field_that_is_wrong() {
    let directory = TempDir::new().unwrap();
    let request = json!({"index_dir": fixture(), "output_path": directory.path().join("new")});
    let not_a_name = [json!(1), json!({}), json!(""), json!("Keep"), json!("x\0")];
    refuses(
        hnsw_toolbox_repair_index,
        &request,
        &[
            ("index_dir", &paths()),
            ("output_path", &paths()),
            ("links", &not_a_name),
            ("metric", &not_a_name),
            ("metric", &[json!("euclidean")]),
            ("io", &[json!(null), json!("mmap2")]),
            ("dimension", &[json!(-1), json!("5")]),
            ("m", &[json!(1.5), json!([])]),
            (
                "threads",
                &[json!(0), json!(-1), json!("1"), json!(1u64 << 40)],
            ),
            ("token", &[json!(0), json!([1])]),
            ("salvage", &[json!(true)]),
        ],
    );
    assert!(!directory.path().join("new").exists());
}

#[test]
fn malformed_requests_are_refused() {
    for call in CALLS {
        assert_eq!(raw(call, ptr::null()).unwrap_err().0, 100);
        for bytes in [&b"\xff\xfe\0"[..], b"{\"index_dir\": \"\xc3\"}\0"] {
            let (code, error) = raw(call, bytes.as_ptr().cast()).unwrap_err();
            assert_eq!(code, 100);
            assert!(error.contains("UTF-8"), "{error}");
        }
        for request in [
            "",
            " ",
            "null",
            "7",
            "\"\"",
            "[]",
            "[{}]",
            "{",
            "{}x",
            "{\"a\":1,}",
        ] {
            let (code, error) = text(call, request).unwrap_err();
            assert_eq!(code, 100, "{request}: {error}");
        }
    }
}

#[test]
fn huge_and_deeply_nested_requests_are_refused() {
    // 100 times the longest request: reading must stop long before the end.
    let huge = vec![b' '; 100 << 20];
    let huge = CString::new(huge).unwrap();
    for call in CALLS {
        let (code, error) = raw(call, huge.as_ptr()).unwrap_err();
        assert_eq!(code, 100);
        assert!(error.contains("1048576"), "{error}");
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            // serde_json accepts 127 levels. 100,000 would overflow the stack of a recursive
            // parser.
            for depth in [127, 128, 100_000] {
                let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                for request in [
                    nested.clone(),
                    open.repeat(depth),
                    format!("{{\"m\":{nested}}}"),
                ] {
                    assert!((100..=101).contains(&text(call, &request).unwrap_err().0));
                }
            }
        }
    }
}

#[test]
fn a_request_of_the_largest_size_is_read() {
    let directory = TempDir::new().unwrap();
    let request = extract_request(&directory).to_string();
    // Spaces after the object are valid JSON.
    let padding = boundary::MAX_REQUEST_BYTES - request.len();
    text(
        hnsw_toolbox_extract_index,
        &format!("{request}{}", " ".repeat(padding)),
    )
    .unwrap();
    let (code, _) = text(
        hnsw_toolbox_extract_index,
        &format!("{request}{}", " ".repeat(padding + 1)),
    )
    .unwrap_err();
    assert_eq!(code, 100);
}

/// Sends wrong values for each field of a request. Every error must have code 101 and name the
/// field.
fn refuses(call: Call, request: &Value, cases: &[(&str, &[Value])]) {
    for (field, values) in cases {
        for value in *values {
            let (code, error) = send(call, &with(request, field, value.clone())).unwrap_err();
            assert_eq!(code, 101, "{field} = {value}: {error}");
            assert!(
                error.starts_with(&format!("[E101] {field}: found ")),
                "{field} = {value}: {error}"
            );
        }
    }
}

fn paths() -> Vec<Value> {
    vec![
        json!(null),
        json!(7),
        json!(["a"]),
        json!(""),
        json!("a\0b"),
        json!("\0"),
    ]
}

#[test]
fn extract_errors_name_the_field_that_is_wrong() {
    let directory = TempDir::new().unwrap();
    let request = extract_request(&directory);
    let not_a_name = [
        json!(null),
        json!(1),
        json!({}),
        json!(""),
        json!("Parquet"),
        json!("x\0"),
    ];
    let not_a_count = [
        json!(null),
        json!("1"),
        json!(-1),
        json!(1.5),
        json!(1e30),
        json!(0),
    ];
    refuses(
        hnsw_toolbox_extract_index,
        &request,
        &[
            ("index_dir", &paths()),
            ("output_path", &paths()),
            ("metadata_path", &paths()[1..]),
            ("output_format", &not_a_name),
            ("vectors", &not_a_name),
            ("compression", &not_a_name),
            ("io", &not_a_name),
            ("include_deleted", &[json!(null), json!(1), json!("true")]),
            ("batch_size", &not_a_count),
            ("batch_size", &[json!(u64::MAX), json!(1u64 << 40)]),
            ("row_group_bytes", &not_a_count),
            (
                "token",
                &[
                    json!(0),
                    json!(u64::MAX),
                    json!("1"),
                    json!(-1),
                    json!(true),
                ],
            ),
            ("batchsize", &[json!(1), json!(null)]),
            ("m", &[json!(16)]),
        ],
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn build_errors_name_the_field_that_is_wrong() {
    let directory = TempDir::new().unwrap();
    let request = build_request(&directory);
    let not_a_name = [
        json!(null),
        json!(1),
        json!({}),
        json!(""),
        json!("Cosine"),
        json!("x\0"),
    ];
    let not_a_count = [
        json!(null),
        json!("1"),
        json!(-1),
        json!(1.5),
        json!(0),
        json!(u64::MAX),
    ];
    refuses(
        hnsw_toolbox_build_index,
        &request,
        &[
            ("input_path", &paths()),
            ("output_path", &paths()),
            ("input_format", &not_a_name),
            ("vector_column", &[json!(1), json!(["vector"])]),
            ("label_column", &[json!(1), json!("vector")]),
            ("metric", &not_a_name),
            ("engine", &not_a_name),
            ("io", &not_a_name),
            ("row_numbers", &[json!(null), json!(1), json!("true")]),
            ("include_deleted", &[json!(null), json!(1), json!("true")]),
            ("m", &not_a_count),
            ("m", &[json!(1), json!(257), json!(1u64 << 40)]),
            ("m0", &not_a_count[1..]),
            ("ef_construction", &not_a_count),
            ("batch_size", &not_a_count),
            ("capacity", &[json!(0), json!(-1), json!("1")]),
            ("seed", &[json!(-1), json!(1e30), json!("1"), json!(0.5)]),
            ("threads", &not_a_count[1..]),
            ("token", &[json!(0), json!(u64::MAX), json!([1])]),
            ("index_dir", &[json!("x")]),
            ("M", &[json!(16)]),
        ],
    );
    assert!(!directory.path().join("out.hnsw").exists());
}

#[test]
fn a_missing_required_field_is_named() {
    for (call, fields) in CALLS.into_iter().zip([
        &["index_dir", "output_path"][..],
        &["input_path", "output_path"],
        &["index_dir"],
        &["index_dir"],
        &["index_dir", "output_path"],
    ]) {
        let directory = TempDir::new().unwrap();
        for missing in fields {
            let mut request = json!({});
            for field in fields.iter().filter(|field| *field != missing) {
                request[field] = json!(directory.path());
            }
            let (code, error) = send(call, &request).unwrap_err();
            assert_eq!(code, 101);
            assert!(
                error.starts_with(&format!("[E101] {missing}: found nothing")),
                "{error}"
            );
        }
    }
}

#[test]
fn long_values_are_shortened_in_errors() {
    let directory = TempDir::new().unwrap();
    let long = json!("ü".repeat(100_000));
    for request in [
        with(&extract_request(&directory), "output_format", long.clone()),
        with(&extract_request(&directory), "batch_size", long.clone()),
        with(
            &extract_request(&directory),
            long.as_str().unwrap(),
            json!(1),
        ),
    ] {
        let (code, error) = send(hnsw_toolbox_extract_index, &request).unwrap_err();
        assert_eq!(code, 101);
        // Far below the 200,000 bytes of the value.
        assert!(error.len() < 1000, "{} bytes", error.len());
    }
}

#[test]
fn paths_that_cannot_be_used_are_errors_of_the_operating_system() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    let (nowhere, below_a_file) = (directory.path().join("nowhere"), file.join("out"));
    let (extract, build) = (extract_request(&directory), build_request(&directory));
    for (call, request, field, path) in [
        (CALLS[0], &extract, "index_dir", &nowhere),
        (CALLS[0], &extract, "index_dir", &file),
        (CALLS[0], &extract, "metadata_path", &nowhere),
        (
            CALLS[0],
            &extract,
            "output_path",
            &directory.path().to_path_buf(),
        ),
        (CALLS[0], &extract, "output_path", &below_a_file),
        (CALLS[1], &build, "input_path", &nowhere),
        (
            CALLS[1],
            &build,
            "input_path",
            &directory.path().to_path_buf(),
        ),
        (
            CALLS[1],
            &build,
            "output_path",
            &directory.path().to_path_buf(),
        ),
        (CALLS[1], &build, "output_path", &below_a_file),
    ] {
        let (code, error) = send(call, &with(request, field, json!(path))).unwrap_err();
        assert!((300..400).contains(&code), "{field} = {path:?}: {error}");
        assert!(
            error.contains(path.file_name().unwrap().to_str().unwrap()),
            "{error}"
        );
    }
    #[cfg(target_os = "linux")]
    for path in ["/proc/out", "/dev/null", "/dev/full"] {
        let (code, error) =
            send(CALLS[0], &with(&extract, "output_path", json!(path))).unwrap_err();
        assert!((300..400).contains(&code), "{path}: {error}");
    }
}

#[test]
fn last_error_belongs_to_the_threads_last_call() {
    let directory = TempDir::new().unwrap();
    let good = extract_request(&directory);
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(
                (last_error(), hnsw_toolbox_get_last_error_code()),
                (None, 0)
            );
            // A new thread starts without an error; this call sets one.
            text(CALLS[0], "{}").unwrap_err();
            let first = last_error().unwrap();

            // Another thread's calls do not change this thread's error. The functions without an
            // error of their own do not either.
            thread::scope(|inner| {
                inner.spawn(|| {
                    assert_eq!(last_error(), None);
                    text(CALLS[1], "[]").unwrap_err();
                });
            });
            unsafe { hnsw_toolbox_free_string(ptr::null_mut()) };
            hnsw_toolbox_token_cancel(0);
            hnsw_toolbox_token_free(hnsw_toolbox_token_new());
            hnsw_toolbox_version();
            assert_eq!(last_error().unwrap(), first);
            assert_eq!(hnsw_toolbox_get_last_error_code(), 101);

            send(CALLS[0], &good).unwrap();
            assert_eq!(
                (last_error(), hnsw_toolbox_get_last_error_code()),
                (None, 0)
            );
        });
    });
}

#[test]
fn the_parts_of_an_error_are_json() {
    let parts = |request: &Value| {
        send(hnsw_toolbox_inspect, request).unwrap_err();
        let mut parts = last_parts().unwrap();
        let message = parts["message"].take();
        (parts, message.as_str().unwrap().to_string())
    };
    let directory = TempDir::new().unwrap();
    // A control character is escaped in the message, and not in the path.
    let index = directory.path().join("a\nb");
    fs::create_dir(&index).unwrap();
    for name in ["header.bin", "index_metadata.pickle"] {
        fs::copy(fixture().join(name), index.join(name)).unwrap();
    }
    let header = index.join("header.bin");
    fs::write(&header, [0; 7]).unwrap();
    let (found, message) = parts(&json!({"index_dir": index}));
    let expected = found["expected"].as_str().unwrap();
    let text = format!(
        "{}: length: found 7 bytes, expected {expected}",
        header.display()
    );
    assert_eq!(message, text.replace('\n', "\\n"));
    assert_eq!(
        found,
        json!({"code": 200, "name": "CORRUPT_INDEX", "message": null, "path": header,
               "field": "length", "offset": null, "found": "7 bytes", "expected": expected})
    );

    let none = directory.path().join("none");
    assert_eq!(
        parts(&json!({"index_dir": none})).0,
        json!({"code": 300, "name": "IO", "message": null, "path": none,
               "field": null, "offset": null, "found": null, "expected": null})
    );
    let (found, _) = parts(&json!({"index_dir": none, "io": 3}));
    assert_eq!(found["name"], "INVALID_ARGUMENT");
    assert_eq!(
        (&found["path"], &found["field"]),
        (&Value::Null, &json!("io"))
    );
    assert_eq!(found["found"], "3");

    // The offset of a pickle that ends early.
    let index = directory.path().join("index");
    fs::create_dir(&index).unwrap();
    for file in fs::read_dir(fixture()).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, index.join(path.file_name().unwrap())).unwrap();
    }
    let pickle = index.join("index_metadata.pickle");
    fs::write(&pickle, b"\x80\x04").unwrap();
    let request = json!({"index_dir": index, "output_path": directory.path().join("out"),
                         "metadata_path": pickle});
    assert_eq!(
        send(hnsw_toolbox_extract_index, &request).unwrap_err().0,
        201
    );
    let found = last_parts().unwrap();
    assert_eq!(
        (&found["path"], &found["offset"]),
        (&json!(pickle), &json!(2))
    );
    assert_eq!(found["field"], Value::Null);
}

#[test]
fn the_header_lists_the_code_of_each_kind_of_error() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/hnsw_toolbox.h");
    let header = fs::read_to_string(header).unwrap();
    let listed: Vec<_> = header
        .lines()
        .filter_map(|line| line.trim().strip_prefix("HNSW_TOOLBOX_CODE_"))
        .map(|line| line.trim_end_matches(',').to_string())
        .collect();
    let kinds: Vec<_> = toolbox::ErrorKind::ALL
        .iter()
        .map(|kind| format!("{} = {}", kind.name(), kind.code()))
        .collect();
    assert_eq!(listed, kinds);
}

#[test]
fn calls_run_concurrently() {
    let directory = TempDir::new().unwrap();
    let input = build_request(&directory)["input_path"].clone();
    thread::scope(|scope| {
        for worker in 0..8 {
            let (directory, input) = (&directory, &input);
            scope.spawn(move || {
                let out = directory.path().join(format!("out-{worker}"));
                let (call, request, magic) = if worker % 2 == 0 {
                    let request = json!({"index_dir": fixture(), "output_path": out});
                    (CALLS[0], request, &b"PAR1"[..])
                } else {
                    let request =
                        json!({"input_path": input, "output_path": out, "ef_construction": 20});
                    (CALLS[1], request, &b"HNSWNDX"[..])
                };
                for _ in 0..3 {
                    send(call, &request).unwrap();
                    assert!(fs::read(&out).unwrap().starts_with(magic));
                    let wrong = with(&request, &format!("worker-{worker}"), json!(1));
                    let (_, error) = send(call, &wrong).unwrap_err();
                    assert!(error.contains(&format!("worker-{worker}")), "{error}");
                }
            });
        }
    });
}

#[test]
fn a_cancelled_token_stops_a_call_and_leaves_no_file() {
    let directory = TempDir::new().unwrap();
    let (extract, build) = (extract_request(&directory), build_request(&directory));
    let token = hnsw_toolbox_token_new();
    assert!(hnsw_toolbox_token_cancel(token));
    for (call, request) in [(CALLS[0], extract), (CALLS[1], build)] {
        let (code, error) = send(call, &with(&request, "token", json!(token))).unwrap_err();
        assert_eq!((code, error.as_str()), (400, "[E400] cancelled"));
        assert!(!Path::new(request["output_path"].as_str().unwrap()).exists());
    }
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    // Only the input of the build is left.
    assert_eq!(names.len(), 1, "{names:?}");
    for call in [CALLS[2], CALLS[3]] {
        let request = with(&read_request(), "token", json!(token));
        let (code, error) = send(call, &request).unwrap_err();
        assert_eq!((code, error.as_str()), (400, "[E400] cancelled"));
    }
    assert!(hnsw_toolbox_token_free(token));
}

#[test]
fn a_token_reports_progress_until_it_is_freed() {
    let directory = TempDir::new().unwrap();
    for request in [
        (CALLS[0], extract_request(&directory)),
        (CALLS[1], build_request(&directory)),
        (CALLS[2], read_request()),
        (CALLS[3], read_request()),
    ] {
        let token = hnsw_toolbox_token_new();
        let (mut done, mut total) = (7, 7);
        assert!(unsafe { hnsw_toolbox_token_progress(token, &mut done, &mut total) });
        assert_eq!((done, total), (0, 0));
        send(request.0, &with(&request.1, "token", json!(token))).unwrap();
        assert!(unsafe { hnsw_toolbox_token_progress(token, &mut done, &mut total) });
        assert!(done == total && total > 900, "{done} of {total}");
        assert!(unsafe { hnsw_toolbox_token_progress(token, ptr::null_mut(), ptr::null_mut()) });

        assert!(hnsw_toolbox_token_free(token));
        assert!(!hnsw_toolbox_token_free(token));
        assert!(!hnsw_toolbox_token_cancel(token));
        (done, total) = (7, 7);
        assert!(!unsafe { hnsw_toolbox_token_progress(token, &mut done, &mut total) });
        assert_eq!((done, total), (7, 7));
        let (code, error) = send(request.0, &with(&request.1, "token", json!(token))).unwrap_err();
        assert_eq!(code, 101);
        assert!(error.contains("live token"), "{error}");
    }
}

#[test]
fn tokens_may_be_used_from_many_threads() {
    let token = hnsw_toolbox_token_new();
    let freed: usize = thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        hnsw_toolbox_token_cancel(token);
                        let own = hnsw_toolbox_token_new();
                        assert!(own > token);
                        assert!(hnsw_toolbox_token_cancel(own));
                        assert!(hnsw_toolbox_token_free(own));
                    }
                    usize::from(hnsw_toolbox_token_free(token))
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    // Eight threads try to free the token; exactly one succeeds.
    assert_eq!(freed, 1);
}

#[test]
fn a_panic_becomes_an_error_at_the_boundary() {
    struct PanicsWhenDropped;
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("while dropping");
        }
    }
    // On a thread of its own, so that no other test sees its last error.
    thread::spawn(|| {
        let value = boundary!(7, {
            if hnsw_toolbox_abi_version() > 0 {
                panic!("with a NUL\0 inside");
            }
            8
        });
        assert_eq!(value, 7);
        assert_eq!(
            last_error().unwrap(),
            "[E900] internal error: with a NUL\\0 inside"
        );
        assert_eq!(hnsw_toolbox_get_last_error_code(), 900);

        boundary!((), std::panic::panic_any(PanicsWhenDropped));
        assert_eq!(
            last_error().unwrap(),
            "[E900] internal error: a panic without a message"
        );
    })
    .join()
    .unwrap();
}

#[test]
fn every_entry_point_stands_behind_the_boundary() {
    let source = include_str!("abi.rs");
    let mut entries = 0;
    for entry in source.split("#[no_mangle]").skip(1) {
        let (_, body) = entry.split_once(" {\n").unwrap();
        assert!(body.trim_start().starts_with("boundary!("), "{entry}");
        entries += 1;
    }
    // A new entry point must be counted here, so that nobody adds one without the check.
    assert_eq!(entries, 25);
}

/// Builds and opens an index of the fixture's 960 vectors.
fn open_index(directory: &TempDir, more: &Value) -> u64 {
    let mut request = build_request(directory);
    // Seeded, so that every test searches the same graph.
    request["seed"] = json!(1);
    send(hnsw_toolbox_build_index, &request).unwrap();
    let mut open = json!({"index_path": request["output_path"]});
    for (name, value) in more.as_object().unwrap() {
        open[name] = value.clone();
    }
    let open = CString::new(open.to_string()).unwrap();
    unsafe { hnsw_toolbox_index_open(open.as_ptr()) }
}

#[test]
fn a_search_writes_to_the_arrays_of_the_caller() {
    let directory = TempDir::new().unwrap();
    for (io, load) in [("mmap", false), ("read", false), ("read", true)] {
        let options = json!({"io": io, "load": load, "metric": "euclidean"});
        let index = open_index(&directory, &options);
        assert_ne!(index, 0, "{:?}", last_error());
        let (mut vectors, mut dimension) = (0, 0);
        assert!(unsafe { hnsw_toolbox_index_shape(index, &raw mut vectors, &raw mut dimension) });
        assert_eq!((vectors, dimension), (960, 5));
        assert!(unsafe { hnsw_toolbox_index_shape(index, ptr::null_mut(), ptr::null_mut()) });

        // Three queries, with room for one neighbour more than there are vectors.
        let queries = [0.5_f32; 15];
        let k = 961_u64;
        let mut labels = vec![u64::MAX; 3 * 961];
        let mut distances = vec![-1.0_f32; 3 * 961];
        let mut found = [0_u64; 3];
        for threads in [0, 1, 2] {
            let searched = unsafe {
                hnsw_toolbox_index_search(
                    index,
                    queries.as_ptr(),
                    3,
                    5,
                    k,
                    960,
                    threads,
                    labels.as_mut_ptr(),
                    distances.as_mut_ptr(),
                    found.as_mut_ptr(),
                )
            };
            assert!(searched, "{:?}", last_error());
            assert_eq!(
                (last_error(), hnsw_toolbox_get_last_error_code()),
                (None, 0)
            );
            for row in 0..3 {
                let count = usize::try_from(found[row]).unwrap();
                // The search is approximate: with ef = 960 it finds nearly all of the 960 vectors.
                assert!((900..=960).contains(&count));
                let (labels, distances) =
                    (&labels[row * 961..][..961], &distances[row * 961..][..961]);
                assert!(distances[..count].is_sorted());
                assert!(labels[..count].iter().all(|label| *label != u64::MAX));
                // Places beyond the results are not written.
                assert!(labels[count..].iter().all(|label| *label == u64::MAX));
                assert!(distances[count..].iter().all(|distance| *distance == -1.0));
            }
        }
        // No queries, or no arrays for the results.
        let search = |count, labels: *mut u64| unsafe {
            hnsw_toolbox_index_search(
                index,
                queries.as_ptr(),
                count,
                5,
                1,
                1,
                1,
                labels,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        assert!(search(0, ptr::null_mut()));
        assert!(search(3, ptr::null_mut()));
        assert!(search(1, labels.as_mut_ptr()));

        assert!(hnsw_toolbox_index_close(index));
        assert!(!hnsw_toolbox_index_close(index));
        assert!(!search(1, ptr::null_mut()));
        assert_eq!(hnsw_toolbox_get_last_error_code(), 101);
        assert!(last_error()
            .unwrap()
            .contains("the number of an open index"));
        assert!(!unsafe { hnsw_toolbox_index_shape(index, ptr::null_mut(), ptr::null_mut()) });
    }
}

#[test]
fn invalid_searches_are_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let index = open_index(&directory, &json!({"metric": null}));
    let query = [0.5_f32; 6];
    let not_finite = [0.5, f32::NAN, 0.5, 0.5, 0.5];
    let refused = |queries: *const f32, count, dimension, k, threads| {
        let searched = unsafe {
            hnsw_toolbox_index_search(
                index,
                queries,
                count,
                dimension,
                k,
                10,
                threads,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        assert!(!searched);
        assert_eq!(hnsw_toolbox_get_last_error_code(), 101);
        last_error().unwrap()
    };
    let numbers = query.as_ptr();
    for (found, expected) in [
        (refused(ptr::null(), 1, 5, 1, 1), "queries: found NULL"),
        (
            refused(numbers.wrapping_byte_add(1), 1, 5, 1, 1),
            "queries: found a misaligned address",
        ),
        (
            refused(numbers, 1, 6, 1, 1),
            "dimension: found 6, expected 5",
        ),
        (
            refused(numbers, u64::MAX, 5, 1, 1),
            "queries: found 18446744073709551615 × 5",
        ),
        (refused(numbers, 1, 5, 0, 1), "k: found 0"),
        (
            refused(numbers, 3, 5, u64::MAX, 1),
            "k: found 3 × 18446744073709551615",
        ),
        (
            refused(numbers, 1, 5, 1, u64::MAX),
            "threads: found 18446744073709551615",
        ),
        (
            refused(not_finite.as_ptr(), 1, 5, 1, 1),
            "query 0: found NaN at element 1",
        ),
    ] {
        assert!(found.contains(expected), "{found}");
    }
    assert!(hnsw_toolbox_index_close(index));

    for (request, code, expected) in [
        (json!({}), 101, "index_path"),
        (json!({"index_path": "/nowhere/x.hnsw"}), 300, "/nowhere"),
        (
            json!({"index_path": fixture().join("header.bin")}),
            200,
            "length: found 100 bytes",
        ),
        (json!({"index_path": "x", "metric": "l3"}), 101, "metric"),
        (json!({"index_path": "x", "k": 1}), 101, "unknown field"),
    ] {
        let request = CString::new(request.to_string()).unwrap();
        assert_eq!(unsafe { hnsw_toolbox_index_open(request.as_ptr()) }, 0);
        assert_eq!(hnsw_toolbox_get_last_error_code(), code);
        assert!(
            last_error().unwrap().contains(expected),
            "{:?}",
            last_error()
        );
    }
    assert_eq!(unsafe { hnsw_toolbox_index_open(ptr::null()) }, 0);
    assert_eq!(hnsw_toolbox_get_last_error_code(), 100);
    assert_eq!(open_index(&directory, &json!({"metric": "cosine"})), 0);
    assert!(last_error()
        .unwrap()
        .contains("found cosine, expected euclidean"));
}

#[test]
fn many_threads_search_an_index_while_it_is_closed() {
    let directory = TempDir::new().unwrap();
    let index = open_index(&directory, &json!({}));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(move || {
                let query = [0.25_f32; 5];
                let (mut label, mut distance, mut found) = (0, 0.0, 0);
                for _ in 0..200 {
                    let searched = unsafe {
                        hnsw_toolbox_index_search(
                            index,
                            query.as_ptr(),
                            1,
                            5,
                            1,
                            20,
                            1,
                            &raw mut label,
                            &raw mut distance,
                            &raw mut found,
                        )
                    };
                    if searched {
                        assert_eq!(found, 1);
                    } else {
                        assert_eq!(hnsw_toolbox_get_last_error_code(), 101);
                    }
                }
            });
        }
        scope.spawn(move || {
            // Long enough for the searches to have started.
            thread::sleep(std::time::Duration::from_millis(5));
            assert!(hnsw_toolbox_index_close(index));
        });
    });
}

#[test]
fn damaged_vectors_are_left_out_of_results_and_counted() {
    let directory = TempDir::new().unwrap();
    assert!(hnsw_toolbox_index_close(open_index(&directory, &json!({}))));
    let path = build_request(&directory)["output_path"].clone();
    let path = path.as_str().unwrap();
    let mut bytes = fs::read(path).unwrap();
    for node in [3, 500] {
        // The vectors of a graph file start at byte 256; 5 components take 20 bytes.
        bytes[256 + 20 * node..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    }
    fs::write(path, bytes).unwrap();
    let report = send(hnsw_toolbox_verify, &json!({"index_dir": path})).unwrap();
    let finding = &report["findings"][0];
    assert_eq!(
        (&report["damaged"], &finding["code"], &finding["count"]),
        (&json!(true), &json!("vectors.not_finite"), &json!(2))
    );
    let request = CString::new(json!({"index_path": path}).to_string()).unwrap();
    let index = unsafe { hnsw_toolbox_index_open(request.as_ptr()) };
    let mut damaged = 7;
    assert!(unsafe { hnsw_toolbox_index_damaged(index, &raw mut damaged) });
    assert_eq!(damaged, 0);
    let query = [0.5_f32; 5];
    let mut distances = vec![-1.0_f32; 960];
    let mut found = 0_u64;
    assert!(unsafe {
        hnsw_toolbox_index_search(
            index,
            query.as_ptr(),
            1,
            5,
            960,
            960,
            1,
            ptr::null_mut(),
            distances.as_mut_ptr(),
            &raw mut found,
        )
    });
    assert_eq!(found, 958);
    assert!(distances[..958].is_sorted() && distances[958..] == [-1.0; 2]);
    assert!(unsafe { hnsw_toolbox_index_damaged(index, &raw mut damaged) });
    assert_eq!(damaged, 2);
    assert!(unsafe { hnsw_toolbox_index_damaged(index, ptr::null_mut()) });
    assert!(hnsw_toolbox_index_close(index));
    assert!(!unsafe { hnsw_toolbox_index_damaged(index, &raw mut damaged) });
    assert_eq!((damaged, hnsw_toolbox_get_last_error_code()), (2, 101));
}
