//! Damaged vectors and norms of a segment: undamaged parts are exported and repaired, the rest is
//! null, and both are counted.

use std::collections::BTreeMap;
use std::path::Path;

use super::{codes, export};
use crate::support::persist::{expected_vector, PersistFixture};
use crate::support::table::{Cell, Table};
use hnsw_toolbox::{
    list_collections, repair_index, verify_index, CollectionFilter, CollectionState, ExportSummary,
    Monitor, RepairOptions, RepairSummary, VerifyOptions,
};

/// The segment of `articles` in the fixture of 1.5.9: 24 components, M 16.
const RECORD: usize = 236;
const VECTOR: usize = 132;
const COMPONENTS: usize = 24;

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// The table's vectors by id.
fn vectors(table: &Table) -> BTreeMap<String, Option<Vec<f32>>> {
    let component = |cell: &Cell| match cell {
        Cell::Float32(bits) => f32::from_bits(*bits),
        other => panic!("{other:?}"),
    };
    let pairs = table.column("id").iter().zip(table.column("vector"));
    let pair = |(id, vector): (&Cell, &Cell)| match (id, vector) {
        (Cell::Utf8(id), Cell::Null) => (id.clone(), None),
        (Cell::Utf8(id), Cell::List(cells)) => {
            (id.clone(), Some(cells.iter().map(component).collect()))
        }
        other => panic!("{other:?}"),
    };
    pairs.map(pair).collect()
}

fn truth(fixture: &PersistFixture, collection: &str) -> BTreeMap<String, Vec<f32>> {
    let records = fixture.collection(collection)["records"]
        .as_array()
        .unwrap();
    let record = |record| {
        let record: &serde_json::Value = record;
        let id = record["id"].as_str().unwrap().to_string();
        (id, expected_vector(record))
    };
    records.iter().map(record).collect()
}

fn count(summary: &ExportSummary, code: &str) -> u64 {
    let findings = summary.files[0].findings.iter();
    let found = findings.filter(|finding| finding.code == code);
    found.map(|finding| finding.count).sum()
}

fn norm(vector: &[f32]) -> f64 {
    let squares = vector.iter().map(|one| f64::from(*one).powi(2));
    squares.sum::<f64>().sqrt()
}

/// Returns true if two vectors differ only by rounding: the queue holds them before division by the
/// norm, the segment after.
fn is_same(vector: &[f32], given: &[f32]) -> bool {
    let mut pairs = vector.iter().zip(given);
    vector.len() == given.len()
        && pairs.all(|(found, given)| (found - given).abs() <= 1e-6 * norm(vector) as f32)
}

/// Returns true if a vector is `given` divided by its norm, but not `given` itself.
fn is_direction_of(vector: &[f32], given: &[f32]) -> bool {
    let length = norm(given);
    let mut pairs = vector.iter().zip(given);
    (norm(vector) - 1.0).abs() < 1e-5
        && pairs.all(|(found, given)| (f64::from(*found) - f64::from(*given) / length).abs() < 1e-5)
}

/// Repairs a collection and checks that the new segment is healthy.
fn repair(persist_dir: &Path, name: &str) -> RepairSummary {
    let scratch = tempfile::tempdir().unwrap();
    let new_dir = scratch.path().join("new");
    let options = RepairOptions::default()
        .with_collection(name.to_string())
        .with_database("default_database".to_string())
        .with_tenant("default_tenant".to_string());
    let summary = repair_index(persist_dir, &new_dir, &options, &Monitor::default()).unwrap();
    let report = verify_index(&new_dir, &VerifyOptions::default(), &Monitor::default()).unwrap();
    assert!(!report.damaged, "{report:?}");
    summary
}

/// A name, and a modification of length.bin.
type Loss = (&'static str, fn(&Path));

const LOSSES: [Loss; 8] = [
    ("a block of zeros", |path| {
        edit(path, |bytes| bytes[512..1024].fill(0))
    }),
    ("a block of ones", |path| {
        edit(path, |bytes| bytes[512..1024].fill(0xFF))
    }),
    ("cut in the middle of a norm", |path| {
        edit(path, |bytes| bytes.truncate(2002))
    }),
    ("empty", |path| edit(path, Vec::clear)),
    ("missing", |path| std::fs::remove_file(path).unwrap()),
    ("one zero", |path| {
        edit(path, |bytes| bytes[400..404].fill(0))
    }),
    ("negative", |path| {
        edit(path, |bytes| {
            bytes[400..404].copy_from_slice(&(-3_f32).to_le_bytes())
        })
    }),
    ("beyond what f32 can give", |path| {
        edit(path, |bytes| {
            bytes[400..404].copy_from_slice(&1e30_f32.to_le_bytes())
        })
    }),
];

#[test]
fn vectors_whose_norm_is_lost_keep_their_direction() {
    // All of them with the newest version, one with the oldest.
    for (version, losses) in [("1.5.9", &LOSSES[..]), ("0.5.23-metalag", &LOSSES[..1])] {
        let (sound, _) = export(&PersistFixture::unpack(version).dir(), "articles");
        assert!(!codes(&sound).contains(&"norm-missing"));
        for (loss, damage) in losses {
            let fixture = PersistFixture::unpack(version);
            let truth = truth(&fixture, "articles");
            damage(&fixture.segment("articles").join("length.bin"));
            let (summary, table) = export(&fixture.dir(), "articles");
            let mut directions = 0;
            for (id, vector) in vectors(&table) {
                let (vector, given) = (vector.unwrap(), &truth[&id]);
                if !is_same(&vector, given) {
                    assert!(is_direction_of(&vector, given), "{loss}: {id}");
                    directions += 1;
                }
            }
            let counted = count(&summary, "norm-missing");
            assert!(
                directions > 0 && counted >= directions,
                "{version}, {loss}: {counted}"
            );
            let file = &summary.files[0];
            assert_eq!(file.rows as usize, truth.len());
            assert_eq!(file.without_vector, sound.files[0].without_vector);
            assert_eq!(file.state, CollectionState::Damaged, "{loss}");

            let listed = list_collections(
                fixture.dir(),
                &CollectionFilter::default().with_names(vec!["articles".into()]),
                &Monitor::default(),
            )
            .unwrap();
            let damaged =
                |report: &&hnsw_toolbox::CollectionReport| report.state == CollectionState::Damaged;
            assert_eq!(
                listed.collections.iter().filter(damaged).count(),
                1,
                "{loss}"
            );

            let options = VerifyOptions::default();
            let segment = fixture.segment("articles");
            let report = verify_index(segment, &options, &Monitor::default()).unwrap();
            let is_about_norms = |code: &str| code.starts_with("length.");
            assert!(report.damaged, "{loss}");
            assert!(
                report.findings.iter().any(|one| is_about_norms(one.code)),
                "{loss}"
            );

            let repaired = repair(&fixture.dir(), "articles");
            assert_eq!(repaired.records as usize, truth.len());
            assert!(repaired.norms_lost >= directions, "{loss}");
            let findings = repaired.collection.unwrap().findings;
            assert!(findings
                .iter()
                .any(|finding| finding.code == "norm-missing"));
        }
    }
}

#[test]
fn a_zero_vector_with_norm_0_is_sound() {
    let fixture = PersistFixture::unpack("1.5.9");
    let truth = truth(&fixture, "articles");
    let zeros = truth.values().filter(|vector| norm(vector) == 0.0).count();
    assert!(zeros > 0);
    let (summary, table) = export(&fixture.dir(), "articles");
    let found = vectors(&table);
    let is_zero = |vector: &&Option<Vec<f32>>| norm(vector.as_ref().unwrap()) == 0.0;
    assert_eq!(found.values().filter(is_zero).count(), zeros);
    for code in ["norm-missing", "vector-damaged"] {
        assert_eq!(count(&summary, code), 0);
    }
}

/// A name, and a modification of 512 bytes.
type Tear = (&'static str, fn(&mut [u8], &[u8]));

const TEARS: [Tear; 3] = [
    ("zeros", |bytes, _| bytes.fill(0)),
    ("random bytes", |bytes, _| {
        let mut state = 1_u32;
        for byte in bytes {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
    }),
    ("another record", |bytes, other| {
        bytes.copy_from_slice(&other[..bytes.len()]);
    }),
];

#[test]
fn partly_damaged_vectors_of_a_cosine_collection_are_null() {
    for (tear, damage) in TEARS {
        for at in [20, 333] {
            let fixture = PersistFixture::unpack("1.5.9");
            let truth = truth(&fixture, "articles");
            let segment = fixture.segment("articles");
            let (sound, _) = export(&fixture.dir(), "articles");
            edit(&segment.join("data_level0.bin"), |bytes| {
                let other = bytes[700 * RECORD + 40..][..1024].to_vec();
                let vector = at * RECORD + VECTOR;
                // Half of the vector and nothing else.
                damage(&mut bytes[vector..vector + 2 * COMPONENTS], &other);
            });
            let (summary, table) = export(&fixture.dir(), "articles");
            let mut missing = 0;
            for (id, vector) in vectors(&table) {
                match vector {
                    None => missing += 1,
                    Some(vector) => assert!(is_same(&vector, &truth[&id]), "{tear}, {at}: {id}"),
                }
            }
            let damaged = count(&summary, "vector-damaged");
            let file = &summary.files[0];
            assert_eq!(file.without_vector, missing);
            assert!(
                missing >= sound.files[0].without_vector && missing <= damaged,
                "{tear}"
            );
            assert_eq!(damaged, 1, "{tear}, record {at}");
            assert_ne!(file.state, sound.files[0].state);

            let options = VerifyOptions::default();
            let report = verify_index(&segment, &options, &Monitor::default()).unwrap();
            let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
            assert!(report.damaged, "{tear}");
            let is_told =
                codes.contains(&"vectors.damaged") || codes.contains(&"vectors.not_finite");
            assert!(is_told, "{tear}: {codes:?}");

            let repaired = repair(&fixture.dir(), "articles");
            assert_eq!(repaired.records, truth.len() as u64 - missing, "{tear}");
        }
    }
}

#[test]
fn the_queue_replaces_damaged_vectors_and_gives_norms_back() {
    let fixture = PersistFixture::unpack("1.5.9");
    let truth = truth(&fixture, "articles");
    let segment = fixture.segment("articles");
    edit(&segment.join("data_level0.bin"), |bytes| {
        for record in bytes.chunks_exact_mut(RECORD).step_by(2) {
            record[VECTOR..VECTOR + 8].fill(0x41);
        }
    });
    edit(&segment.join("length.bin"), |bytes| {
        for norm in bytes.chunks_exact_mut(4).skip(1).step_by(2) {
            norm.fill(0);
        }
    });
    let (before, table) = export(&fixture.dir(), "articles");
    let found = vectors(&table);
    let file = &before.files[0];
    assert!(file.without_vector > 100 && file.vectors_from_index > 100);
    // The rows that a never purged queue would still have.
    let topic = format!(
        "persistent://default/default/{}",
        fixture.collection("articles")["id"].as_str().unwrap()
    );
    let database = rusqlite::Connection::open(fixture.database()).unwrap();
    let mut restored = 0;
    for (id, vector) in &found {
        let given = &truth[id];
        if vector.as_ref().is_some_and(|vector| is_same(vector, given)) {
            continue;
        }
        let bytes: Vec<u8> = given.iter().flat_map(|one| one.to_le_bytes()).collect();
        restored += database
            .execute(
                "INSERT OR REPLACE INTO embeddings_queue
                 (seq_id, operation, topic, id, vector, encoding, metadata)
                 SELECT e.seq_id, 2, ?1, ?2, ?3, 'FLOAT32', '{}'
                 FROM embeddings e JOIN segments s ON s.id = e.segment_id
                 WHERE s.collection = ?4 AND e.embedding_id = ?2",
                rusqlite::params![
                    topic,
                    id,
                    bytes,
                    fixture.collection("articles")["id"].as_str().unwrap()
                ],
            )
            .unwrap();
    }
    drop(database);
    assert!(restored > 200);
    let (after, table) = export(&fixture.dir(), "articles");
    assert_eq!(after.files[0].without_vector, 0);
    for (id, vector) in vectors(&table) {
        assert!(is_same(&vector.unwrap(), &truth[&id]), "{id}");
    }
    assert!(count(&after, "vector-damaged") > 0 && count(&after, "norm-missing") > 0);
    let repaired = repair(&fixture.dir(), "articles");
    assert_eq!(repaired.records as usize, truth.len());
    // A zero vector has no norm to lose.
    assert_eq!(repaired.norms_lost, 0);
}

#[test]
fn a_zeroed_sector_is_a_finding_with_other_metrics() {
    // Records of 188 bytes with 12 components, so that some sectors end inside a vector.
    const SIZE: usize = 188;
    let mut found = 0;
    let ends = (100 * SIZE / 512..).map(|sector| sector * 512);
    let within = ends.filter(|end| (VECTOR + 8..VECTOR + 40).contains(&(end % SIZE)));
    for end in within.take(4) {
        let fixture = PersistFixture::unpack("1.5.9");
        let truth = truth(&fixture, "wal_purged");
        let segment = fixture.segment("wal_purged");
        edit(&segment.join("data_level0.bin"), |bytes| {
            bytes[end - 512..end].fill(0);
        });
        let (summary, table) = export(&fixture.dir(), "wal_purged");
        let vectors = vectors(&table);
        let is_wrong = |(id, vector): &(&String, &Option<Vec<f32>>)| {
            vector.as_ref().is_some_and(|vector| *vector != truth[*id])
        };
        let wrong = vectors.iter().filter(is_wrong).count() as u64;
        assert_eq!(count(&summary, "vector-zeroed-sector"), wrong);
        if wrong > 0 {
            assert_eq!(summary.files[0].state, CollectionState::Incomplete);
            let options = VerifyOptions::default();
            let report = verify_index(&segment, &options, &Monitor::default()).unwrap();
            let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
            assert!(codes.contains(&"vectors.zeroed_sector"), "{codes:?}");
        }
        found += wrong;
    }
    assert!(found > 0);
}

#[test]
fn intact_collections_have_no_damaged_vectors() {
    for version in ["1.5.9", "0.5.23-metalag"] {
        let fixture = PersistFixture::unpack(version);
        let list = list_collections(
            fixture.dir(),
            &CollectionFilter::default(),
            &Monitor::default(),
        );
        for collection in list.unwrap().collections {
            for finding in collection.findings {
                let is_about_vectors = finding.code.starts_with("norm")
                    || finding.code.starts_with("vector-damaged")
                    || finding.code.starts_with("vector-zeroed");
                assert!(!is_about_vectors, "{}: {finding:?}", collection.name);
            }
        }
    }
}

#[test]
fn a_record_that_overwrote_another_is_a_finding() {
    let fixture = PersistFixture::unpack("1.5.9");
    let segment = fixture.segment("articles");
    edit(&segment.join("data_level0.bin"), |bytes| {
        bytes.copy_within(20 * RECORD..23 * RECORD, 333 * RECORD);
    });
    let (summary, _) = export(&fixture.dir(), "articles");
    let lost = count(&summary, "id-without-record");
    // Some of the six records can be deleted; those duplicate nothing.
    let repeated = count(&summary, "label-duplicate");
    assert!(repeated > 0 && repeated <= 3, "{repeated}");
    assert!(lost > 0 && lost <= 3, "{lost}");
    assert!(!summary.is_complete());
}
