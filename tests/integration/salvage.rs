//! Salvage of a damaged directory: usable records are kept, the rest is counted by reason.

use std::path::Path;
use std::process::Command;

use crate::support::*;
use hnsw_toolbox::{
    extract_index_to_columnar, ColumnarFormat, Error, ErrorKind, ExtractOptions, ExtractSummary,
    IoMode, MetadataFrom, Monitor, Salvage, SalvageSummary, VectorForm,
};
use proptest::prelude::*;
use serde_json::Value;

fn options(io: IoMode, include_deleted: bool) -> ExtractOptions {
    extract_options(include_deleted, io).with_salvage(Salvage::default())
}

/// The rows by each way of reading and writing, which must agree.
fn salvage_with(dir: &Path, options: &ExtractOptions) -> (ExtractSummary, Vec<Row>) {
    let scratch = tempfile::tempdir().unwrap();
    let mut outcomes = Vec::new();
    for io in IO_MODES {
        let options = options.clone().with_io(io);
        outcomes.push(rows_by_callback(dir, &options).unwrap());
        for format in FORMATS {
            let options = columnar_options(format, options.clone());
            let (summary, export) = rows_by_file(dir, scratch.path(), &options).unwrap();
            outcomes.push((summary, export.rows));
        }
    }
    let (summary, rows) = outcomes.pop().unwrap();
    for (other, other_rows) in outcomes {
        assert_eq!(other, summary);
        assert_same_rows(&other_rows, &rows, "each way");
    }
    let salvaged = summary.salvage.as_ref().unwrap();
    let left_out = salvaged.label_zero
        + salvaged.label_duplicate
        + salvaged.vector_not_finite
        + salvaged.vector_damaged;
    assert_eq!(
        summary.scanned,
        summary.emitted + summary.deleted_skipped + left_out
    );
    assert_eq!(summary.emitted, rows.len() as u64);
    (summary, rows)
}

fn salvage(dir: &Path, include_deleted: bool) -> (SalvageSummary, Vec<Row>) {
    let (summary, rows) = salvage_with(dir, &options(IoMode::Mmap, include_deleted));
    (summary.salvage.unwrap(), rows)
}

#[test]
fn a_healthy_index_loses_nothing() {
    for case in fixtures() {
        let segment = case.join("segment");
        let healthy = ExtractOptions::default().with_include_deleted(true);
        let torn = healthy.clone().with_salvage(Salvage::default());
        let (expected, rows) = rows_by_callback(&segment, &healthy).unwrap();
        let (summary, salvaged) = rows_by_callback(&segment, &torn).unwrap();
        assert_same_rows(&salvaged, &rows, "salvaged");
        assert!(expected.salvage.is_none());
        assert_eq!(summary.metadata, expected.metadata);
        assert_eq!(summary.scanned, expected.scanned);
    }
}

#[test]
fn complete_records_of_a_truncated_file_are_saved() {
    for word in [Word::U32, Word::U64] {
        let index = Synthetic::new(word, 4, 5, 30);
        let dir = index.directory();
        std::fs::remove_file(dir.path().join("length.bin")).unwrap();
        std::fs::remove_file(dir.path().join("link_lists.bin")).unwrap();
        let bytes = index.level0_bytes();
        let size = index.header.size_data_per_element as usize;
        for length in [
            0,
            1,
            size - 1,
            size,
            10 * size + 7,
            30 * size - 1,
            30 * size,
        ] {
            std::fs::write(dir.path().join("data_level0.bin"), &bytes[..length]).unwrap();
            let (summary, rows) = salvage(dir.path(), true);
            assert_same_rows(&rows, &index.rows(true)[..length / size], "cut");
            assert_eq!(summary.counted_records, Some(30));
            assert_eq!(summary.whole_records, (length / size) as u64);
        }
    }
}

#[test]
fn invalid_labels_and_vectors_are_skipped_and_counted() {
    // Labels close together, and far apart.
    for far in [1, 1 << 50] {
        let mut index = Synthetic::new(Word::U64, 4, 3, 30);
        for (at, element) in index.elements.iter_mut().enumerate() {
            element.label = (at as u64 + 1) * far;
            element.deleted = at == 29;
        }
        index.elements[3].label = 0;
        index.elements[4].vector[2] = f32::INFINITY.to_bits();
        // Of three duplicates, the last is kept.
        index.elements[5].label = 11 * far;
        index.elements[8].label = 11 * far;
        // The last is unusable, so the one before it is kept.
        index.elements[12].label = 15 * far;
        index.elements[14].vector[0] = f32::NAN.to_bits();
        // A deleted record does not replace a live one.
        index.elements[29].label = 20 * far;
        let dir = index.directory();
        let (summary, rows) = salvage(dir.path(), true);
        let mut expected = index.rows(true);
        expected.retain(|row| ![3, 4, 5, 8, 14].contains(&row.internal_id));
        assert_same_rows(&rows, &expected, "left out");
        let counts = (
            summary.label_zero,
            summary.label_duplicate,
            summary.vector_not_finite,
        );
        assert_eq!(counts, (1, 2, 2));
        assert_eq!(salvage(dir.path(), false).1.len(), expected.len() - 1);
    }
}

#[test]
fn missing_or_damaged_metadata_loses_the_ids_with_a_warning() {
    let segment = fixtures_root().join("1.5.9/ip/segment");
    let whole = std::fs::read(segment.join("index_metadata.pickle")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("pickle");
    let mut torn = options(IoMode::Mmap, false);
    torn.metadata = MetadataFrom::Path(path.clone());
    let (_, expected) = rows_by_callback(&segment, &options(IoMode::Mmap, false)).unwrap();
    for content in [None, Some(0), Some(whole.len() / 2)] {
        if let Some(length) = content {
            std::fs::write(&path, &whole[..length]).unwrap();
        }
        let (summary, rows) = salvage_with(&segment, &torn);
        assert_same_rows(&rows, &expected, "no ids");
        assert!(summary.metadata.is_none());
        let error = summary.salvage.unwrap().metadata_error.unwrap();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
    std::fs::write(&path, &whole).unwrap();
    let (summary, rows) = salvage_with(&segment, &torn);
    assert!(rows.iter().all(|row| row.user_id.is_some()));
    assert!(summary.salvage.unwrap().metadata_error.is_none());
}

/// The named field, and the modification of it.
type Damage = (&'static str, fn(&mut Header));

#[test]
fn only_the_record_layout_is_needed_from_a_header() {
    let index = Synthetic::new(Word::U64, 4, 5, 30);
    let usable: [fn(&mut Header); 8] = [
        |header| header.mult = f64::NAN,
        |header| header.enterpoint_node = u32::MAX,
        |header| header.max_level = i32::MIN,
        |header| header.max_elements = 0,
        |header| header.m = 0,
        |header| header.max_m0 = u64::MAX,
        |header| header.offset_level0 = 99,
        |header| header.cur_element_count = u64::MAX,
    ];
    for damage in usable {
        let mut damaged = index.clone();
        damage(&mut damaged.header);
        let dir = index.directory();
        std::fs::write(dir.path().join("header.bin"), damaged.header.bytes()).unwrap();
        rows_by_callback(dir.path(), &extract_options(true, IoMode::Read)).unwrap_err();
        let (_, rows) = salvage(dir.path(), true);
        assert_same_rows(&rows, &index.rows(true), "saved");
    }
    let unusable: [Damage; 4] = [
        ("offset_data", |header| header.offset_data = 3),
        ("label_offset", |header| header.label_offset = 0),
        ("size_data_per_element", |header| {
            header.size_data_per_element = 0
        }),
        ("persisted version", |header| header.persisted_version = 3),
    ];
    for (field, damage) in unusable {
        let mut damaged = index.clone();
        damage(&mut damaged.header);
        let dir = index.directory();
        std::fs::write(dir.path().join("header.bin"), damaged.header.bytes()).unwrap();
        let error = rows_by_callback(dir.path(), &options(IoMode::Read, true)).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn with_dimension_and_m_no_header_is_needed() {
    for word in [Word::U32, Word::U64] {
        let index = Synthetic::new(word, 4, 5, 30);
        let dir = index.directory();
        let mut given = options(IoMode::Mmap, true);
        given.salvage = Some(Salvage::default().with_dimension(5).with_m(4));
        match word {
            // The length alone shows that labels are 32-bit.
            Word::U32 => std::fs::write(dir.path().join("header.bin"), [0xFF; 60]).unwrap(),
            Word::U64 => std::fs::remove_file(dir.path().join("header.bin")).unwrap(),
        }
        let (summary, rows) = salvage_with(dir.path(), &given);
        assert_same_rows(&rows, &index.rows(true), "saved");
        let salvaged = summary.salvage.unwrap();
        assert_eq!(
            (salvaged.counted_records, salvaged.whole_records),
            (None, 30)
        );
    }
    let dir = Synthetic::new(Word::U64, 4, 5, 30).directory();
    for (dimension, m) in [
        (Some(5), None),
        (None, Some(4)),
        (Some(0), Some(4)),
        (Some(5), Some(0)),
        (Some(usize::MAX), Some(4)),
        (Some(5), Some(usize::MAX)),
    ] {
        let mut given = options(IoMode::Mmap, true);
        given.salvage = Some(Salvage::default().with_dimension(dimension).with_m(m));
        let error = rows_by_callback(dir.path(), &given).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
    }
}

#[test]
fn nothing_is_written_into_the_index_directory() {
    let dir = Synthetic::new(Word::U64, 4, 5, 30).directory();
    let before = names(dir.path());
    let columnar = columnar_options(ColumnarFormat::Parquet, options(IoMode::Mmap, true));
    for name in [
        "out.parquet",
        "sub/out.parquet",
        "x/../out.parquet",
        "header.bin",
    ] {
        let output = dir.path().join(name);
        let error = extract_index_to_columnar(dir.path(), output, &columnar, &Monitor::default())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnusablePath, "{name}: {error:?}");
        assert_eq!(names(dir.path()), before);
    }
    let beside = tempfile::tempdir().unwrap();
    let output = beside.path().join("deep/out.parquet");
    extract_index_to_columnar(dir.path(), output, &columnar, &Monitor::default()).unwrap();
    assert_eq!(names(dir.path()), before);
}

/// Original vectors of a damaged copy of a cosine segment, without and with a salvage.
fn originals(damage: impl FnOnce(&Path)) -> (Result<Extracted, Error>, Extracted) {
    let dir = tempfile::tempdir().unwrap();
    let segment = fixtures_root().join("1.5.9/cosine/segment");
    for name in names(&segment) {
        std::fs::copy(segment.join(&name), dir.path().join(&name)).unwrap();
    }
    damage(dir.path());
    let extract = |salvage| {
        let original = extract_options(false, IoMode::Read).with_vectors(VectorForm::Original);
        rows_by_callback(dir.path(), &original.with_salvage(salvage))
    };
    (extract(None), extract(Some(Salvage::default())).unwrap())
}

type Extracted = (hnsw_toolbox::ExtractSummary, Vec<Row>);

fn edit(dir: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(dir.join(name)).unwrap();
    change(&mut bytes);
    std::fs::write(dir.join(name), bytes).unwrap();
}

fn norm_of(row: &Row) -> f64 {
    let components = row
        .vector
        .iter()
        .map(|bits| f64::from(f32::from_bits(*bits)));
    components
        .map(|component| component * component)
        .sum::<f64>()
        .sqrt()
}

#[test]
fn original_vectors_still_need_their_norms() {
    let dir = Synthetic::new(Word::U64, 4, 5, 30).directory();
    let mut original = options(IoMode::Mmap, true);
    original.vectors = VectorForm::Original;
    let error = rows_by_callback(dir.path(), &original).unwrap_err();
    assert!(error.to_string().contains("length.bin"), "{error}");
}

#[test]
fn original_vectors_without_a_norm_are_saved_with_norm_1() {
    let (sound, salvaged) = originals(|_| {});
    let (_, sound) = sound.unwrap();
    assert_eq!(salvaged.1, sound);
    assert_eq!(salvaged.0.salvage.unwrap().norm_missing, 0);
    let losses: [fn(&Path); 6] = [
        |dir| std::fs::remove_file(dir.join("length.bin")).unwrap(),
        |dir| edit(dir, "length.bin", Vec::clear),
        |dir| edit(dir, "length.bin", |bytes| bytes.truncate(203)),
        |dir| edit(dir, "length.bin", |bytes| bytes[200..600].fill(0)),
        |dir| edit(dir, "length.bin", |bytes| bytes[200..600].fill(0xFF)),
        |dir| edit(dir, "length.bin", |bytes| bytes[203] ^= 0x80),
    ];
    for (number, loss) in losses.into_iter().enumerate() {
        let (refused, (summary, rows)) = originals(loss);
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("length.bin"), "{number}: {error}");
        assert_eq!(rows.len(), sound.len());
        let mut lost = 0;
        for (row, sound) in rows.iter().zip(&sound) {
            assert_eq!(row.label, sound.label);
            if row.vector != sound.vector {
                assert!((norm_of(row) - 1.0).abs() < 1e-5, "{number}");
                lost += 1;
            }
        }
        let counted = summary.salvage.unwrap().norm_missing;
        assert!(lost > 0 && counted >= lost, "{number}: {lost} of {counted}");
    }
}

#[test]
fn vectors_of_a_cosine_segment_without_norm_1_are_skipped() {
    let header = std::fs::read(fixtures_root().join("1.5.9/cosine/segment/header.bin")).unwrap();
    let field = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap()) as usize;
    let (size, vector) = (field(28), field(44));
    let (sound, _) = originals(|_| {});
    let (_, sound) = sound.unwrap();
    let id = sound[50].internal_id as usize;
    let (refused, (summary, rows)) = originals(|dir| {
        edit(dir, "data_level0.bin", |bytes| {
            bytes[id * size + vector..][..40].fill(0);
        });
    });
    // Without a salvage, only a database could tell that this is no vector of another metric.
    assert_eq!(refused.unwrap().1.len(), sound.len());
    assert_eq!(summary.salvage.unwrap().vector_damaged, 1);
    let mut expected = sound;
    expected.remove(50);
    assert_eq!(rows, expected);
}

#[test]
fn the_command_counts_in_json_and_explains_missing_ids() {
    let dir = Synthetic::new(Word::U64, 4, 5, 30).directory();
    let scratch = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(BINARY);
        command.arg("extract").arg(dir.path()).arg("-o");
        command.arg(scratch.path().join("out.parquet"));
        command.args(more).output().unwrap()
    };
    let output = run(&["--salvage", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let salvaged = &answer["summary"]["salvage"];
    assert_eq!(salvaged["counted_records"], 30);
    assert_eq!(salvaged["whole_records"], 30);
    assert_eq!(salvaged["label_zero"], 0);
    let error = salvaged["metadata_error"].as_str().unwrap();
    assert!(error.contains("index_metadata.pickle"), "{error}");

    let output = run(&["--salvage", "--dimension", "5", "--m", "4", "--no-metadata"]);
    assert_eq!(output.status.code(), Some(0));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("20 rows of dimension 5"), "{printed}");

    for wrong in [
        &["--dimension", "5", "--m", "4"][..],
        &["--salvage", "--m", "4"],
        &["--salvage", "--dimension", "5"],
    ] {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

proptest! {
    #![proptest_config(proptest_config(64))]

    #[test]
    fn only_plausible_rows_are_saved_from_any_bytes(
        header in prop::collection::vec((4..100_usize, any::<u8>()), 0..3),
        data in prop::collection::vec(any::<u8>(), 0..600),
        count in 0..20_u64,
    ) {
        let index = Synthetic::new(Word::U64, 1, 1, count as usize);
        let dir = index.directory();
        let mut bytes = index.header.bytes();
        for (at, byte) in header {
            bytes[at] = byte;
        }
        std::fs::write(dir.path().join("header.bin"), bytes).unwrap();
        std::fs::write(dir.path().join("data_level0.bin"), &data).unwrap();
        let outcomes = IO_MODES.map(|io| {
            rows_by_callback(dir.path(), &options(io, true)).map_err(|error| error.to_string())
        });
        prop_assert_eq!(&outcomes[0], &outcomes[1]);
        if let Ok((summary, rows)) = &outcomes[0] {
            prop_assert!(summary.scanned <= data.len() as u64);
            let mut live = std::collections::BTreeSet::new();
            for row in rows {
                prop_assert!(row.label != 0);
                prop_assert!(row.deleted || live.insert(row.label));
                let mut vector = row.vector.iter().map(|bits| f32::from_bits(*bits));
                prop_assert!(vector.all(f32::is_finite));
            }
        }
    }
}
