//! Repair: the new directory holds all surviving records and is healthy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::*;
use hnsw_toolbox::{
    repair_index, verify_index, CancelToken, Error, ErrorKind, ExtractOptions, IndexState, Monitor,
    RepairLinks, RepairOptions, RepairSummary, Salvage, Space, VerifyOptions,
};
use serde_json::Value;

const BOTH: [RepairLinks; 2] = [RepairLinks::Keep, RepairLinks::Build];

/// A fixture with records, and facts about it.
struct Fixture {
    segment: std::path::PathBuf,
    space: Space,
    dimension: usize,
    m: usize,
}

fn filled_fixtures() -> Vec<Fixture> {
    let mut found = Vec::new();
    for case in fixtures() {
        let expected = std::fs::read_to_string(case.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        if expected["header"]["cur_element_count"] == 0 {
            continue;
        }
        let segment = case.join("segment");
        let header = std::fs::read(segment.join("header.bin")).unwrap();
        found.push(Fixture {
            space: expected["space"].as_str().unwrap().parse().unwrap(),
            dimension: expected["dim"].as_u64().unwrap() as usize,
            m: u64::from_le_bytes(header[76..84].try_into().unwrap()) as usize,
            segment,
        });
    }
    assert!(found.len() >= 7);
    found
}

fn copy_of(segment: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names(segment) {
        std::fs::copy(segment.join(&name), dir.path().join(&name)).unwrap();
    }
    dir
}

fn edit(dir: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = dir.join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// By label: id, sequence number and bits of the vector.
type Held = BTreeMap<u64, (Option<String>, Option<u64>, Vec<u32>)>;

fn held(dir: &Path, salvage: Option<Salvage>) -> Held {
    let options = ExtractOptions::default().with_salvage(salvage);
    let (_, rows) = rows_by_callback(dir, &options).unwrap();
    let count = rows.len();
    let held: Held = rows
        .into_iter()
        .map(|row| (row.label, (row.user_id, row.seq_id, row.vector)))
        .collect();
    assert_eq!(held.len(), count);
    held
}

fn repair(dir: &Path, new: &Path, options: &RepairOptions) -> Result<RepairSummary, Error> {
    let before = contents(dir);
    let result = repair_index(dir, new, options, &Monitor::default());
    assert_eq!(contents(dir), before, "the input was written to");
    match &result {
        Ok(_) => assert_eq!(
            names(new),
            [
                "data_level0.bin",
                "header.bin",
                "index_metadata.pickle",
                "length.bin",
                "link_lists.bin"
            ]
        ),
        Err(_) => assert!(!new.exists()),
    }
    result
}

/// Length and hash of each file; files can be sparse.
fn contents(dir: &Path) -> BTreeMap<String, (u64, Vec<u8>)> {
    let file = |name: String| {
        let path = dir.join(&name);
        let length = std::fs::metadata(&path).unwrap().len();
        let bytes = match length {
            0..0x1000_0000 => std::fs::read(&path).unwrap(),
            _ => Vec::new(),
        };
        (name, (length, bytes))
    };
    names(dir).into_iter().map(file).collect()
}

/// Checks hnswlib's `checkIntegrity` and more: every record is reachable on level 0 from the entry
/// point, and every level starts at it.
pub(super) fn assert_sound(dir: &Path) {
    let header = std::fs::read(dir.join("header.bin")).unwrap();
    let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap()) as usize;
    let half = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
    let (count, size, m) = (word(20), word(28), word(76));
    assert!(word(12) >= count && word(60) == m && word(68) == 2 * m);
    let level0 = std::fs::read(dir.join("data_level0.bin")).unwrap();
    assert_eq!(level0.len(), count * size);
    let list = |bytes: &[u8], slots: usize| -> Vec<u32> {
        let used = u16::from_le_bytes(bytes[..2].try_into().unwrap()) as usize;
        assert!(used <= slots && bytes[2..4] == [0, 0]);
        let ids = bytes[4..4 + 4 * used].chunks(4);
        ids.map(|id| u32::from_le_bytes(id.try_into().unwrap()))
            .collect()
    };
    let mut lists: Vec<Vec<Vec<u32>>> = level0
        .chunks(size)
        .map(|record| vec![list(record, 2 * m)])
        .collect();
    let upper = std::fs::read(dir.join("link_lists.bin")).unwrap();
    let mut at = 0;
    for lists in &mut lists {
        let bytes = u32::from_le_bytes(upper[at..at + 4].try_into().unwrap()) as usize;
        at += 4;
        for unit in upper[at..at + bytes].chunks(4 + 4 * m) {
            lists.push(list(unit, m));
        }
        at += bytes;
    }
    assert_eq!(at, upper.len());
    let mut inbound = vec![0; count];
    for (id, levels) in lists.iter().enumerate() {
        for (level, list) in levels.iter().enumerate() {
            let mut sorted = list.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), list.len(), "record {id} lists one twice");
            for neighbour in list {
                let neighbour = *neighbour as usize;
                assert!(neighbour < count && neighbour != id);
                assert!(lists[neighbour].len() > level, "record {id}, level {level}");
                inbound[neighbour] += 1;
            }
        }
    }
    assert!(count == 1 || inbound.iter().all(|links| *links > 0));
    let (top, entry) = (half(52) as usize, half(56) as usize);
    assert_eq!(lists[entry].len(), top + 1);
    assert!(lists.iter().all(|levels| levels.len() <= top + 1));
    let mut reached = vec![false; count];
    let mut next = vec![entry];
    reached[entry] = true;
    while let Some(id) = next.pop() {
        for neighbour in &lists[id][0] {
            if !std::mem::replace(&mut reached[*neighbour as usize], true) {
                next.push(*neighbour as usize);
            }
        }
    }
    assert!(reached.iter().all(|reached| *reached));
}

#[track_caller]
fn assert_repaired(old: &Held, new: &Path, summary: &RepairSummary) {
    let report = verify_index(new, &VerifyOptions::default(), &Monitor::default()).unwrap();
    assert_eq!(report.state, IndexState::Healthy, "{report:?}");
    let with_id: Held = old
        .iter()
        .filter(|(_, (id, _, _))| id.is_some())
        .map(|(label, held)| (*label, held.clone()))
        .collect();
    assert_eq!(summary.records, with_id.len() as u64);
    assert_eq!(
        summary.records_without_id,
        (old.len() - with_id.len()) as u64
    );
    assert!(held(new, None) == with_id);
    assert_sound(new);
}

/// A modification of a directory, and the options that a repair then needs.
struct Fault {
    name: &'static str,
    make: fn(&Fixture, &Path),
    /// True if the links are still intact.
    links: bool,
    /// True if dimension and m must be given.
    shape: bool,
}

const fn fault(name: &'static str, links: bool, make: fn(&Fixture, &Path)) -> Fault {
    Fault {
        name,
        make,
        links,
        shape: false,
    }
}

/// The start of a live record, at least this percentage into the file.
fn live_record(fixture: &Fixture, bytes: &[u8], per_cent: usize) -> usize {
    let size = 4 + 8 * fixture.m + 4 * fixture.dimension + 8;
    let count = bytes.len() / size;
    let first = count * per_cent / 100;
    let at = (first..).find(|at| bytes[at * size + 2] & 1 == 0).unwrap();
    at * size
}

/// Offset of the list size of the first record on upper levels.
fn first_upper(bytes: &[u8]) -> usize {
    let sizes = bytes.chunks(4);
    4 * sizes
        .enumerate()
        .find(|(_, size)| *size != [0; 4])
        .unwrap()
        .0
}

fn rewrite_pickle(dir: &Path, change: impl FnOnce(&mut BTreeMap<u64, String>, &mut u64, &mut u64)) {
    let mut ids: BTreeMap<u64, String> = held(dir, None)
        .into_iter()
        .map(|(label, (id, _, _))| (label, id.unwrap()))
        .collect();
    let header = std::fs::read(dir.join("header.bin")).unwrap();
    let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
    let mut dimensionality = (word(36) - word(44)) / 4;
    let mut total = *ids.keys().last().unwrap();
    change(&mut ids, &mut dimensionality, &mut total);
    let fields = serde_json::json!({
        "dimensionality": dimensionality,
        "total_elements_added": total,
    });
    #[derive(serde::Serialize)]
    struct Fields<'a> {
        dimensionality: &'a Value,
        total_elements_added: &'a Value,
        label_to_id: &'a BTreeMap<u64, String>,
        id_to_label: BTreeMap<&'a str, u64>,
    }
    let fields = Fields {
        dimensionality: &fields["dimensionality"],
        total_elements_added: &fields["total_elements_added"],
        label_to_id: &ids,
        id_to_label: ids
            .iter()
            .map(|(label, id)| (id.as_str(), *label))
            .collect(),
    };
    let bytes = serde_pickle::to_vec(&fields, serde_pickle::SerOptions::new()).unwrap();
    std::fs::write(dir.join("index_metadata.pickle"), bytes).unwrap();
}

const FAULTS: &[Fault] = &[
    fault("intact", true, |_, _| {}),
    fault("header.invalid", false, |_, dir| {
        edit(dir, "header.bin", |bytes| bytes[84..92].fill(1));
    }),
    Fault {
        shape: true,
        ..fault("header.missing", false, |_, dir| {
            // Bytes after the last record can be anything and would be taken for records.
            let header = std::fs::read(dir.join("header.bin")).unwrap();
            let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
            edit(dir, "data_level0.bin", |bytes| {
                bytes.truncate((word(20) * word(28)) as usize);
            });
            std::fs::remove_file(dir.join("header.bin")).unwrap();
        })
    },
    fault("level0.too_short", true, |fixture, dir| {
        edit(dir, "data_level0.bin", |bytes| {
            let at = live_record(fixture, bytes, 30);
            bytes.truncate(at + 7);
        });
    }),
    fault("labels.zero", true, |fixture, dir| {
        edit(dir, "data_level0.bin", |bytes| {
            let at = live_record(fixture, bytes, 20);
            let label = 4 + 8 * fixture.m + 4 * fixture.dimension;
            bytes[at + label..][..8].fill(0);
        });
    }),
    fault("labels.duplicate", true, |fixture, dir| {
        edit(dir, "data_level0.bin", |bytes| {
            let (one, other) = (
                live_record(fixture, bytes, 10),
                live_record(fixture, bytes, 20),
            );
            let label = 4 + 8 * fixture.m + 4 * fixture.dimension;
            let other = bytes[other + label..][..8].to_vec();
            bytes[one + label..][..8].copy_from_slice(&other);
        });
    }),
    fault("vectors.not_finite", true, |fixture, dir| {
        edit(dir, "data_level0.bin", |bytes| {
            let at = live_record(fixture, bytes, 25) + 4 + 8 * fixture.m;
            bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        });
    }),
    fault("length.missing", true, |_, dir| {
        std::fs::remove_file(dir.join("length.bin")).unwrap();
    }),
    fault("length.too_short", true, |_, dir| {
        edit(dir, "length.bin", |bytes| bytes.truncate(42));
    }),
    fault("link_lists.missing", false, |_, dir| {
        std::fs::remove_file(dir.join("link_lists.bin")).unwrap();
    }),
    fault("link_lists.too_short", false, |_, dir| {
        edit(dir, "link_lists.bin", |bytes| {
            bytes.truncate(bytes.len() / 2)
        });
    }),
    fault("link_lists.invalid_size", false, |_, dir| {
        edit(dir, "link_lists.bin", |bytes| {
            let at = first_upper(bytes);
            bytes[at] += 4;
        });
    }),
    fault("link_lists.runaway_size", false, |_, dir| {
        edit(dir, "link_lists.bin", |bytes| bytes[..4].fill(0xFF));
    }),
    fault("link_lists.runaway_length", false, |_, dir| {
        let file = File::options()
            .append(true)
            .open(dir.join("link_lists.bin"));
        file.unwrap().set_len(1 << 40).unwrap();
    }),
    fault("link_lists.trailing_bytes", true, |_, dir| {
        edit(dir, "link_lists.bin", |bytes| bytes.push(0));
    }),
    fault("links.too_many", false, |fixture, dir| {
        edit(dir, "data_level0.bin", |bytes| {
            let at = live_record(fixture, bytes, 40);
            bytes[at..at + 2].fill(0xFF);
        });
    }),
    fault("links.neighbour_out_of_range", false, |_, dir| {
        edit(dir, "data_level0.bin", |bytes| bytes[4..8].fill(0xFE));
    }),
    fault("links.neighbour_below_level", false, |fixture, dir| {
        let list = std::fs::read(dir.join("link_lists.bin")).unwrap();
        let upper = first_upper(&list);
        // The first record is seldom on upper levels; if it is, the second is not.
        let below = u32::from(upper == 0);
        assert!(fixture.m > 2);
        edit(dir, "link_lists.bin", |bytes| {
            bytes[upper + 4..][..2].copy_from_slice(&1_u16.to_le_bytes());
            bytes[upper + 8..][..4].copy_from_slice(&below.to_le_bytes());
        });
    }),
    fault("links.entry_point_level", false, |_, dir| {
        edit(dir, "header.bin", |bytes| bytes[52] += 1);
    }),
    fault("links.self and links.duplicate", true, |_, dir| {
        edit(dir, "data_level0.bin", |bytes| {
            bytes[..2].copy_from_slice(&4_u16.to_le_bytes());
            bytes[4..20].copy_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        });
    }),
    fault("metadata.label_without_record", true, |_, dir| {
        rewrite_pickle(dir, |ids, _, total| {
            *total += 1;
            ids.insert(*total, "nobody".into());
        });
    }),
    fault("metadata.record_without_id", true, |_, dir| {
        rewrite_pickle(dir, |ids, _, _| drop(ids.pop_first()));
    }),
    fault("metadata.dimension", true, |_, dir| {
        rewrite_pickle(dir, |_, dimensionality, _| *dimensionality += 1);
    }),
    fault("metadata.label_beyond_total", true, |_, dir| {
        rewrite_pickle(dir, |_, _, total| *total -= 1);
    }),
];

#[test]
fn a_repair_keeps_what_a_salvage_does_for_every_damaged_fixture() {
    for (fixture, fault) in pairs(&filled_fixtures(), FAULTS) {
        let dir = copy_of(&fixture.segment);
        (fault.make)(fixture, dir.path());
        let shape = Salvage::default()
            .with_dimension(fault.shape.then_some(fixture.dimension))
            .with_m(fault.shape.then_some(fixture.m));
        let old = held(dir.path(), Some(shape));
        for links in BOTH {
            let place = tempfile::tempdir().unwrap();
            let new = place.path().join("new");
            let options = RepairOptions::default()
                .with_links(links)
                .with_metric(fixture.space)
                .with_salvage(shape);
            let what = format!("{}, {}, {links}", fixture.segment.display(), fault.name);
            let result = repair(dir.path(), &new, &options);
            if links == RepairLinks::Keep && !fault.links {
                let error = result.expect_err(&what);
                assert!(
                    error.kind() == ErrorKind::InvalidArgument && error.field() == Some("links"),
                    "{what}: {error}"
                );
                continue;
            }
            let summary = result.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(summary.links, links, "{what}");
            assert_repaired(&old, &new, &summary);
        }
    }
}

#[test]
fn an_impossible_repair_explains_why_and_what_helps() {
    let segment = fixtures_root().join("1.5.9/churn/segment");
    let place = tempfile::tempdir().unwrap();
    let new = place.path().join("new");
    let options = RepairOptions::default().with_metric(Space::L2);
    let refused = |change: fn(&Path)| {
        let dir = copy_of(&segment);
        change(dir.path());
        repair(dir.path(), &new, &options).unwrap_err().to_string()
    };
    for error in [
        refused(|dir| std::fs::remove_file(dir.join("index_metadata.pickle")).unwrap()),
        refused(|dir| edit(dir, "index_metadata.pickle", |bytes| bytes.truncate(500))),
    ] {
        assert!(error.contains("index_metadata.pickle"), "{error}");
        assert!(
            error.contains("--collection") && error.contains("export"),
            "{error}"
        );
    }
    let error = refused(|dir| std::fs::remove_file(dir.join("data_level0.bin")).unwrap());
    assert!(error.contains("data_level0.bin"), "{error}");
    let error = refused(|dir| edit(dir, "header.bin", |bytes| bytes[0] = 2));
    assert!(error.contains("persisted version"), "{error}");
    let error = refused(|dir| std::fs::remove_file(dir.join("header.bin")).unwrap());
    assert!(error.contains("header.bin"), "{error}");

    let empty = fixtures_root().join("1.5.9/tiny/segment");
    let error = repair(&empty, &new, &options).unwrap_err().to_string();
    assert!(
        error.contains("index_metadata.pickle") || error.contains("records"),
        "{error}"
    );
    assert!(names(place.path()).is_empty());
}

#[test]
fn a_new_graph_needs_a_metric_unless_the_index_implies_it() {
    let place = tempfile::tempdir().unwrap();
    let build = RepairOptions::default().with_links(RepairLinks::Build);
    let l2 = fixtures_root().join("1.5.9/churn/segment");
    let error = repair(&l2, &place.path().join("l2"), &build).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.field(), Some("metric"));

    let cosine = fixtures_root().join("0.6.3/cosine/segment");
    let new = place.path().join("cosine");
    let summary = repair(&cosine, &new, &build).unwrap();
    assert_eq!(summary.metric, Some(Space::Cosine));
    // Norms come from the old index, by label.
    let originals = |dir: &Path| {
        let options = ExtractOptions::default().with_vectors(hnsw_toolbox::VectorForm::Original);
        let (_, rows) = rows_by_callback(dir, &options).unwrap();
        rows.into_iter()
            .map(|row| (row.label, row.vector))
            .collect::<BTreeMap<_, _>>()
    };
    assert!(originals(&new) == originals(&cosine));
    assert_eq!(summary.norms_lost, 0);

    // If links are kept, only the choice of neighbours depends on the metric.
    let summary = repair(&l2, &place.path().join("kept"), &RepairOptions::default()).unwrap();
    assert_eq!((summary.metric, summary.links), (None, RepairLinks::Keep));
    assert!(summary.bridged > 0);
}

#[test]
fn the_new_index_is_independent_of_threads_and_read_mode() {
    let segment = fixtures_root().join("1.5.9/l2/segment");
    for links in BOTH {
        let place = tempfile::tempdir().unwrap();
        let mut first = None;
        for (&threads, &io) in pairs(&[1, 2, 3], &IO_MODES) {
            let options = RepairOptions::default()
                .with_links(links)
                .with_metric(Space::L2)
                .with_threads(threads)
                .with_io(io);
            let new = place.path().join(format!("{threads}-{io}"));
            repair(&segment, &new, &options).unwrap();
            let bytes = contents(&new);
            assert!(*first.get_or_insert_with(|| bytes.clone()) == bytes);
        }
    }
}

#[test]
fn a_failed_repair_replaces_and_leaves_nothing() {
    let segment = copy_of(&fixtures_root().join("1.5.9/churn/segment"));
    let place = tempfile::tempdir().unwrap();
    let taken = place.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    let inside = segment.path().join("new");
    let options = RepairOptions::default();
    for new in [&taken, &inside, &segment.path().to_path_buf()] {
        let error = repair_index(segment.path(), new, &options, &Monitor::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnusablePath, "{error:?}");
    }
    let token = CancelToken::new();
    let cancel = |_| token.cancel();
    let monitor = Monitor::default().with_cancel(&token).on_progress(&cancel);
    let new = place.path().join("new");
    let error = repair_index(segment.path(), &new, &options, &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
    assert_eq!(names(place.path()), ["taken"]);
}

#[test]
fn the_command_prints_working_steps_to_swap_the_directories() {
    let place = tempfile::tempdir().unwrap();
    let old = place.path().join("old segment");
    std::fs::create_dir(&old).unwrap();
    let fixture = fixtures_root().join("1.5.9/churn/segment");
    for name in names(&fixture) {
        std::fs::copy(fixture.join(&name), old.join(&name)).unwrap();
    }
    let expected = held(&old, None);
    let new = place.path().join("new");
    let run = |more: &[&str]| {
        let mut command = Command::new(BINARY);
        command
            .arg("repair")
            .arg(&old)
            .arg("-o")
            .arg(&new)
            .args(more);
        command.output().unwrap()
    };
    let output = run(&["--links", "build"]);
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("metric"), "{words}");

    let output = run(&[]);
    assert_eq!(output.status.code(), Some(0));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("metric: not known"), "{printed}");
    let moves: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.split_once(". mv "))
        .map(|(_, arguments)| arguments)
        .collect();
    assert_eq!(moves.len(), 2, "{printed}");
    for arguments in moves {
        let status = Command::new("sh")
            .args(["-c", &format!("mv {arguments}")])
            .status();
        assert!(status.unwrap().success());
    }
    assert_eq!(
        names(place.path()),
        ["old segment", "old segment.before-repair"]
    );
    assert!(held(&old, None) == expected);

    let output = run(&["--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["summary"]["state_before"], "healthy");
    assert_eq!(answer["summary"]["links"], "keep");
    assert_eq!(answer["summary"]["deleted_removed"], 0);
    assert_eq!(answer["summary"]["steps"].as_array().unwrap().len(), 4);
}

#[test]
#[cfg(target_os = "linux")]
fn a_kill_leaves_the_new_directory_absent_or_complete() {
    use std::os::unix::process::ExitStatusExt;

    let fixture = fixtures_root().join("1.5.9/l2/segment");
    let place = tempfile::tempdir().unwrap();
    let new = place.path().join("new");
    let expected = held(&fixture, None);
    let mut random = Random(17);
    let (mut whole, mut delay) = (0, 0);
    for round in 0..40 {
        // Continue until some runs were killed and some were not.
        if round >= extent(15, 40) && (1..round).contains(&whole) {
            break;
        }
        let mut child = Command::new(BINARY)
            .args(["repair", "--quiet", "--metric", "l2", "--links", "build"])
            .arg(&fixture)
            .arg("-o")
            .arg(&new)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(random.next() % (1000 + delay)));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(
            status.success() || status.signal() == Some(libc::SIGKILL),
            "{status}"
        );
        if new.exists() {
            assert!(held(&new, None) == expected);
            assert_sound(&new);
            std::fs::remove_dir_all(&new).unwrap();
            whole += 1;
            delay /= 2;
        } else {
            delay = delay * 3 / 2 + 1000;
        }
    }
    // The next run removes the remains of killed ones.
    repair(&fixture, &new, &RepairOptions::default()).unwrap();
    assert_eq!(names(place.path()), ["new"]);
    assert!((1..40).contains(&whole), "{whole} of 40 were whole");
}
