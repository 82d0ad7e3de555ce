//! The command line: exit statuses, contents of standard output and error, signals.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::*;
use hnsw_toolbox::ColumnarFormat;
use serde_json::{json, Value};

fn fixture(case: &str) -> PathBuf {
    fixtures_root().join(case).join("segment")
}

fn run(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(BINARY);
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    command.output().unwrap()
}

#[track_caller]
fn assert_silent_success(output: &Output) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.is_empty(), "{error}");
    assert_eq!(output.status.code(), Some(0));
}

/// Asserts a failure explained on standard error alone, and returns the explanation.
#[track_caller]
fn assert_failure(output: &Output, status: i32) -> String {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{error}");
    assert!(output.stdout.is_empty());
    assert!(!error.is_empty());
    assert!(!error.contains("panicked"), "{error}");
    error
}

/// Parses the output of `--json`, which must be one object on one line.
#[track_caller]
fn answer(output: &Output) -> Value {
    assert_silent_success(output);
    let printed = std::str::from_utf8(&output.stdout).unwrap();
    assert_eq!(printed.lines().count(), 1, "{printed}");
    assert!(printed.ends_with('\n'));
    let answer: Value = serde_json::from_str(printed).unwrap();
    assert!(answer.is_object());
    answer
}

#[test]
fn extract_json_prints_only_the_response_object_of_the_contract() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, format) in [("out.parquet", "parquet"), ("out.arrow", "arrow_ipc")] {
        let path = scratch.path().join(name);
        for (more, emitted) in [(&[][..], 960), (&["--include-deleted"], 1140)] {
            let output = Command::new(BINARY)
                .arg("extract")
                .arg(fixture("1.5.9/churn"))
                .arg("--output")
                .arg(&path)
                .arg("--json")
                .args(more)
                .output()
                .unwrap();
            let expected = json!({
                "output_path": path.to_str().unwrap(),
                "output_format": format,
                "summary": {
                    "scanned": 1140,
                    "emitted": emitted,
                    "deleted_skipped": 1140 - emitted,
                    "dimension": 5,
                    "index_properties": {
                        "m": 16,
                        "ef_construction": 100,
                        "cur_element_count": 1140,
                        "max_elements": 2048,
                        "persisted_version": 1,
                        "word_size_bytes": 8,
                    },
                },
            });
            assert_contains(&answer(&output), &expected);
        }
    }
}

/// The contract permits new fields, but no changes of existing ones.
#[track_caller]
fn assert_contains(found: &Value, expected: &Value) {
    match expected {
        Value::Object(fields) => {
            for (key, value) in fields {
                assert_contains(&found[key], value);
            }
        }
        value => assert_eq!(found, value),
    }
}

#[test]
fn the_output_path_is_echoed_unchanged() {
    let scratch = tempfile::tempdir().unwrap();
    let output = Command::new(BINARY)
        .current_dir(scratch.path())
        .arg("extract")
        .arg(fixture("1.5.9/ip"))
        .args(["-o", "sub/../out.parquet", "--json"])
        .output()
        .unwrap();
    // `sub` does not exist and is created as a missing parent.
    assert_eq!(answer(&output)["output_path"], "sub/../out.parquet");
    assert!(scratch.path().join("out.parquet").is_file());
}

#[test]
fn without_json_a_sentence_reports_the_result() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("out.parquet");
    let output = run(&[&"extract", &fixture("1.5.9/churn"), &"-o", &path]);
    assert_silent_success(&output);
    let printed = String::from_utf8(output.stdout).unwrap();
    for part in [path.to_str().unwrap(), "960 rows", "180 deleted"] {
        assert!(printed.contains(part), "{printed}");
    }
}

#[test]
fn the_extension_determines_the_default_format() {
    let scratch = tempfile::tempdir().unwrap();
    let index = fixture("1.5.9/ip");
    for (name, format) in [
        ("a.parquet", ColumnarFormat::Parquet),
        ("a.PARQUET", ColumnarFormat::Parquet),
        ("a.arrow", ColumnarFormat::ArrowIpc),
        ("a.ipc", ColumnarFormat::ArrowIpc),
        ("a.feather", ColumnarFormat::ArrowIpc),
    ] {
        let path = scratch.path().join(name);
        assert_silent_success(&run(&[&"extract", &index, &"-o", &path]));
        assert_eq!(read_export(&path, format).rows.len(), 2054, "{name}");

        let other = FORMATS.into_iter().find(|&other| other != format).unwrap();
        let given = other.name();
        assert_silent_success(&run(&[
            &"extract",
            &index,
            &"-o",
            &path,
            &"--format",
            &given,
        ]));
        assert_eq!(read_export(&path, other).rows.len(), 2054, "{name}");
    }
    for name in ["out", "out.csv", ".parquet", "parquet"] {
        let path = scratch.path().join(name);
        let error = assert_failure(&run(&[&"extract", &index, &"-o", &path]), 2);
        assert!(error.contains("--format"), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn each_option_reaches_the_extraction() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("out.parquet");
    let options = [
        "--batch-size",
        "100",
        "--row-group-bytes",
        "16000",
        "--compression",
        "zstd",
        "--io",
        "read",
        "--quiet",
    ];
    let output = Command::new(BINARY)
        .arg("extract")
        .arg(fixture("1.5.9/ip"))
        .arg("-o")
        .arg(&path)
        .args(options)
        .output()
        .unwrap();
    assert_silent_success(&output);
    let export = read_export(&path, ColumnarFormat::Parquet);
    assert_eq!(export.groups, [1000, 1000, 54]);
    assert_eq!(export.largest_page, 100);
    let footer = parquet2::read::read_metadata(&mut std::fs::File::open(&path).unwrap()).unwrap();
    let compression = footer.row_groups[0].columns()[5].compression();
    assert_eq!(compression, parquet2::compression::Compression::Zstd);
}

#[test]
fn wrong_usage_ends_with_status_2_and_writes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let index = fixture("1.5.9/ip");
    let index = index.to_str().unwrap();
    let parquet = scratch.path().join("out.parquet");
    let parquet = parquet.to_str().unwrap();
    let arrow = scratch.path().join("out.arrow");
    let arrow = arrow.to_str().unwrap();
    let wrong: [(&[&str], &str); 14] = [
        (&[], "Usage"),
        (&["frobnicate"], "frobnicate"),
        (&["extract"], "INDEX_DIR"),
        (&["extract", index], "--output"),
        (&["extract", index, "-o"], "--output"),
        (&["extract", index, index, "-o", parquet], index),
        (
            &["extract", index, "-o", parquet, "--frobnicate"],
            "--frobnicate",
        ),
        (&["extract", index, "-o", parquet, "--format", "csv"], "csv"),
        (
            &["extract", index, "-o", parquet, "--batch-size", "0"],
            "--batch-size: found 0",
        ),
        (
            &["extract", index, "-o", parquet, "--batch-size", "-1"],
            "-1",
        ),
        (
            &["extract", index, "-o", parquet, "--row-group-bytes", "0"],
            "--row-group-bytes: found 0",
        ),
        (
            &["extract", index, "-o", parquet, "--compression", "lz4"],
            "lz4",
        ),
        (
            &["extract", index, "-o", arrow, "--compression", "zstd"],
            "--compression: found zstd",
        ),
        (
            &["extract", index, "-o", parquet, "--io", "pigeon"],
            "pigeon",
        ),
    ];
    for (arguments, named) in wrong {
        let output = Command::new(BINARY).args(arguments).output().unwrap();
        let error = assert_failure(&output, 2);
        assert!(error.contains(named), "{arguments:?}: {error}");
    }
    assert!(names(scratch.path()).is_empty());
}

#[test]
fn bad_input_gives_status_1_and_names_the_file() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("out.parquet");
    let empty = tempfile::tempdir().unwrap();
    let cut = Synthetic::new(Word::U64, 4, 4, 10).directory();
    std::fs::write(cut.path().join("data_level0.bin"), [0; 100]).unwrap();
    for (dir, named) in [
        (empty.path(), "header.bin"),
        (cut.path(), "data_level0.bin"),
        (Path::new("/nowhere"), "/nowhere"),
    ] {
        for arguments in [
            &[&"extract" as &dyn AsRef<_>, &dir, &"-o", &path, &"--json"][..],
            &[&"inspect", &dir, &"--json"],
            &[&"inspect", &dir],
        ] {
            let error = assert_failure(&run(arguments), 1);
            assert!(error.contains(named), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
    assert!(names(scratch.path()).is_empty());

    let index = fixture("1.5.9/ip");
    let header = index.join("header.bin");
    let error = assert_failure(
        &run(&[&"extract", &index, &"-o", &header, &"--format", &"parquet"]),
        1,
    );
    assert!(error.contains("header.bin"), "{error}");
}

#[test]
fn verify_exits_with_1_for_damage_and_2_if_it_cannot_check() {
    let cut = Synthetic::new(Word::U64, 4, 4, 10).directory();
    std::fs::write(cut.path().join("data_level0.bin"), [0; 100]).unwrap();
    let output = run(&[&"verify", &cut.path()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stdout.is_empty());

    let file = cut.path().join("header.bin");
    for path in [Path::new("/nowhere"), &file] {
        let error = assert_failure(&run(&[&"verify", &path]), 2);
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let error = assert_failure(&run(&[&"verify", &cut.path()]), 2);
    assert!(error.contains("header.bin"), "{error}");
}

#[test]
fn a_persist_directory_is_rejected_with_a_list_of_its_segments() {
    let scratch = tempfile::tempdir().unwrap();
    let persist = scratch.path().join("persist");
    let uuid = "3f2c0a8e-1b7d-4c55-9a60-0123456789ab";
    std::fs::create_dir_all(persist.join(uuid)).unwrap();
    std::fs::write(persist.join("chroma.sqlite3"), b"").unwrap();
    std::fs::write(persist.join(uuid).join("header.bin"), [0; 100]).unwrap();
    let out = scratch.path().join("out.parquet");
    for (arguments, status) in [
        (&[&"extract" as &dyn AsRef<_>, &persist, &"-o", &out][..], 1),
        (&[&"extract", &persist, &"-o", &out, &"--salvage"], 1),
        (&[&"inspect", &persist], 1),
        (&[&"verify", &persist], 2),
    ] {
        let error = assert_failure(&run(arguments), status);
        assert!(error.contains("persist directory"), "{error}");
        assert!(error.contains(&format!("{uuid} (100 bytes)")), "{error}");
    }
    assert!(!out.exists());
}

#[test]
fn metrics_are_accepted_by_chromas_names() {
    let scratch = tempfile::tempdir().unwrap();
    let input = scratch.path().join("in.parquet");
    assert_silent_success(&run(&[&"extract", &fixture("1.5.9/ip"), &"-o", &input]));
    let build = |metric: &str| {
        let path = scratch.path().join(format!("{metric}.hnsw"));
        let metric = format!("--metric={metric}");
        let output = run(&[
            &"build",
            &input,
            &"-o",
            &path,
            &metric,
            &"--m=4",
            &"--ef-construction=8",
            &"--seed=1",
            &"--json",
        ]);
        (
            answer(&output)["metric"].clone(),
            std::fs::read(path).unwrap(),
        )
    };
    for (chroma, ours) in [("l2", "squared_euclidean"), ("ip", "dot_product")] {
        assert_eq!(build(chroma), build(ours));
    }
}

#[test]
fn version_and_help_are_answers() {
    for arguments in [&["--version"][..], &["--help"], &["extract", "--help"]] {
        let output = Command::new(BINARY).args(arguments).output().unwrap();
        assert_silent_success(&output);
        assert!(!output.stdout.is_empty());
    }
    let output = run(&[&"--version"]);
    let expected = format!("hnsw-toolbox {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn inspect_json_is_correct_for_every_fixture() {
    for case in fixtures() {
        let expected = std::fs::read_to_string(case.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let segment = case.join("segment");
        let found = answer(&run(&[&"inspect", &segment, &"--json"]));

        let header = &expected["header"];
        for (name, truth) in [
            ("persisted_version", "version"),
            ("offset_level0", "offsetLevel0"),
            ("max_elements", "max_elements"),
            ("cur_element_count", "cur_element_count"),
            ("size_data_per_element", "size_data_per_element"),
            ("label_offset", "label_offset"),
            ("offset_data", "offsetData"),
            ("max_level", "maxlevel"),
            ("enterpoint_node", "enterpoint"),
            ("max_m", "maxM"),
            ("max_m0", "maxM0"),
            ("m", "M"),
            ("mult", "mult"),
            ("ef_construction", "ef_construction"),
        ] {
            assert!(!header[truth].is_null());
            assert_eq!(found["header"][name], header[truth], "{name}");
        }
        assert_eq!(found["header"]["word_size_bytes"], 8);
        assert_eq!(found["dimension"], expected["dim"]);
        assert_eq!(found["live"], expected["live_records"]);
        assert_eq!(found["deleted"], expected["deleted_records"]);
        assert_eq!(found["duplicate_labels"], 0);

        let labels = expected["labels"].as_object().unwrap().values();
        let labels: Vec<_> = labels.map(|label| label.as_u64().unwrap()).collect();
        match (labels.iter().min(), labels.iter().max()) {
            (Some(min), Some(max)) => {
                assert_eq!(found["labels"], json!({"min": min, "max": max}));
            }
            _ => assert!(found["labels"].is_null()),
        }

        let files = found["files"].as_array().unwrap();
        assert_eq!(files.len(), 5);
        for file in files {
            let path = segment.join(file["name"].as_str().unwrap());
            match std::fs::metadata(&path) {
                Ok(metadata) => assert_eq!(file["apparent_bytes"], metadata.len()),
                Err(_) => assert!(file["apparent_bytes"].is_null()),
            }
        }
    }
}

#[test]
fn inspect_gives_the_same_answer_mapped_or_read() {
    let segment = fixture("1.5.9/churn");
    let mapped = run(&[&"inspect", &segment, &"--json"]);
    let read = run(&[
        &"inspect", &segment, &"--json", &"--io", &"read", &"--quiet",
    ]);
    assert_silent_success(&read);
    assert_eq!(answer(&read), answer(&mapped));
}

#[test]
fn inspect_prints_every_header_field_by_name() {
    let output = run(&[&"inspect", &fixture("1.5.9/churn")]);
    assert_silent_success(&output);
    let printed = String::from_utf8(output.stdout).unwrap();
    for (name, value) in [
        ("dimension", "5"),
        ("live", "960"),
        ("deleted", "180"),
        ("cur_element_count", "1140"),
        ("max_elements", "2048"),
        ("size_data_per_element", "160"),
        ("enterpoint_node", "140"),
        ("word_size_bytes", "8"),
    ] {
        let shown = printed.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(name) && words.next() == Some(value)
        });
        assert!(shown, "{name}: {printed}");
    }
}

#[test]
fn inspect_gives_sizes_of_files_in_units_and_in_bytes() {
    let dir = Synthetic::new(Word::U64, 4, 4, 10_000).directory();
    let level0 = dir.path().join("data_level0.bin");
    assert_eq!(std::fs::metadata(&level0).unwrap().len(), 600_000);
    let output = run(&[&"inspect", &dir.path()]);
    assert_silent_success(&output);
    let printed = String::from_utf8(output.stdout).unwrap();
    let line = |name: &str| printed.lines().find(|line| line.starts_with(name)).unwrap();
    let words = |name: &str| -> Vec<&str> { line(name).split_whitespace().collect() };
    let level0 = words("data_level0.bin");
    assert_eq!(level0[1..3], ["585.94", "KiB"], "{printed}");
    assert_eq!(level0.last(), Some(&"600000"), "{printed}");
    assert_eq!(words("index_metadata.pickle")[1..], ["absent"]);
    // Numbers are right-aligned with their heading.
    assert_eq!(line("file ").len(), line("data_level0.bin").len());
}

#[test]
fn verify_aligns_what_it_finds() {
    let dir = Synthetic::new(Word::U64, 4, 4, 10).directory();
    let output = run(&[&"verify", &dir.path()]);
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stdout).unwrap();
    let findings: Vec<_> = printed.lines().skip(1).collect();
    assert!(findings.len() > 1, "{printed}");
    // Start of the second word.
    let code_at = |line: &&str| {
        let (severity, rest) = line.split_once(' ').unwrap();
        severity.len() + 1 + (rest.len() - rest.trim_start().len())
    };
    let first = code_at(&findings[0]);
    assert!(
        findings.iter().all(|line| code_at(line) == first),
        "{printed}"
    );
}

/// Runs `command` with `--color`, and returns for each of its outputs whether it has colours.
fn colours(command: &[&str], options: &[&str]) -> [bool; 2] {
    let output = Command::new(BINARY).args(command).args(options).output();
    let output = output.unwrap();
    [output.stdout, output.stderr].map(|bytes| bytes.contains(&b'\x1b'))
}

#[test]
fn colours_appear_only_on_request() {
    let scratch = tempfile::tempdir().unwrap();
    let segment = fixture("1.5.9/ip");
    let [segment, nothing] = [&segment, scratch.path()].map(|path| path.to_str().unwrap());
    let outputs = [
        (&["verify", segment][..], [true, false]),
        (&["verify", nothing], [false, true]),
        (&["inspect", nothing], [false, true]),
        (&["frobnicate"], [false, true]),
        (&["extract", "--help"], [true, false]),
    ];
    for (command, always) in outputs {
        for options in [&[][..], &["--color=auto"], &["--color", "never"]] {
            assert_eq!(colours(command, options), [false; 2], "{command:?}");
        }
        for options in [&["--color=always"][..], &["--color", "always"]] {
            assert_eq!(colours(command, options), always, "{command:?}");
        }
    }
    let json = ["verify", segment, "--json"];
    assert_eq!(colours(&json, &["--color=always"]), [false; 2]);

    let error = assert_failure(&run(&[&"inspect", &segment, &"--color=some"]), 2);
    assert!(error.contains("--color"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_colours_unless_they_are_disabled() {
    use crate::standard_output::in_terminal;

    let verify = format!("verify --quiet '{}'", fixture("1.5.9/ip").display());
    for (environment, options, coloured) in [
        (None, "", true),
        (None, " --color never", false),
        (Some("NO_COLOR"), "", false),
        (Some("NO_COLOR"), " --color always", true),
    ] {
        let arguments = format!("{verify}{options}");
        let Some((status, shown)) = in_terminal(&arguments, environment) else {
            return;
        };
        assert_eq!(status, Some(0), "{shown}");
        assert!(shown.contains("healthy"), "{shown}");
        assert_eq!(shown.contains('\u{1b}'), coloured, "{arguments}: {shown:?}");
    }
}

#[cfg(unix)]
mod unix {
    use std::os::unix::ffi::OsStrExt;
    use std::process::{Child, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    const OLD: &[u8] = b"the earlier content";

    /// Starts an extraction of 40 GB and returns once it is writing.
    fn start_long_extraction(dir: &Path, output: &Path) -> Child {
        write_sparse(dir, 1024, 10_000_000);
        let child = Command::new(BINARY)
            .arg("extract")
            .arg(dir)
            .arg("-o")
            .arg(output)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let before = usize::from(output.exists());
        while names(output.parent().unwrap()).len() == before {
            assert!(Instant::now() < deadline, "no temporary file appears");
            std::thread::sleep(Duration::from_millis(2));
        }
        child
    }

    fn send(signal: &str, child: &Child) {
        let pid = child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    #[test]
    fn signals_leave_the_earlier_file_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        for (signal, status) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
            for name in ["out.parquet", "out.arrow"] {
                let path = scratch.path().join(name);
                std::fs::write(&path, OLD).unwrap();
                let child = start_long_extraction(dir.path(), &path);
                send(signal, &child);
                let output = child.wait_with_output().unwrap();
                let error = assert_failure(&output, status);
                assert!(error.contains("cancelled"), "{error}");
                assert_eq!(names(scratch.path()), [name]);
                assert_eq!(std::fs::read(&path).unwrap(), OLD);
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    #[test]
    fn after_a_kill_the_earlier_file_is_intact_and_a_rerun_cleans_up() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("out.parquet");
        std::fs::write(&path, OLD).unwrap();
        let mut child = start_long_extraction(dir.path(), &path);
        send("-KILL", &child);
        assert_eq!(child.wait().unwrap().code(), None);
        assert_eq!(std::fs::read(&path).unwrap(), OLD);
        assert_eq!(names(scratch.path()).len(), 2);

        let index = fixture("1.5.9/ip");
        assert_silent_success(&run(&[&"extract", &index, &"-o", &path]));
        assert_eq!(names(scratch.path()), ["out.parquet"]);
        assert_eq!(read_export(&path, ColumnarFormat::Parquet).rows.len(), 2054);
    }

    #[test]
    fn a_full_disk_leaves_the_earlier_file_untouched() {
        let dir = tempfile::tempdir().unwrap();
        write_sparse(dir.path(), 384, 10_000);
        let scratch = tempfile::tempdir().unwrap();
        for (name, blocks) in [
            ("out.parquet", 0),
            ("out.parquet", 1000),
            ("out.arrow", 0),
            ("out.arrow", 1000),
        ] {
            let path = scratch.path().join(name);
            std::fs::write(&path, OLD).unwrap();
            // A limit on file sizes, which applies to every user.
            let output = Command::new("sh")
                .args([
                    "-c",
                    "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"",
                    "sh",
                ])
                .arg(blocks.to_string())
                .arg(BINARY)
                .arg("extract")
                .arg(dir.path())
                .arg("-o")
                .arg(&path)
                .output()
                .unwrap();
            let error = assert_failure(&output, 1);
            assert!(
                error.contains(name) && error.contains("cannot write"),
                "{error}"
            );
            assert_eq!(names(scratch.path()), [name]);
            assert_eq!(std::fs::read(&path).unwrap(), OLD);
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_closed_pipe_ends_the_command_silently() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(BINARY)
            .arg("inspect")
            .arg(fixture("1.5.9/ip"))
            .stdout(writer)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stderr.is_empty());
    }

    #[test]
    fn an_unwritable_standard_output_gives_status_1() {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = Command::new(BINARY)
            .arg("inspect")
            .arg(fixture("1.5.9/ip"))
            .arg("--json")
            .stdout(full)
            .output()
            .unwrap();
        let error = assert_failure(&output, 1);
        assert!(error.contains("standard output"), "{error}");
    }

    #[test]
    fn control_characters_in_paths_do_not_reach_the_terminal() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("\u{1b}[31m\n.parquet");
        let index = fixture("1.5.9/ip");
        let output = run(&[&"extract", &index, &"-o", &path]);
        assert_silent_success(&output);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.contains("\\u{1b}[31m\\n.parquet: "), "{printed}");
        // JSON has its own escapes and keeps the path.
        let output = run(&[&"extract", &index, &"-o", &path, &"--json"]);
        assert_eq!(answer(&output)["output_path"], path.to_str().unwrap());
        // A directory is not a valid output.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = assert_failure(&run(&[&"extract", &index, &"-o", &path]), 1);
        assert!(error.contains("\\u{1b}[31m\\n.parquet: "), "{error}");
        assert!(!error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn a_path_that_json_cannot_represent_is_rejected_early() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch
            .path()
            .join(std::ffi::OsStr::from_bytes(b"\xFF.parquet"));
        let index = fixture("1.5.9/ip");
        let error = assert_failure(&run(&[&"extract", &index, &"-o", &path, &"--json"]), 2);
        assert!(error.contains("UTF-8"), "{error}");
        assert!(!path.exists());
        // Without JSON, it is an ordinary path.
        assert_silent_success(&run(&[&"extract", &index, &"-o", &path]));
        assert!(path.exists());

        // Now it is the input of a build.
        let index = scratch.path().join("out.hnsw");
        let odd_index = scratch
            .path()
            .join(std::ffi::OsStr::from_bytes(b"\xFF.hnsw"));
        let plain = scratch.path().join("in.parquet");
        std::fs::copy(&path, &plain).unwrap();
        for (input, output, argument) in [(&path, &index, "INPUT"), (&plain, &odd_index, "OUT")] {
            let error = assert_failure(&run(&[&"build", input, &"-o", output, &"--json"]), 2);
            assert!(error.contains("UTF-8"), "{error}");
            assert!(error.contains(argument), "{error}");
            assert!(!output.exists());
        }
        assert_silent_success(&run(&[&"build", &path, &"-o", &odd_index]));
        assert!(odd_index.exists());
    }
}

#[test]
fn build_reads_vectors_and_labels_from_named_columns() {
    let columnar = Path::new(REPOSITORY).join("tests/fixtures/columnar");
    let scratch = tempfile::tempdir().unwrap();
    let index = scratch.path().join("out.hnsw");
    for file in ["pyarrow-named.parquet", "pyarrow-named.arrow"] {
        let input = columnar.join(file);
        let built = run(&[
            &"build",
            &input,
            &"-o",
            &index,
            &"--vector-column",
            &"embedding",
            &"--label-column",
            &"key",
            &"--json",
        ]);
        assert_eq!(answer(&built)["summary"]["inserted"], 50);
        let error = assert_failure(&run(&[&"build", &input, &"-o", &index]), 1);
        assert!(
            error.contains("column vector: found no such column"),
            "{error}"
        );
        assert!(error.contains("embedding, key"), "{error}");
    }
    // An Arrow IPC stream, detected by its content.
    let input = columnar.join("pyarrow-list-f32.arrows");
    let built = run(&[
        &"build",
        &input,
        &"-o",
        &index,
        &"--format",
        &"arrow_ipc",
        &"--json",
    ]);
    assert_eq!(answer(&built)["summary"]["inserted"], 50);
}
