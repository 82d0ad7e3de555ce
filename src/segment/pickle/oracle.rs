//! The full content of a pickle, by this reader and by serde-pickle, for comparison.

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use serde_pickle::{DeOptions, HashableValue, Value};

use super::opcode::{lex, Op};
use super::Pickle;
use crate::io::source::Source;
use crate::segment::decode_error::Decoded;

/// The full content of a pickle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) ids: BTreeMap<u64, (String, Option<u64>)>,
    pub(crate) total_elements_added: Option<u64>,
    pub(crate) dimensionality: Option<u64>,
    pub(crate) max_seq_id: Option<u64>,
}

pub(crate) fn contents(metadata: &Pickle, mut source: impl Source) -> Decoded<Contents> {
    let mut ids = BTreeMap::new();
    for entry in metadata.iter() {
        let mut id = String::new();
        metadata.read_id(entry, &mut source, &mut id)?;
        assert_eq!(id.len(), entry.length);
        assert!(ids.insert(entry.label, (id, entry.seq_id)).is_none());
    }
    assert_eq!(ids.len(), metadata.len());
    Ok(Contents {
        ids,
        total_elements_added: metadata.total_elements_added(),
        dimensionality: metadata.dimensionality(),
        max_seq_id: metadata.max_seq_id(),
    })
}

/// Maximum number of containers for serde-pickle, which recurses into each: 10 KB of nested lists
/// overflow its stack.
const MAX_CONTAINERS: usize = 500;

/// Returns true if serde-pickle reads the pickle in little stack and memory. It copies a memo entry
/// for each reference, so nested lists of references grow exponentially.
fn is_harmless(pickle: &[u8]) -> bool {
    let mut containers = 0;
    let mut memo = BTreeMap::new();
    let mut topmost_is_container = false;
    let mut rest = pickle;
    while let Ok(lexed) = lex(rest) {
        let payload = usize::try_from(lexed.payload).unwrap_or(usize::MAX);
        let Some(after) = lexed
            .header
            .checked_add(payload)
            .and_then(|size| rest.get(size..))
        else {
            return true; // truncated, which serde-pickle reports as well
        };
        rest = after;
        match lexed.op {
            Op::Memoize => {
                memo.insert(memo.len() as u64, topmost_is_container);
            }
            Op::Put(at) => {
                memo.insert(at, topmost_is_container);
            }
            Op::Get(at) if memo.get(&at) != Some(&false) => return false,
            Op::Proto(_) | Op::Frame(_) => {}
            Op::None | Op::Scalar | Op::Integer(_) | Op::Text | Op::Bytes | Op::Get(_) => {
                topmost_is_container = false;
            }
            _ => {
                topmost_is_container = true;
                containers += 1;
            }
        }
    }
    containers <= MAX_CONTAINERS
}

/// A natural number, which serde-pickle gives in one of two forms.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::I64(value) => Some(u64::try_from(*value).unwrap()),
        Value::Int(value) => Some(u64::try_from(value).unwrap()),
        Value::None => None,
        other => panic!("{other:?}"),
    }
}

/// The value that serde-pickle reads. Its order of floats is not total, for which sorting the members
/// of a set or the keys of a dict may panic: then there is none.
fn serde_pickle_value(pickle: &[u8]) -> Option<Value> {
    // The hook of libFuzzer aborts, and the usual one takes longer than all else.
    #[cfg(feature = "_fuzzing")]
    let hook = std::panic::take_hook();
    #[cfg(feature = "_fuzzing")]
    std::panic::set_hook(Box::new(|_| ()));
    let value = catch_unwind(|| serde_pickle::value_from_slice(pickle, DeOptions::new()));
    #[cfg(feature = "_fuzzing")]
    std::panic::set_hook(hook);
    value.ok()?.ok()
}

/// The content according to serde-pickle. `None` if it refuses the pickle, or the pickle is not harmless.
pub(crate) fn serde_pickle_contents(pickle: &[u8]) -> Option<Contents> {
    if !is_harmless(pickle) {
        return None;
    }
    let Value::Dict(fields) = serde_pickle_value(pickle)? else {
        panic!("not a dict");
    };
    let field = |name: &str| fields.get(&HashableValue::String(name.into()));
    let map = |name: &str| match field(name) {
        Some(Value::Dict(map)) => map.clone(),
        None => BTreeMap::new(),
        Some(other) => panic!("{other:?}"),
    };
    let seq_ids = map("id_to_seq_id");
    let labels = map("id_to_label");
    let ids: BTreeMap<_, _> = map("label_to_id")
        .into_iter()
        .map(|(label, id)| {
            let Value::String(id) = id else {
                panic!("{id:?}")
            };
            let key = HashableValue::String(id.clone());
            let label = number(&label.into_value()).unwrap();
            assert_eq!(labels.get(&key).and_then(number), Some(label));
            (label, (id, seq_ids.get(&key).and_then(number)))
        })
        .collect();
    assert_eq!(ids.len(), labels.len());
    Some(Contents {
        ids,
        total_elements_added: field("total_elements_added").and_then(number),
        dimensionality: field("dimensionality").and_then(number),
        max_seq_id: field("max_seq_id").and_then(number),
    })
}
