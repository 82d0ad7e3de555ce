#![allow(clippy::cast_possible_truncation)]

use std::path::PathBuf;

use super::*;
use crate::io::file::IoMode;
use crate::verbs::build::tests::structured;
use crate::{build_index_from_vectors, inspect_hnsw, GraphOptions, InspectOptions, Severity};

/// A graph file of 200 vectors of dimension 4.
struct Built {
    directory: tempfile::TempDir,
    bytes: Vec<u8>,
}

/// The levels follow the header of 256 bytes and the vectors.
const LEVELS: usize = 256 + 200 * 16;
/// The offsets follow the levels, which are u32.
const OFFSETS: usize = LEVELS + 200 * 4;

impl Built {
    fn new(metric: Metric, labels: &[u64]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index.hnsw");
        let options = GraphOptions::default()
            .with_metric(metric)
            .with_m(8)
            .with_seed(3);
        let data = structured(200, 4, 1);
        let monitor = Monitor::default();
        build_index_from_vectors(&data, 4, Some(labels), &path, &options, &monitor).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        Self { directory, bytes }
    }

    fn with(&self, at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut changed = self.bytes.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("changed.hnsw")
    }

    /// Verifies a file in both I/O modes.
    fn verify(&self, bytes: &[u8]) -> VerifyReport {
        std::fs::write(self.path(), bytes).unwrap();
        let [mapped, read] = [IoMode::Mmap, IoMode::Read].map(|io| {
            let options = VerifyOptions::default().with_io(io);
            verify_hnsw(self.path(), &options, &Monitor::default()).unwrap()
        });
        assert_eq!(mapped, read);
        mapped
    }

    fn list_of(&self, node: usize) -> usize {
        let offset = self.bytes[OFFSETS + 8 * node..][..8].try_into().unwrap();
        u64::from_le_bytes(offset) as usize
    }

    /// A node on level 0 only that is neither the first nor the last.
    fn base_node(&self) -> usize {
        (1..199)
            .find(|node| self.bytes[LEVELS + 4 * node] == 0)
            .unwrap()
    }
}

fn labels() -> Vec<u64> {
    (0..200).map(|node| 3 * node + 1).collect()
}

#[test]
fn built_graphs_are_healthy_and_counted_correctly() {
    for metric in Metric::ALL.iter().copied() {
        let built = Built::new(metric, &labels());
        let report = built.verify(&built.bytes);
        assert_eq!(report.state, IndexState::Healthy, "{report:?}");
        assert_eq!((report.live, report.deleted), (200, 0));
        let harmless = [Severity::Info, Severity::Hint];
        for finding in &report.findings {
            assert!(harmless.contains(&finding.severity), "{finding:?}");
        }
        let options = InspectOptions::default();
        let found = inspect_hnsw(built.path(), &options, &Monitor::default()).unwrap();
        assert_eq!((found.metric, found.vectors), (Some(metric), 200));
        assert_eq!(found.levels.iter().sum::<u64>(), 200);
        let levels: Vec<u64> = (0..found.levels.len())
            .map(|level| {
                let levels = built.bytes[LEVELS..OFFSETS].chunks(4);
                levels
                    .filter(|bytes| usize::from(bytes[0]) == level)
                    .count() as u64
            })
            .collect();
        assert_eq!(found.levels, levels);
        let links: u64 = (0..200)
            .map(|node| u64::from(built.bytes[built.list_of(node)]))
            .sum();
        let counted = found
            .degrees
            .iter()
            .map(|degree| degree.neighbours * degree.nodes);
        assert_eq!(counted.sum::<u64>(), links);
        let labels = found.labels.unwrap();
        assert_eq!((labels.min, labels.max), (1, 598));
        assert_eq!(found.duplicate_labels, 0);
        assert!(!found.damaged);
    }
}

/// Returns the only finding that is an error or a warning, and asserts its code.
#[track_caller]
fn only(report: &VerifyReport, code: &str) -> crate::Finding {
    let mut serious = report
        .findings
        .iter()
        .filter(|finding| matches!(finding.severity, Severity::Error | Severity::Warning));
    let finding = serious
        .next()
        .unwrap_or_else(|| panic!("nothing: {report:?}"));
    assert_eq!(finding.code, code, "{report:?}");
    assert_eq!(serious.next(), None, "{report:?}");
    finding.clone()
}

#[test]
fn every_kind_of_damage_is_found() {
    let built = Built::new(Metric::Euclidean, &labels());
    let node = built.base_node();
    let list = built.list_of(node);
    let number = |value: u64| value.to_le_bytes();
    let mut distance = f32::from_le_bytes(built.bytes[list + 8..][..4].try_into().unwrap());
    distance *= 1.01;
    let own = (node as u32).to_le_bytes();
    let second = built.bytes[list + 12..][..4].to_vec();
    let upper = (0..200)
        .find(|node| built.bytes[LEVELS + 4 * node] > 0)
        .unwrap();
    let upper_list = built.list_of(upper);
    let upper_links = upper_list + 4 + 8 * usize::from(built.bytes[upper_list]) + 4;
    for (bytes, code, state) in [
        (built.with(0, b"X"), "header.invalid", IndexState::BadHeader),
        (
            built.with(8, &[2]),
            "header.unsupported_version",
            IndexState::UnsupportedVersion,
        ),
        (
            built.with(12, &number(1 << 40)),
            "header.invalid",
            IndexState::BadHeader,
        ),
        (
            built.bytes[..3000].to_vec(),
            "header.invalid",
            IndexState::BadHeader,
        ),
        (
            built.with(52, &number(200)),
            "links.entry_point_level",
            IndexState::TornLinks,
        ),
        (
            built.with(256 + 16 * node, &f32::NAN.to_le_bytes()),
            "vectors.not_finite",
            IndexState::TornData,
        ),
        (
            built.with(OFFSETS + 8 * node, &number(5)),
            "offsets.not_consecutive",
            IndexState::TornLinks,
        ),
        (
            built.with(list + 4, &[255; 4]),
            "links.neighbour_out_of_range",
            IndexState::TornLinks,
        ),
        (
            built.with(upper_links, &own),
            "links.neighbour_below_level",
            IndexState::TornLinks,
        ),
        (
            built.with(list + 4, &own),
            "links.self",
            IndexState::Healthy,
        ),
        (
            built.with(list + 4, &second),
            "links.duplicate",
            IndexState::Healthy,
        ),
        (
            built.with(list + 8, &distance.to_le_bytes()),
            "links.distance",
            IndexState::Healthy,
        ),
        (
            [&built.bytes[..], b"more"].concat(),
            "file.trailing_bytes",
            IndexState::Healthy,
        ),
        (
            built.bytes[..built.bytes.len() - 1].to_vec(),
            "labels.unreadable",
            IndexState::TornData,
        ),
    ] {
        let mut report = built.verify(&bytes);
        if code.starts_with("links.") {
            // A changed neighbour also has another distance.
            let distances = |code: &str| code == "links.distance";
            if !distances(code) {
                report.findings.retain(|finding| !distances(finding.code));
            }
        }
        if code.starts_with("vectors.") {
            report
                .findings
                .retain(|finding| finding.code != "links.distance");
        }
        let finding = only(&report, code);
        assert!(finding.first.is_some(), "{finding:?}");
        assert_eq!(report.state, state, "{report:?}");
        assert_eq!(report.damaged, state != IndexState::Healthy);
    }
    // With a count above m0, the end of the list and the lists behind it cannot be found.
    let report = built.verify(&built.with(list, &[17]));
    assert!(report.damaged);
    assert!(report
        .findings
        .iter()
        .any(|finding| finding.code == "links.list_unreadable"));
    let report = built.verify(&built.with(LEVELS + 4 * node, &[0, 1]));
    assert!(report
        .findings
        .iter()
        .any(|finding| finding.code == "levels.out_of_range"));
    // A file truncated anywhere is damaged.
    for cut in (0..built.bytes.len()).step_by(97) {
        assert!(built.verify(&built.bytes[..cut]).damaged, "{cut}");
    }
}

#[test]
fn duplicate_labels_are_counted_in_dense_and_sparse_ranges() {
    let mut near = labels();
    near[10] = near[20];
    near[30] = near[20];
    let mut far = near.clone();
    far[0] = u64::MAX;
    for labels in [near, far] {
        let built = Built::new(Metric::Cosine, &labels);
        let report = built.verify(&built.bytes);
        let finding = only(&report, "labels.duplicate");
        assert_eq!(
            (finding.count, finding.first.as_deref()),
            (2, Some("label 61"))
        );
        assert!(!report.damaged);
    }
}

#[test]
fn unstated_metrics_are_deduced_from_the_distances() {
    for metric in Metric::ALL.iter().copied() {
        let built = Built::new(metric, &labels());
        let report = built.verify(&built.with(72, &[0; 16]));
        let hint = report
            .findings
            .iter()
            .find(|finding| finding.code == "metric.not_stated");
        let words = hint.unwrap().first.clone().unwrap();
        assert!(words.ends_with(&format!("are {metric}")), "{words}");
        assert!(!report.damaged);
    }
}

#[test]
fn unreachable_nodes_are_counted() {
    let built = Built::new(Metric::Euclidean, &labels());
    let entry_point = built.bytes[52] as usize;
    // All links of the entry point lead to itself, so that level 0 ends there.
    let list = built.list_of(entry_point);
    let mut bytes = built.bytes.clone();
    for link in 0..usize::from(bytes[list]) {
        let id = (entry_point as u32).to_le_bytes();
        bytes[list + 4 + 8 * link..][..4].copy_from_slice(&id);
    }
    let report = built.verify(&bytes);
    let finding = report
        .findings
        .iter()
        .find(|finding| finding.code == "links.unreachable");
    assert_eq!(finding.unwrap().count, 199);
}
