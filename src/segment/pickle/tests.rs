//! Against real pickles, CPython's, serde-pickle's, and hostile ones.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_pickle::SerOptions;
use tempfile::NamedTempFile;

use super::oracle::{contents, serde_pickle_contents, Contents};
use super::*;
use crate::base::progress::CancelToken;
use crate::error::ErrorKind;
use crate::io::file::{InputFile, IoMode};
use crate::segment::decode_error::Location;
use crate::test_extent::extent;

/// Reads a pickle in memory as [`read_path`] reads a file.
fn read_in_windows(pickle: &[u8], window: usize) -> Decoded<Contents> {
    let metadata = Pickle::read_in_windows(pickle, &Monitor::default(), window)?;
    contents(&metadata, pickle)
}

fn read(pickle: &[u8]) -> Decoded<Contents> {
    read_in_windows(pickle, WINDOW)
}

fn read_path(path: &Path, mode: IoMode, window: usize) -> Decoded<Contents> {
    let file = InputFile::open(path, mode)?;
    let monitor = Monitor::default();
    let metadata = Pickle::read_in_windows(file.window(window), &monitor, window)?;
    contents(&metadata, file.window_for_lookups())
}

fn file_of(pickle: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(pickle).unwrap();
    file
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn chroma_directories() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for version in std::fs::read_dir(fixtures().join("chroma")).unwrap() {
        for case in std::fs::read_dir(version.unwrap().path()).unwrap() {
            let case = case.unwrap().path();
            if case.join("segment/index_metadata.pickle").exists() {
                found.push(case);
            }
        }
    }
    assert!(found.len() >= 4, "only {} directories", found.len());
    found
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// `{id: label}` and `{id: seq_id}` as they stand in a fixture's `expected.json`.
fn expected_ids(expected: &serde_json::Value) -> BTreeMap<u64, (String, Option<u64>)> {
    let seq_ids = expected["seq_ids"].as_object().unwrap();
    expected["labels"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(id, label)| {
            let seq_id = seq_ids.get(id).map(|seq_id| seq_id.as_u64().unwrap());
            (label.as_u64().unwrap(), (id.clone(), seq_id))
        })
        .collect()
}

/// The names and bytes of the pickles that CPython wrote, with what they hold.
fn cpython_pickles() -> Vec<(String, Vec<u8>, Contents)> {
    let folder = fixtures().join("pickles");
    let expected = json(&folder.join("expected.json"));
    let pickles: Vec<_> = expected
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, expected)| {
            let pickle = std::fs::read(folder.join(name).with_extension("pickle")).unwrap();
            let contents = Contents {
                ids: expected_ids(expected),
                total_elements_added: expected["total_elements_added"].as_u64(),
                dimensionality: expected["dimensionality"].as_u64(),
                max_seq_id: expected["max_seq_id"].as_u64(),
            };
            (name.clone(), pickle, contents)
        })
        .collect();
    assert_eq!(pickles.len(), 28);
    pickles
}

fn cpython_pickle(name: &str) -> Vec<u8> {
    std::fs::read(
        fixtures()
            .join("pickles")
            .join(name)
            .with_extension("pickle"),
    )
    .unwrap()
}

/// The content of a pickle according to serde-pickle.
fn oracle(pickle: &[u8]) -> Contents {
    serde_pickle_contents(pickle).unwrap()
}

/// Where a pickle is refused, and why.
fn refusal(pickle: &[u8], window: usize) -> (u64, String) {
    let error = read_in_windows(pickle, window).unwrap_err();
    let DecodeError::Invalid {
        at: Location::Byte(position),
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    (position, error.in_file(Path::new("pickle")).to_string())
}

#[test]
fn real_files_give_the_ids_labels_and_seq_ids_that_cpython_reads() {
    for directory in chroma_directories() {
        let expected = json(&directory.join("expected.json"));
        let pickle = directory.join("segment/index_metadata.pickle");
        for mode in [IoMode::Mmap, IoMode::Read] {
            let found = read_path(&pickle, mode, WINDOW).unwrap();
            assert_eq!(found.ids, expected_ids(&expected), "{pickle:?}");
        }
    }
}

#[test]
fn real_files_are_read_as_serde_pickle_reads_them() {
    for directory in chroma_directories() {
        let path = directory.join("segment/index_metadata.pickle");
        let pickle = std::fs::read(&path).unwrap();
        assert_eq!(read(&pickle).unwrap(), oracle(&pickle), "{path:?}");
    }
}

#[test]
fn every_shape_that_cpython_writes_is_read_exactly() {
    for (name, pickle, expected) in cpython_pickles() {
        match read(&pickle) {
            Ok(found) => assert_eq!(found, expected, "{name}"),
            Err(error) => panic!("{name}: {error:?}"),
        }
    }
}

#[test]
fn cpython_pickles_are_read_as_serde_pickle_reads_them() {
    let mut agreed = 0;
    for (name, pickle, _) in cpython_pickles() {
        // It knows no cycles and no complex numbers.
        if name.starts_with("extra") || name.starts_with("reversed") {
            continue;
        }
        assert_eq!(read(&pickle).unwrap(), oracle(&pickle), "{name}");
        agreed += 1;
    }
    assert_eq!(agreed, 20);
}

#[test]
fn both_ways_of_reading_and_all_window_sizes_agree() {
    for (name, pickle, expected) in cpython_pickles() {
        if pickle.len() > 20_000 {
            continue;
        }
        let file = file_of(&pickle);
        for mode in [IoMode::Mmap, IoMode::Read] {
            for window in [1, 2, 13, 300, 4096] {
                let found = read_path(file.path(), mode, window).unwrap();
                assert_eq!(found, expected, "{name}, {mode}, windows of {window}");
            }
        }
    }
}

#[test]
fn strings_longer_than_a_window_are_read() {
    let file = file_of(&cpython_pickle("unframed-5"));
    for mode in [IoMode::Mmap, IoMode::Read] {
        let found = read_path(file.path(), mode, 100).unwrap();
        assert_eq!(found.ids[&1].0, "漢".repeat(22_000));
        assert_eq!(found.ids[&2], ("b".into(), Some(1)));
    }
}

#[test]
fn a_file_cut_off_at_any_byte_is_an_error() {
    let real = ["0.4.24/churn", "1.5.9/churn"].map(|case| {
        std::fs::read(
            fixtures()
                .join("chroma")
                .join(case)
                .join("segment/index_metadata.pickle"),
        )
        .unwrap()
    });
    let written = ["instance-5", "dict-2", "extra-5"].map(cpython_pickle);
    for pickle in real.iter().chain(&written) {
        for length in (0..pickle.len()).step_by(extent(5, 1)) {
            let (position, _) = refusal(&pickle[..length], WINDOW);
            assert!(position <= length as u64);
        }
    }
}

#[test]
fn entries_are_found_by_label_and_numbered_without_gaps() {
    let pickle = cpython_pickle("batches-5");
    let metadata = Pickle::read(pickle.as_slice(), &Monitor::default()).unwrap();
    let mut slots = vec![false; metadata.len()];
    for entry in metadata.iter() {
        assert_eq!(metadata.find(entry.label), Some(entry));
        assert!(!std::mem::replace(&mut slots[entry.slot], true));
    }
    assert!(slots.iter().all(|seen| *seen));
    // Labels are 1 to 2003 without two of them.
    let absent: Vec<u64> = (0..5000)
        .filter(|label| metadata.find(*label).is_none())
        .collect();
    assert_eq!(absent.len(), 2999);
    assert_eq!(metadata.find(u64::MAX), None);
}

#[test]
fn ids_with_equal_fingerprints_are_told_apart_with_another_key() {
    for name in ["instance-5", "dict-3", "batches-2", "distinct-4"] {
        let pickle = cpython_pickle(name);
        let mut fingerprinters = [Fingerprinter::new(), Fingerprinter::Constant]
            .into_iter()
            .cycle()
            .skip(1);
        let monitor = Monitor::default();
        let metadata = Pickle::read_with(pickle.as_slice(), &monitor, WINDOW, || {
            fingerprinters.next().unwrap()
        });
        assert_eq!(
            contents(&metadata.unwrap(), pickle.as_slice()).unwrap(),
            read(&pickle).unwrap()
        );
    }
}

#[test]
fn keys_that_never_tell_ids_apart_are_given_up() {
    let pickle = cpython_pickle("dict-3");
    let monitor = Monitor::default();
    let result = Pickle::read_with(pickle.as_slice(), &monitor, WINDOW, || {
        Fingerprinter::Constant
    });
    let is_internal =
        matches!(&result, Err(DecodeError::Failed(e)) if e.kind() == ErrorKind::Internal);
    assert!(is_internal, "{result:?}");
}

#[test]
fn reading_stops_when_it_is_cancelled() {
    let pickle = cpython_pickle("dict-3");
    let token = CancelToken::new();
    token.cancel();
    let monitor = Monitor::default().with_cancel(&token);
    assert!(matches!(
        Pickle::read(pickle.as_slice(), &monitor),
        Err(DecodeError::Failed(error)) if error.kind() == ErrorKind::Cancelled
    ));
}

#[test]
fn an_id_that_changed_in_the_file_is_checked_again() {
    for mode in [IoMode::Mmap, IoMode::Read] {
        let mut pickle = cpython_pickle("one-3");
        let file = file_of(&pickle);
        let input = InputFile::open(file.path(), mode).unwrap();
        let metadata = Pickle::read(input.window(WINDOW), &Monitor::default()).unwrap();
        let entry = metadata.find(1).unwrap();
        let at = usize::try_from(entry.position).unwrap() + 2;
        pickle[at] = 0xff;
        std::fs::write(file.path(), &pickle).unwrap();
        let mut id = "another id".to_string();
        let error = metadata
            .read_id(entry, &mut input.window_for_lookups(), &mut id)
            .unwrap_err();
        assert!(
            matches!(error, DecodeError::Invalid { at: Location::Byte(position), .. }
                if position == at as u64),
            "{error:?}"
        );
        assert_eq!(id, "");
    }
}

#[test]
fn a_file_that_shrinks_before_its_ids_are_read_is_an_error() {
    let file = file_of(&cpython_pickle("one-3"));
    let input = InputFile::open(file.path(), IoMode::Read).unwrap();
    let metadata = Pickle::read(input.window(WINDOW), &Monitor::default()).unwrap();
    file.as_file().set_len(10).unwrap();
    let entry = metadata.find(1).unwrap();
    let result = metadata.read_id(entry, &mut input.window_for_lookups(), &mut String::new());
    let has_changed =
        matches!(&result, Err(DecodeError::Failed(e)) if e.kind() == ErrorKind::InputChanged);
    assert!(has_changed, "{result:?}");
}

// Pickles put together by hand.

fn text(text: &str) -> Vec<u8> {
    [
        b"X",
        &u32::try_from(text.len()).unwrap().to_le_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

fn cat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A dict of the given keys and values, which are opcodes already.
fn dict(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let pairs: Vec<u8> = pairs
        .iter()
        .flat_map(|(key, value)| [*key, *value].concat())
        .collect();
    cat(&[b"}(", &pairs, b"u"])
}

/// A pickle with the two label maps, and given opcodes before them among the fields.
fn with_maps(before: &[u8], label_to_id: &[u8], id_to_label: &[u8]) -> Vec<u8> {
    cat(&[
        b"\x80\x03}(",
        before,
        &text("label_to_id"),
        label_to_id,
        &text("id_to_label"),
        id_to_label,
        b"u.",
    ])
}

fn one_id(before: &[u8]) -> Vec<u8> {
    with_maps(
        before,
        &dict(&[(b"K\x01", &text("a"))]),
        &dict(&[(&text("a"), b"K\x01")]),
    )
}

fn labels_of(contents: &Contents) -> Vec<(u64, &str)> {
    let ids = contents.ids.iter();
    ids.map(|(label, (id, _))| (*label, id.as_str())).collect()
}

/// Asserts an error whose message contains `expected`.
fn refuses(pickle: &[u8], expected: &str) {
    for window in [WINDOW, 5] {
        let (position, message) = refusal(pickle, window);
        assert!(position <= pickle.len() as u64, "{message}");
        assert!(message.contains(expected), "{message}, not {expected}");
    }
}

#[test]
fn the_hand_made_pickle_of_one_id_is_read() {
    assert_eq!(labels_of(&read(&one_id(b"")).unwrap()), [(1, "a")]);
}

#[test]
fn opcodes_beyond_plain_values_are_refused_by_name() {
    let key = text("k");
    for (value, expected) in [
        (
            &b"Pid\n"[..],
            "byte 10: found opcode 0x50 (a persistent id)",
        ),
        (b"NQ", "0x51 (a persistent id)"),
        (b"\x82\x01", "0x82 (an extension code)"),
        (b"\x83\x01\x00", "0x83 (an extension code)"),
        (b"\x84\x01\x00\x00\x00", "0x84 (an extension code)"),
        (b"(ios\nsystem\n", "0x69 (an instance of some class)"),
        (b"(cos\nsystem\no", "a class or function by name"),
        (b"N))\x92", "0x92 (an instance of some class)"),
        (b"cos\nsystem\n", "a class or function by name"),
        (b"cbuiltins\neval\n", "a class or function by name"),
        (b"cos\nset\n", "a class or function by name"),
        (b"c_codecs\nset\n", "a class or function by name"),
        (
            b"\x8c\x02os\x8c\x06system\x93",
            "a class or function by name",
        ),
        (b"K\x01K\x02\x93", "the names of a module and a class"),
        (b"cm\nPersistentData\n)R", "a call of a class or function"),
        (b"cbuiltins\nset\n)\x81", "the class PersistentData"),
        (b"NNR", "a call of None"),
        (b"]Nb", "an instance of PersistentData to give a state"),
        (b"\x97", "0x97 (an out-of-band buffer)"),
        (b"I1\n", "0x49 (of the text protocols 0 and 1)"),
        (b"Vtext\n", "0x56 (of the text protocols 0 and 1)"),
        (b"N2", "0x32 (a duplicate"),
        (b"\xff", "found opcode 0xff, expected"),
        (b"\x00", "found opcode 0x00, expected"),
        (b"\x80\x03", "a second PROTO opcode"),
    ] {
        refuses(&one_id(&cat(&[&key, value])), expected);
    }
}

#[test]
fn a_class_name_without_end_is_refused() {
    let endless = cat(&[b"c", &b"x".repeat(100_000)]);
    refuses(
        &one_id(&cat(&[&text("k"), &endless])),
        "a class name that does not end",
    );
}

#[test]
fn lengths_beyond_the_file_are_refused_before_anything_is_allocated() {
    for header in [
        &b"X\xff\xff\xff\xff"[..],
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8d\x00\x00\x00\x00\x00\x00\x00\x40",
        b"B\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\x7f",
        b"T\xff\xff\xff\x7f",
    ] {
        refuses(&one_id(&cat(&[&text("k"), header])), "bytes that are left");
        refuses(
            &with_maps(b"", &dict(&[(b"K\x01", header)]), b"}"),
            "bytes that are left",
        );
    }
    refuses(
        b"\x80\x03}(X\x03\0\0\0ab",
        "at most the 2 bytes that are left",
    );
    refuses(
        &one_id(&cat(&[&text("k"), b"\x8b\xff\xff\xff\xff"])),
        "an integer of -1 bytes",
    );
    refuses(
        &cat(&[b"\x80\x04\x95", &u64::MAX.to_le_bytes(), &one_id(b"")[2..]]),
        "a frame of 18446744073709551615 bytes",
    );
}

#[test]
fn deeply_nested_values_are_refused_or_passed_over_without_recursion() {
    let lists = b"]".repeat(10_000);
    let appends = b"a".repeat(10_000);
    refuses(&cat(&[b"\x80\x03", &lists]), "the end of the file");
    refuses(
        &cat(&[b"\x80\x03", &lists, b"."]),
        "10000 unfinished values",
    );
    refuses(
        &cat(&[b"\x80\x03", &lists, &appends[1..], b"."]),
        "found a list",
    );
    let nested = cat(&[&text("k"), &lists, &appends[1..]]);
    assert_eq!(labels_of(&read(&one_id(&nested)).unwrap()), [(1, "a")]);
    for deep in [
        b"]".repeat(1 << 20),
        b"(".repeat(1 << 20),
        b"](".repeat(1 << 20),
        b"}K\x01".repeat(1 << 20),
        b")".repeat(1 << 20),
    ] {
        refuses(
            &one_id(&cat(&[&text("k"), &deep])),
            "values nested too deeply",
        );
    }
}

#[test]
fn wide_plain_values_take_no_room_on_the_stack() {
    let values = b"K\x01N\x88".repeat(200_000);
    // In a batch, and in a batch within which another one has ended.
    for start in [&b"("[..], b"(](Ne"] {
        let wide = cat(&[&text("k"), start, &values, b"t"]);
        assert_eq!(labels_of(&read(&one_id(&wide)).unwrap()), [(1, "a")]);
    }
}

#[test]
fn memo_entries_out_of_order_are_refused() {
    for (opcodes, expected) in [
        (
            &b"Nr\xff\xff\xff\xff"[..],
            "memo entry 4294967295, expected the next one, 0",
        ),
        (b"Nq\x01", "memo entry 1, expected the next one, 0"),
        (b"N\x94q\x00", "memo entry 0, expected the next one, 1"),
        (b"h\x00", "memo entry 0, expected one of the 0 put so far"),
        (b"N\x94j\xff\xff\xff\xff", "memo entry 4294967295"),
        (b"(\x94", "nothing to memoise"),
    ] {
        refuses(&one_id(&cat(&[&text("k"), opcodes])), expected);
    }
}

#[test]
fn a_million_references_to_a_reference_stay_one_value() {
    // Each list contains the one before it twice: 2^200 values for a reader that copies.
    let mut bomb = cat(&[&text("k"), b"]\x94"]);
    for entry in 0..200 {
        bomb.extend(cat(&[b"](h", &[entry], b"h", &[entry], b"e\x94"]));
    }
    bomb.extend(b"0".repeat(200));
    assert_eq!(labels_of(&read(&one_id(&bomb)).unwrap()), [(1, "a")]);
}

#[test]
fn strings_are_found_through_the_memo_in_every_map() {
    // A string that stands in a field of no interest, and a key that is taken from the memo.
    let pickle = cat(&[
        b"\x80\x04}(",
        &text("other"),
        b"](",
        &cat(&[
            b"\x8c\x01a",
            b"\x94",
            &text("label_to_id"),
            b"\x94",
            &text("b"),
            b"\x94e",
        ]),
        &cat(&[b"h\x01", b"}(K\x01h\x00K\x02h\x02u"]),
        &text("id_to_seq_id"),
        b"}h\x02K\x07s",
        &text("id_to_label"),
        &cat(&[b"}h\x00K\x01s", &text("b"), b"K\x02s"]),
        b"u.",
    ]);
    let found = read(&pickle).unwrap();
    let expected = [
        (1, ("a".to_string(), None)),
        (2, ("b".to_string(), Some(7))),
    ];
    assert_eq!(found.ids, BTreeMap::from(expected));
}

#[test]
fn a_frame_may_start_between_a_string_and_its_memo_entry() {
    let frame = cat(&[b"\x95", &3_u64.to_le_bytes()]);
    let labels = cat(&[
        b"}(K\x01",
        &text("a"),
        &frame,
        b"\x94K\x02",
        &text("b"),
        b"\x94u",
    ]);
    let ids = b"}(h\x00K\x01h\x01K\x02u";
    let seq_ids = cat(&[&text("id_to_seq_id"), b"}h\x00K\x09s"]);
    let pickle = cat(&[
        b"\x80\x04}(",
        &cat(&[&text("label_to_id"), &labels]),
        &seq_ids,
        &cat(&[&text("id_to_label"), ids]),
        b"u.",
    ]);
    let expected = [
        (1, ("a".to_string(), Some(9))),
        (2, ("b".to_string(), None)),
    ];
    assert_eq!(read(&pickle).unwrap().ids, BTreeMap::from(expected));
}

#[test]
fn a_memo_entry_that_is_no_string_is_refused_as_an_id() {
    let labels = b"}(K\x01h\x00u";
    refuses(
        &with_maps(
            &cat(&[&text("k"), b"]\x94"]),
            labels,
            &dict(&[(&text("a"), b"K\x01")]),
        ),
        "memo entry 0, expected one that holds a string",
    );
    // Two opcodes after the string, so that it is not the string that is memoised.
    refuses(
        &with_maps(
            &cat(&[&text("k"), &text("a"), b"N0\x94"]),
            labels,
            &dict(&[(&text("a"), b"K\x01")]),
        ),
        "memo entry 0, expected one that holds a string",
    );
}

#[test]
fn what_does_not_start_and_end_as_a_pickle_is_refused() {
    let good = one_id(b"");
    refuses(b"", "found the end of the file");
    refuses(b"PAR1 or something else", "byte 0: found opcode 0x50");
    refuses(&good[2..], "byte 0: found no PROTO opcode");
    refuses(&cat(&[b"\x80\x01", &good[2..]]), "pickle protocol 1");
    refuses(&cat(&[b"\x80\x06", &good[2..]]), "pickle protocol 6");
    refuses(&cat(&[&good, b"."]), "1 bytes after the STOP opcode");
    refuses(&cat(&[&good, &good]), "bytes after the STOP opcode");
    refuses(&good[..good.len() - 1], "found the end of the file");
    refuses(b"\x80\x03.", "0 unfinished values");
    refuses(b"\x80\x03N.", "found None, expected a dict of fields");
    refuses(b"\x80\x03(.", "found a mark");

    let fields = &good[2..good.len() - 1];
    let instance = b"\x80\x04\x8c\x01m\x8c\x0ePersistentData\x93)\x81";
    assert_eq!(
        labels_of(&read(&cat(&[instance, fields, b"b."])).unwrap()),
        [(1, "a")]
    );
    for dropped in [b"0.".as_slice(), b"0Nb.", b"b(Nb."] {
        refusal(&cat(&[instance, fields, dropped]), WINDOW);
    }
    refuses(
        &cat(&[instance, fields, b"0."]),
        "an instance without a dict of fields",
    );
}

#[test]
fn opcodes_without_their_values_are_refused() {
    for (opcodes, expected) in [
        (&b"e"[..], "no mark"),
        (b"NNs", "too few values"),
        (b"}Nu", "no mark"),
        (b"N(NNu", "found None, expected a dict to add to"),
        (b"}(Nu", "1 items, expected keys with their values"),
        (b"}(NNNu", "3 items, expected keys with their values"),
        (b"NNNs", "found None, expected a dict to add to"),
        (b"(NNs", "too few values, expected a dict to add to"),
        (b"NNa", "found None, expected a list to add to"),
        (b"N(Ne", "found None, expected a list to add to"),
        (b"](N\x90", "found a list, expected a set to add to"),
        (b"NN\x87", "too few values"),
        (b"0", "too few values"),
        (b"N(0", "too few values"),
        (b"NNb", "found None, expected an instance"),
        (b"N1", "no mark"),
        (b"Nt", "no mark"),
        (b"N\x91", "no mark"),
        (b"}}", "2 unfinished values"),
    ] {
        refuses(&cat(&[b"\x80\x04", opcodes, b"."]), expected);
    }
}

#[test]
fn missing_or_mistyped_fields_are_refused() {
    let labels = cat(&[&text("label_to_id"), &dict(&[(b"K\x01", &text("a"))])]);
    let ids = cat(&[&text("id_to_label"), &dict(&[(&text("a"), b"K\x01")])]);
    refuses(b"\x80\x03}.", "a pickle without label_to_id");
    refuses(
        &cat(&[b"\x80\x03}(", &ids, b"u."]),
        "a pickle without label_to_id",
    );
    refuses(
        &cat(&[b"\x80\x03}(", &labels, b"u."]),
        "a pickle without id_to_label",
    );
    for (name, value, expected) in [
        (
            "label_to_id",
            &b"N"[..],
            "None as label_to_id, expected label_to_id to be a dict",
        ),
        ("id_to_label", b"](K\x01e", "a list as id_to_label"),
        ("id_to_seq_id", b"K\x01", "the integer 1 as id_to_seq_id"),
        ("id_to_seq_id", b")", "a tuple as id_to_seq_id"),
        (
            "max_seq_id",
            b"J\xff\xff\xff\xff",
            "a negative integer as max_seq_id",
        ),
        (
            "max_seq_id",
            b"\x88",
            "a value of another type as max_seq_id",
        ),
        (
            "dimensionality",
            b"X\x01\0\0\x003",
            "a string as dimensionality",
        ),
        (
            "total_elements_added",
            b"\x8a\x09\0\0\0\0\0\0\0\0\x01",
            "an integer beyond 64 bits",
        ),
        ("dimensionality", b"}", "a dict as dimensionality"),
    ] {
        let field = cat(&[&text(name), value]);
        refuses(&cat(&[b"\x80\x03}(", &field, b"u."]), expected);
    }
    for name in ["label_to_id", "id_to_label", "dimensionality"] {
        let twice = cat(&[
            &text(name),
            if name == "dimensionality" { b"N" } else { b"}" },
        ]);
        refuses(
            &cat(&[b"\x80\x03}(", &twice, &twice, b"u."]),
            &format!("a second {name}"),
        );
    }
    assert_eq!(
        labels_of(&read(&cat(&[b"\x80\x03}(", &ids, &labels, b"u."])).unwrap()),
        [(1, "a")]
    );
}

#[test]
fn maps_that_stand_in_other_fields_are_not_taken_for_the_real_ones() {
    let fake = cat(&[&text("label_to_id"), &dict(&[(b"K\x05", &text("fake"))])]);
    for other in [
        cat(&[&text("k"), b"}", &fake, b"s"]),
        cat(&[&text("k"), b"}(", &fake, b"u"]),
        cat(&[&text("k"), b"](}", &fake, b"se"]),
        cat(&[&text("k"), b"cm\nPersistentData\n)\x81}(", &fake, b"ub"]),
    ] {
        assert_eq!(labels_of(&read(&one_id(&other)).unwrap()), [(1, "a")]);
    }
}

#[test]
fn labels_and_ids_of_other_types_are_refused() {
    let id = text("a");
    let ids = dict(&[(&id, b"K\x01")]);
    for (label, expected) in [
        (
            &b"J\xff\xff\xff\xff"[..],
            "a negative integer, expected a label",
        ),
        (b"\x8a\x01\x80", "a negative integer"),
        (b"\x8a\x09\0\0\0\0\0\0\0\0\x01", "an integer beyond 64 bits"),
        (b"X\x01\0\0\x001", "a string, expected a label"),
        (b"N", "None, expected only strings and integers"),
        (b"\x88", "a bool or a float"),
        (b"G\x3f\xf0\0\0\0\0\0\0", "a bool or a float"),
        (b")", "a tuple"),
        (b"C\x01a", "bytes"),
    ] {
        refuses(&with_maps(b"", &dict(&[(label, &id)]), &ids), expected);
        refuses(
            &with_maps(b"", &dict(&[(b"K\x01", &id)]), &dict(&[(&id, label)])),
            expected,
        );
        refuses(
            &one_id(&cat(&[&text("id_to_seq_id"), &dict(&[(&id, label)])])),
            &expected.replace("a label", "a sequence number"),
        );
    }
    for (value, expected) in [
        (&b"K\x07"[..], "the integer 7, expected an id"),
        (b"]", "a list"),
        (b"}", "a dict"),
        (
            b"X\x02\0\0\0a\xff",
            "a string that is too long or not UTF-8",
        ),
        (
            b"X\x03\0\0\0\xed\xa0\x80",
            "a string that is too long or not UTF-8",
        ),
        (b"U\x01a", "bytes"),
    ] {
        refuses(&with_maps(b"", &dict(&[(b"K\x01", value)]), &ids), expected);
    }
    // The same through the memo.
    refuses(
        &with_maps(
            &cat(&[&text("k"), b"X\x01\0\0\0\xff\x94"]),
            b"}(K\x01h\x00u",
            &ids,
        ),
        "a string that is too long or not UTF-8",
    );
}

#[test]
fn an_id_longer_than_the_limit_is_refused_and_one_of_that_length_is_read() {
    let limit = usize::try_from(span::MAX_ID_BYTES).unwrap();
    let id = "i".repeat(limit);
    let pickle = |id: &str| {
        with_maps(
            b"",
            &dict(&[(b"K\x01", &text(id))]),
            &dict(&[(&text(id), b"K\x01")]),
        )
    };
    assert_eq!(read(&pickle(&id)).unwrap().ids[&1].0, id);
    let (_, error) = refusal(&pickle(&(id + "i")), WINDOW);
    assert!(error.contains("an id of at most 8388607 bytes"), "{error}");
}

#[test]
fn label_maps_that_contradict_each_other_are_refused() {
    let (a, b) = (text("a"), text("b"));
    for (labels, ids, expected) in [
        (
            dict(&[(b"K\x01", &a)]),
            dict(&[(&a, b"K\x02")]),
            "label 2 for an id that has 1",
        ),
        (
            dict(&[(b"K\x01", &a)]),
            dict(&[(&b, b"K\x01")]),
            "that label_to_id does not hold",
        ),
        (
            dict(&[(b"K\x01", &a)]),
            dict(&[]),
            "0 ids in id_to_label, expected 1",
        ),
        (
            dict(&[]),
            dict(&[(&a, b"K\x01")]),
            "1 ids in id_to_label, expected 0",
        ),
        (
            dict(&[(b"K\x01", &a), (b"K\x02", &b)]),
            dict(&[(&a, b"K\x01"), (&a, b"K\x01")]),
            "an id of label 1 for the second time",
        ),
        (
            dict(&[(b"K\x01", &a), (b"K\x02", &a)]),
            dict(&[(&a, b"K\x01"), (&b, b"K\x02")]),
            "the same id for labels 1 and 2",
        ),
        (
            dict(&[(b"K\x01", &a), (b"K\x01", &b)]),
            dict(&[(&a, b"K\x01"), (&b, b"K\x01")]),
            "a second id for label 1",
        ),
    ] {
        refuses(&with_maps(b"", &labels, &ids), expected);
    }
}

#[test]
fn labels_that_share_an_id_are_named_in_the_order_of_the_file() {
    let ids: Vec<_> = (0..8).map(|id| text(&format!("id {id}"))).collect();
    let labels: Vec<[u8; 2]> = (1..=24).map(|label| [b'K', label]).collect();
    // Each id three times; which pair is met first depends on the random key of the fingerprints.
    let pairs: Vec<(&[u8], &[u8])> = labels
        .iter()
        .enumerate()
        .map(|(at, label)| (label.as_slice(), ids[at % 8].as_slice()))
        .collect();
    let inverse: Vec<(&[u8], &[u8])> = pairs.iter().map(|(label, id)| (*id, *label)).collect();
    for _ in 0..20 {
        refuses(
            &with_maps(b"", &dict(&pairs), &dict(&inverse)),
            "the same id for labels 1 and 9",
        );
    }
}

#[test]
fn a_second_sequence_number_for_a_live_id_is_refused_and_stale_ids_are_ignored() {
    let (a, gone) = (text("a"), text("gone"));
    let stale = dict(&[(&gone, b"K\x05"), (&a, b"K\x06"), (&gone, b"K\x07")]);
    let found = read(&one_id(&cat(&[&text("id_to_seq_id"), &stale]))).unwrap();
    assert_eq!(found.ids, BTreeMap::from([(1, ("a".to_string(), Some(6)))]));
    let twice = dict(&[(&a, b"K\x05"), (&a, b"K\x06")]);
    refuses(
        &one_id(&cat(&[&text("id_to_seq_id"), &twice])),
        "the id of label 1 for the second time",
    );
}

#[test]
fn integers_of_every_encoding_are_read() {
    for (label, value) in [
        (&b"K\xff"[..], 255),
        (b"M\xff\xff", 65535),
        (b"J\xff\xff\xff\x7f", 0x7fff_ffff),
        (b"\x8a\x00", 0),
        (b"\x8a\x01\x05", 5),
        (b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00", u64::MAX),
        (b"\x8a\x0b\x05\0\0\0\0\0\0\0\0\0\0", 5),
        (b"\x8b\x02\0\0\0\x05\x01", 261),
    ] {
        let id = text("a");
        let pickle = with_maps(b"", &dict(&[(label, &id)]), &dict(&[(&id, label)]));
        assert_eq!(labels_of(&read(&pickle).unwrap()), [(value, "a")]);
    }
}

fn arbitrary_id() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{0,6}",
        2 => any::<String>(),
        1 => "\\PC{250,300}",
    ]
}

fn arbitrary_number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, 0..1_u64 << 33, any::<u64>()]
}

/// Labels with ids and sequence numbers, and ids that are gone.
fn arbitrary_metadata() -> impl Strategy<Value = (Contents, BTreeMap<String, u64>)> {
    let ids = prop::collection::btree_map(
        arbitrary_id(),
        (arbitrary_number(), prop::option::of(arbitrary_number())),
        0..60,
    );
    let stale = prop::collection::btree_map(arbitrary_id(), arbitrary_number(), 0..5);
    let fields = prop::array::uniform3(prop::option::of(arbitrary_number()));
    (ids, stale, fields).prop_map(|(ids, mut stale, fields)| {
        let ids: BTreeMap<_, _> = ids
            .into_iter()
            .map(|(id, (label, seq_id))| (label, (id, seq_id)))
            .collect();
        for (id, _) in ids.values() {
            stale.remove(id);
        }
        let contents = Contents {
            ids,
            total_elements_added: fields[0],
            dimensionality: fields[1],
            max_seq_id: fields[2],
        };
        (contents, stale)
    })
}

/// The fields under their names, in the order of their ranks.
fn write(contents: &Contents, stale: &BTreeMap<String, u64>, options: SerOptions) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Fields<'a> {
        max_seq_id: Option<u64>,
        id_to_seq_id: BTreeMap<&'a str, u64>,
        label_to_id: BTreeMap<u64, &'a str>,
        unknown: (f64, Vec<&'a str>, Option<bool>),
        dimensionality: Option<u64>,
        id_to_label: BTreeMap<&'a str, u64>,
        total_elements_added: Option<u64>,
    }
    let ids = || {
        contents
            .ids
            .iter()
            .map(|(label, (id, seq_id))| (*label, id.as_str(), *seq_id))
    };
    let fields = Fields {
        max_seq_id: contents.max_seq_id,
        id_to_seq_id: stale
            .iter()
            .map(|(id, seq_id)| (id.as_str(), *seq_id))
            .chain(ids().filter_map(|(_, id, seq_id)| Some((id, seq_id?))))
            .collect(),
        label_to_id: ids().map(|(label, id, _)| (label, id)).collect(),
        unknown: (1.5, ids().map(|(_, id, _)| id).collect(), Some(true)),
        dimensionality: contents.dimensionality,
        id_to_label: ids().map(|(label, id, _)| (id, label)).collect(),
        total_elements_added: contents.total_elements_added,
    };
    serde_pickle::to_vec(&fields, options).unwrap()
}

proptest! {
    #[test]
    fn generated_metadata_is_read_as_serde_pickle_reads_it(
        (contents, stale) in arbitrary_metadata(),
        old in any::<bool>(),
        window in 1..2000_usize,
    ) {
        let options = SerOptions::new();
        let options = if old { options.proto_v2() } else { options };
        let pickle = write(&contents, &stale, options);
        prop_assert_eq!(&oracle(&pickle), &contents);
        for window in [WINDOW, window] {
            prop_assert_eq!(&read_in_windows(&pickle, window).unwrap(), &contents);
        }
    }

    #[test]
    fn bytes_of_any_kind_are_read_alike_in_windows_of_any_size(
        start in prop::sample::select(vec![&b""[..], b"\x80\x03", b"\x80\x05}("]),
        bytes in prop::collection::vec(
            prop_oneof![
                2 => prop::sample::select(b"(].}ueastbXKJMNhqj\x94\x93\x8c\x81)0\x85".to_vec()),
                1 => any::<u8>(),
                1 => 0..12_u8,
            ],
            0..300,
        ),
        window in 1..40_usize,
    ) {
        let pickle = cat(&[start, &bytes]);
        let whole = read(&pickle);
        let parts = read_in_windows(&pickle, window);
        prop_assert_eq!(format!("{:?}", whole), format!("{:?}", parts));
    }

    #[test]
    fn damaged_pickles_are_read_alike_in_windows_of_any_size(
        which in prop::sample::select(vec!["instance-5", "dict-2", "extra-4", "reversed-3"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        window in 1..4000_usize,
    ) {
        let mut pickle = cpython_pickle(which);
        for (at, byte) in damage {
            *at.get_mut(&mut pickle) = byte;
        }
        let whole = read(&pickle);
        let parts = read_in_windows(&pickle, window);
        prop_assert_eq!(format!("{:?}", whole), format!("{:?}", parts));
    }
}
