//! Verification: output of Chroma is healthy, and each kind of damage is reported by its code.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::*;
use hnsw_toolbox::{
    verify_index, CancelToken, ErrorKind, IndexState, IoMode, Monitor, Severity, VerifyOptions,
    VerifyReport,
};
use proptest::prelude::*;
use serde_json::Value;

/// The report by both ways of reading, which must agree.
fn verify(dir: &Path) -> VerifyReport {
    let [mapped, read] = IO_MODES.map(|io| {
        verify_index(
            dir,
            &VerifyOptions::default().with_io(io),
            &Monitor::default(),
        )
        .unwrap()
    });
    assert_eq!(mapped, read);
    assert_eq!(mapped.damaged, mapped.state.is_damaged());
    let has_errors = mapped
        .findings
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    assert_eq!(mapped.damaged, has_errors, "{mapped:?}");
    mapped
}

/// Count and position of a finding.
#[track_caller]
fn finding<'r>(report: &'r VerifyReport, code: &str, file: &str) -> (u64, &'r str) {
    let found = report
        .findings
        .iter()
        .find(|finding| finding.code == code && finding.file == file);
    let found = found.unwrap_or_else(|| panic!("no {code} of {file} in {report:?}"));
    (found.count, found.first.as_deref().unwrap())
}

fn has(report: &VerifyReport, code: &str) -> bool {
    report.findings.iter().any(|finding| finding.code == code)
}

fn copy_of(segment: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names(segment) {
        std::fs::copy(segment.join(&name), dir.path().join(&name)).unwrap();
    }
    dir
}

/// 2390 records of 60 bytes (m 4, dimension 4), levels up to 6.
fn real() -> tempfile::TempDir {
    copy_of(&fixtures_root().join("1.5.9/ip/segment"))
}

const RECORDS: usize = 2390;
const RECORD: usize = 60;

fn edit(dir: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = dir.join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn every_real_directory_is_healthy_or_empty() {
    for case in fixtures() {
        let expected = std::fs::read_to_string(case.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let report = verify(&case.join("segment"));
        let is_empty = expected["header"]["cur_element_count"] == 0;
        let state = if is_empty {
            IndexState::Empty
        } else {
            IndexState::Healthy
        };
        assert_eq!(report.state, state, "{}: {report:?}", case.display());
        assert_eq!(report.live, expected["live_records"]);
        assert_eq!(report.deleted, expected["deleted_records"]);
        for finding in &report.findings {
            assert!(finding.severity >= Severity::Hint, "{finding:?}");
        }
        if !is_empty {
            let is_cosine = expected["space"] == "cosine";
            assert_eq!(has(&report, "metric.cosine"), is_cosine);
            assert_eq!(has(&report, "metric.not_cosine"), !is_cosine);
        }
    }
}

#[test]
fn each_missing_file_is_told() {
    for (name, code, state) in [
        ("header.bin", "header.missing", IndexState::BadHeader),
        ("data_level0.bin", "level0.missing", IndexState::TornData),
        ("length.bin", "length.missing", IndexState::TornData),
        (
            "link_lists.bin",
            "link_lists.missing",
            IndexState::TornLinks,
        ),
        (
            "index_metadata.pickle",
            "metadata.missing",
            IndexState::NoMetadata,
        ),
    ] {
        let dir = real();
        std::fs::remove_file(dir.path().join(name)).unwrap();
        let report = verify(dir.path());
        assert_eq!(report.state, state);
        finding(&report, code, name);
    }
}

#[test]
fn a_directory_without_any_file_of_a_segment_is_no_damaged_segment() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("notes.txt"), "").unwrap();
    let error = verify_index(
        scratch.path(),
        &VerifyOptions::default(),
        &Monitor::default(),
    );
    assert_eq!(error.unwrap_err().kind(), ErrorKind::UnusablePath);
}

#[test]
fn each_inconsistent_header_field_is_reported() {
    let dir = real();
    edit(dir.path(), "header.bin", |bytes| {
        bytes[84..92].copy_from_slice(&0.5_f64.to_le_bytes());
        bytes[56..60].copy_from_slice(&u32::MAX.to_le_bytes());
    });
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::BadHeader);
    let (count, first) = finding(&report, "header.invalid", "header.bin");
    assert_eq!(count, 2);
    assert!(
        first.starts_with("mult: found 0.5, expected 0.72"),
        "{first}"
    );

    edit(dir.path(), "header.bin", |bytes| bytes.truncate(99));
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::BadHeader);
    let (_, first) = finding(&report, "header.invalid", "header.bin");
    assert!(first.starts_with("length: found 99 bytes"), "{first}");

    let dir = real();
    edit(dir.path(), "header.bin", |bytes| bytes[0] = 2);
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::UnsupportedVersion);
    let (_, first) = finding(&report, "header.unsupported_version", "header.bin");
    assert_eq!(first, "version 2");
}

#[test]
fn missing_records_are_counted_and_the_others_checked() {
    let dir = real();
    edit(dir.path(), "data_level0.bin", |bytes| {
        bytes.truncate(1000 * RECORD + 59);
    });
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::TornData);
    assert_eq!(report.live + report.deleted, 1000);
    let (count, first) = finding(&report, "level0.too_short", "data_level0.bin");
    assert_eq!(count, RECORDS as u64 - 1000);
    assert!(first.starts_with("record 1000:"), "{first}");

    let dir = real();
    edit(dir.path(), "length.bin", |bytes| bytes.truncate(42));
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::TornData);
    let (count, first) = finding(&report, "length.too_short", "length.bin");
    assert_eq!(count, RECORDS as u64 - 10);
    assert!(first.starts_with("record 10:"), "{first}");
}

/// Live records of the fixture by internal id.
fn live(dir: &Path) -> Vec<usize> {
    let bytes = std::fs::read(dir.join("data_level0.bin")).unwrap();
    let records = bytes.chunks(RECORD).take(RECORDS);
    records
        .enumerate()
        .filter(|(_, record)| record[2] & 1 == 0)
        .map(|(id, _)| id)
        .collect()
}

#[test]
fn impossible_labels_and_vectors_are_reported() {
    let dir = real();
    let live = live(dir.path());
    let (zero, one, other, nan) = (live[10], live[20], live[30], live[40]);
    edit(dir.path(), "data_level0.bin", |bytes| {
        bytes[zero * RECORD + 52..][..8].fill(0);
        let label = bytes[other * RECORD + 52..][..8].to_vec();
        bytes[one * RECORD + 52..][..8].copy_from_slice(&label);
        bytes[nan * RECORD + 40..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::TornData);
    let file = "data_level0.bin";
    assert_eq!(
        finding(&report, "labels.zero", file),
        (1, format!("record {zero}").as_str())
    );
    let (count, first) = finding(&report, "labels.duplicate", file);
    assert_eq!(count, 1);
    assert!(first.starts_with(&format!("record {one}, ")), "{first}");
    assert_eq!(
        finding(&report, "vectors.not_finite", file),
        (1, format!("record {nan}, component 1").as_str())
    );
    // The overwritten labels.
    let (count, _) = finding(
        &report,
        "metadata.label_without_record",
        "index_metadata.pickle",
    );
    assert_eq!(count, 2);
    let (count, _) = finding(
        &report,
        "metadata.record_without_id",
        "index_metadata.pickle",
    );
    assert_eq!(count, 1);
}

#[test]
fn invalid_level_0_links_are_reported_and_odd_ones_accepted() {
    let dir = real();
    let file = "data_level0.bin";
    edit(dir.path(), file, |bytes| {
        // Record 7: linked to itself, twice.
        bytes[7 * RECORD..][..2].copy_from_slice(&2_u16.to_le_bytes());
        bytes[7 * RECORD + 4..][..8].copy_from_slice(&[7, 0, 0, 0, 7, 0, 0, 0]);
        bytes[8 * RECORD + 3] = 1;
    });
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::Healthy);
    assert_eq!(
        finding(&report, "links.self", file),
        (1, "record 7, level 0")
    );
    assert_eq!(
        finding(&report, "links.duplicate", file),
        (1, "record 7, level 0: neighbour 7")
    );
    assert_eq!(
        finding(&report, "level0.unknown_flags", file),
        (1, "record 8")
    );

    edit(dir.path(), file, |bytes| {
        bytes[5 * RECORD..][..2].copy_from_slice(&[0xFF, 0xFF]);
        bytes[6 * RECORD..][..2].copy_from_slice(&[1, 0]);
        bytes[6 * RECORD + 4..][..4].copy_from_slice(&(RECORDS as u32).to_le_bytes());
    });
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::TornLinks);
    assert_eq!(
        finding(&report, "links.too_many", file),
        (1, "record 5, level 0: 65535 neighbours in 8 slots")
    );
    assert_eq!(
        finding(&report, "links.neighbour_out_of_range", file),
        (1, "record 6, level 0: neighbour 2390 of 2390 records")
    );
}

/// Offset of the list size of the first record on upper levels, its id, and the id of the first
/// record that is only on level 0.
fn first_upper(bytes: &[u8]) -> (usize, u32, u32) {
    let (mut upper, mut lower) = (None, None);
    let mut offset = 0;
    for id in 0.. {
        let size = u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap());
        if size == 0 {
            lower.get_or_insert(id);
        } else {
            upper.get_or_insert((offset, id));
        }
        if let (Some((offset, upper)), Some(lower)) = (upper, lower) {
            return (offset, upper, lower);
        }
        offset += 4 + size as usize;
    }
    unreachable!()
}

#[test]
fn truncated_or_invalid_link_lists_are_torn() {
    let file = "link_lists.bin";
    for cut in [0, 1, 3, 4, 5000, 25459] {
        let dir = real();
        edit(dir.path(), file, |bytes| bytes.truncate(cut));
        let report = verify(dir.path());
        assert_eq!(report.state, IndexState::TornLinks, "{cut}");
        let (count, _) = finding(&report, "link_lists.too_short", file);
        assert!((1..=RECORDS as u64).contains(&count));
    }

    let dir = real();
    edit(dir.path(), file, |bytes| {
        let (at, _, _) = first_upper(bytes);
        bytes[at] += 4;
    });
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::TornLinks);
    finding(&report, "link_lists.invalid_size", file);

    let dir = real();
    let mut expected = String::new();
    edit(dir.path(), file, |bytes| {
        let (at, upper, lower) = first_upper(bytes);
        expected = format!("record {upper}, level 1: neighbour {lower}");
        bytes[at + 4..][..2].copy_from_slice(&2_u16.to_le_bytes());
        bytes[at + 8..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes[at + 12..][..4].copy_from_slice(&lower.to_le_bytes());
    });
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::TornLinks);
    finding(&report, "links.neighbour_out_of_range", file);
    assert_eq!(
        finding(&report, "links.neighbour_below_level", file),
        (1, expected.as_str())
    );

    let dir = real();
    edit(dir.path(), "header.bin", |bytes| bytes[52] += 1);
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::TornLinks);
    finding(&report, "links.entry_point_level", file);

    let dir = real();
    edit(dir.path(), file, |bytes| bytes.push(0));
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::Healthy);
    assert_eq!(finding(&report, "link_lists.trailing_bytes", file).0, 1);
}

#[test]
fn oversized_link_lists_of_a_sparse_file_are_reported_at_once() {
    let file = "link_lists.bin";
    let dir = real();
    let sparse = |dir: &Path| {
        let file = File::options().append(true).open(dir.join(file)).unwrap();
        file.set_len(1 << 40).unwrap();
    };
    sparse(dir.path());
    let start = Instant::now();
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::RunawayLinks);
    finding(&report, "link_lists.runaway_length", file);

    edit_in_place(&dir.path().join(file), 0, &u32::MAX.to_le_bytes());
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::RunawayLinks);
    let (count, first) = finding(&report, "link_lists.runaway_size", file);
    assert_eq!(count, 1);
    assert!(first.contains("4294967295 bytes, at most 120"), "{first}");

    // With a header that permits it.
    edit(dir.path(), "header.bin", |bytes| {
        bytes[52..56].copy_from_slice(&i32::MAX.to_le_bytes());
    });
    assert_eq!(verify(dir.path()).state, IndexState::RunawayLinks);
    assert!(start.elapsed() < Duration::from_secs(20));
}

fn edit_in_place(path: &Path, at: u64, bytes: &[u8]) {
    use std::io::{Seek, SeekFrom, Write};
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn a_truncated_pickle_counts_as_no_metadata() {
    let dir = real();
    let name = "index_metadata.pickle";
    let whole = std::fs::read(dir.path().join(name)).unwrap();
    for cut in [0, 1, 2, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(dir.path().join(name), &whole[..cut]).unwrap();
        let report = verify(dir.path());
        assert_eq!(report.state, IndexState::NoMetadata, "{cut}");
        finding(&report, "metadata.unreadable", name);
    }
}

/// A pickle with an id for each label.
fn pickle(labels: &[u64], total: u64, dimensionality: Option<u64>) -> Vec<u8> {
    let by_label: std::collections::BTreeMap<u64, String> = labels
        .iter()
        .map(|label| (*label, format!("id {label}")))
        .collect();
    let by_id: std::collections::BTreeMap<String, u64> = labels
        .iter()
        .map(|label| (format!("id {label}"), *label))
        .collect();
    #[derive(serde::Serialize)]
    struct Fields {
        label_to_id: std::collections::BTreeMap<u64, String>,
        id_to_label: std::collections::BTreeMap<String, u64>,
        total_elements_added: u64,
        dimensionality: Option<u64>,
    }
    let fields = Fields {
        label_to_id: by_label,
        id_to_label: by_id,
        total_elements_added: total,
        dimensionality,
    };
    serde_pickle::to_vec(&fields, serde_pickle::SerOptions::new()).unwrap()
}

/// Five records of dimension 2: 0, 1 and 2 in a ring, 3 without incoming links, and 4 linked only
/// on level 1. Labels 10 to 14.
fn five_records() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut header = Header::new(Word::U64, 2, 2, 5);
    header.max_level = 1;
    header.enterpoint_node = 0;
    let mut level0 = Vec::new();
    for (id, neighbour) in [(0_u32, 1_u32), (1, 2), (2, 0), (3, 0), (4, 0)] {
        level0.extend([1, 0, 0, 0]);
        for place in [neighbour, u32::MAX, u32::MAX, u32::MAX] {
            level0.extend(place.to_le_bytes());
        }
        level0.extend(3.0_f32.to_le_bytes());
        level0.extend((id as f32).to_le_bytes());
        level0.extend((u64::from(id) + 10).to_le_bytes());
    }
    let mut lists = Vec::new();
    for id in 0..5_u32 {
        let neighbour = match id {
            0 => 4_u32,
            4 => 0,
            _ => {
                lists.extend([0; 4]);
                continue;
            }
        };
        lists.extend([12, 0, 0, 0, 1, 0, 0, 0]);
        lists.extend(neighbour.to_le_bytes());
        lists.extend([0xEE; 4]);
    }
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("header.bin", &header.bytes());
    write("data_level0.bin", &level0);
    write("length.bin", &[0xFF; 20]);
    write("link_lists.bin", &lists);
    write(
        "index_metadata.pickle",
        &pickle(&[10, 11, 12, 13, 14], 14, Some(2)),
    );
    dir
}

#[test]
fn unlinked_records_are_counted_as_information() {
    let dir = five_records();
    let report = verify(dir.path());
    assert_eq!(report.state, IndexState::Healthy);
    let file = "data_level0.bin";
    assert_eq!(finding(&report, "links.unreachable", file), (1, "record 3"));

    // Without the upper level, two are unreachable.
    edit(dir.path(), "link_lists.bin", |bytes| bytes[4] = 0);
    let report = verify(dir.path());
    assert_eq!(finding(&report, "links.unreachable", file), (2, "record 3"));

    // A link back to the ring makes all reachable.
    edit(dir.path(), file, |bytes| {
        let size = bytes.len() / 5;
        bytes[0] = 3;
        bytes[8..16].copy_from_slice(&[3, 0, 0, 0, 4, 0, 0, 0]);
        bytes[3 * size..][..1].fill(0);
    });
    assert!(!has(&verify(dir.path()), "links.unreachable"));
}

#[test]
fn metadata_with_other_labels_or_dimension_is_a_mismatch() {
    let name = "index_metadata.pickle";
    for (labels, total, dimension, code, first) in [
        (
            &[10, 11, 13, 14][..],
            14,
            Some(2),
            "metadata.record_without_id",
            "record 2, label 12",
        ),
        (
            &[9, 10, 11, 12, 13, 14],
            14,
            None,
            "metadata.label_without_record",
            "label 9",
        ),
        (
            &[10, 11, 12, 13, 14],
            14,
            Some(3),
            "metadata.dimension",
            "dimensionality 3, in header.bin 2",
        ),
        (
            &[10, 11, 12, 13, 14],
            13,
            None,
            "metadata.label_beyond_total",
            "label 14, total_elements_added 13",
        ),
    ] {
        let dir = five_records();
        std::fs::write(dir.path().join(name), pickle(labels, total, dimension)).unwrap();
        let report = verify(dir.path());
        assert_eq!(report.state, IndexState::MetadataMismatch);
        assert_eq!(finding(&report, code, name), (1, first));
        let errors = report
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error);
        assert_eq!(errors.count(), 1, "{report:?}");
    }
}

#[test]
fn the_state_is_the_most_fundamental_of_several_damages() {
    let dir = real();
    let mut states = Vec::new();
    std::fs::write(dir.path().join("index_metadata.pickle"), b"").unwrap();
    states.push(verify(dir.path()).state);
    edit(dir.path(), "link_lists.bin", |bytes| bytes.truncate(100));
    states.push(verify(dir.path()).state);
    edit(dir.path(), "link_lists.bin", |bytes| bytes[0] = 0xFF);
    states.push(verify(dir.path()).state);
    edit(dir.path(), "data_level0.bin", |bytes| bytes.truncate(100));
    states.push(verify(dir.path()).state);
    edit(dir.path(), "header.bin", |bytes| bytes[4] = 1);
    states.push(verify(dir.path()).state);
    edit(dir.path(), "header.bin", |bytes| bytes[0] = 9);
    states.push(verify(dir.path()).state);
    assert_eq!(
        states,
        [
            IndexState::NoMetadata,
            IndexState::TornLinks,
            IndexState::RunawayLinks,
            IndexState::TornData,
            IndexState::BadHeader,
            IndexState::UnsupportedVersion,
        ]
    );
}

#[test]
fn a_file_modified_or_created_meanwhile_is_an_error() {
    for io in IO_MODES {
        for name in [
            "header.bin",
            "data_level0.bin",
            "length.bin",
            "link_lists.bin",
            "index_metadata.pickle",
        ] {
            for appears in [false, true] {
                let dir = real();
                let path = dir.path().join(name);
                if appears {
                    if ["header.bin", "data_level0.bin"].contains(&name) {
                        continue; // nothing is reported then
                    }
                    std::fs::remove_file(&path).unwrap();
                }
                let change = |_| {
                    let file = File::options().append(true).create(true).open(&path);
                    let length = file.as_ref().unwrap().metadata().unwrap().len();
                    file.unwrap().set_len(length + 1).unwrap();
                };
                let monitor = Monitor::default().on_progress(&change);
                let error =
                    verify_index(dir.path(), &VerifyOptions::default().with_io(io), &monitor)
                        .unwrap_err();
                let found = (error.kind(), error.path());
                assert_eq!(found, (ErrorKind::InputChanged, Some(&*path)), "{error:?}");
            }
        }
    }
}

#[test]
fn non_directories_are_errors_and_a_cancelled_check_stops() {
    let dir = real();
    for path in [dir.path().join("nowhere"), dir.path().join("header.bin")] {
        let error = verify_index(
            &path,
            &VerifyOptions::default().with_io(IoMode::Read),
            &Monitor::default(),
        )
        .unwrap_err();
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    let token = CancelToken::new();
    token.cancel();
    let monitor = Monitor::default().with_cancel(&token);
    let error = verify_index(dir.path(), &VerifyOptions::default(), &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
}

#[test]
fn the_command_reports_by_exit_status_and_json() {
    let run = |dir: &Path, more: &[&str]| {
        let mut command = Command::new(BINARY);
        command.arg("verify").arg(dir).args(more).output().unwrap()
    };
    let healthy = real();
    let damaged = real();
    std::fs::remove_file(damaged.path().join("index_metadata.pickle")).unwrap();
    for (dir, status, state) in [(&healthy, 0, "healthy"), (&damaged, 1, "no_metadata")] {
        for io in ["mmap", "read"] {
            let output = run(dir.path(), &["--json", "--io", io]);
            assert_eq!(output.status.code(), Some(status));
            assert!(output.stderr.is_empty());
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(answer["state"], state);
            assert_eq!(answer["damaged"], status == 1);
            assert_eq!(answer["live"], 2054);
            let finding = &answer["findings"][0];
            assert_eq!(
                finding["severity"],
                if status == 1 { "error" } else { "hint" }
            );
        }
        let output = run(dir.path(), &[]);
        assert_eq!(output.status.code(), Some(status));
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.starts_with(state), "{printed}");
    }
    let output = run(&healthy.path().join("nowhere"), &["--json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty() && !output.stderr.is_empty());
}

proptest! {
    #![proptest_config(proptest_config(96))]

    #[test]
    fn any_damage_to_real_files_gives_a_report_mapped_or_read(
        name in prop::sample::select(vec![
            "header.bin", "data_level0.bin", "length.bin", "link_lists.bin", "index_metadata.pickle",
        ]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<[u8; 4]>()), 0..6),
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let dir = copy_of(&fixtures_root().join("1.5.9/churn/segment"));
        edit(dir.path(), name, |bytes| {
            for (at, word) in edits {
                let at = at.index(bytes.len());
                let len = 4.min(bytes.len() - at);
                bytes[at..at + len].copy_from_slice(&word[..len]);
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
        });
        let report = verify(dir.path());
        prop_assert!(report.live + report.deleted <= 1140);
    }
}
