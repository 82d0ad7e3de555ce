//! Writes `index_metadata.pickle` in the form that every version of Chroma reads.
//!
//! Chroma in Python (to 0.6) expects an instance of its class `PersistentData`. Chroma in Rust (from
//! 1.0) writes a dict, and reads the fields of an instance as one. So this writes an instance:
//!
//! ```text
//! PROTO 4 | class PersistentData | NEWOBJ | { dimensionality, total_elements_added, max_seq_id,
//!   id_to_label:  { id → label }     ids as text, each of them into the memo
//!   label_to_id:  { label → id }     ids from the memo
//!   id_to_seq_id: { id → seq_id }    ids from the memo, if they have a sequence number
//! } | BUILD | STOP
//! ```
//!
//! Only ids are memoised, so the memo entry of an id is its number. Only the first map needs the text
//! of an id, one at a time.

use std::io::{self, Write};

use super::span::MAX_ID_BYTES;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};

/// Pairs per batch, as Python's pickler writes them. An unpickler holds a whole batch on its stack
/// before it stores the first pair.
const BATCH: u32 = 1000;

/// Ids written between two checks for cancellation.
const CHECK_INTERVAL: u32 = 1 << 14;

const MODULE: &str = "chromadb.segment.impl.vector.local_persistent_hnsw";
const CLASS: &str = "PersistentData";

/// The opcodes used here, under the names of Python's `pickletools`.
mod code {
    pub(super) const PROTO_4: [u8; 2] = [0x80, 4];
    pub(super) const STOP: u8 = b'.';
    pub(super) const MARK: u8 = b'(';
    pub(super) const NONE: u8 = b'N';
    pub(super) const BININT: u8 = b'J';
    pub(super) const BININT1: u8 = b'K';
    pub(super) const BININT2: u8 = b'M';
    pub(super) const LONG1: u8 = 0x8a;
    pub(super) const BINUNICODE: u8 = b'X';
    pub(super) const SHORT_BINUNICODE: u8 = 0x8c;
    pub(super) const EMPTY_DICT: u8 = b'}';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const MEMOIZE: u8 = 0x94;
    pub(super) const BINGET: u8 = b'h';
    pub(super) const LONG_BINGET: u8 = b'j';
    pub(super) const STACK_GLOBAL: u8 = 0x93;
    pub(super) const NEWOBJ: u8 = 0x81;
    pub(super) const BUILD: u8 = b'b';
}

/// The ids of a segment, numbered from 0.
pub(crate) trait Ids {
    /// Number of ids.
    fn len(&self) -> u32;

    /// The label of an id. Labels are unique.
    fn label(&self, number: u32) -> u32;

    /// The sequence number of the last write to an id, if known.
    fn seq_id(&self, number: u32) -> Option<u64>;

    /// The text of an id. The writer calls this once for each id, in ascending order.
    fn user_id(&mut self, number: u32) -> Result<&str>;
}

/// The scalar fields of the pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) dimensionality: u64,
    /// At least as high as every label.
    pub(crate) total_elements_added: u64,
    pub(crate) max_seq_id: Option<u64>,
}

/// Writes the pickle. `failed` converts the error of a write.
pub(crate) fn write(
    out: &mut impl Write,
    totals: Totals,
    ids: &mut impl Ids,
    monitor: &Monitor<'_>,
    failed: impl Fn(io::Error) -> Error,
) -> Result<()> {
    let mut pickler = Pickler { out, failed };
    pickler.bytes(&code::PROTO_4)?;
    pickler.text(MODULE)?;
    pickler.text(CLASS)?;
    pickler.bytes(&[
        code::STACK_GLOBAL,
        code::EMPTY_TUPLE,
        code::NEWOBJ,
        code::EMPTY_DICT,
        code::MARK,
    ])?;
    pickler.text("dimensionality")?;
    pickler.number(totals.dimensionality)?;
    pickler.text("total_elements_added")?;
    pickler.number(totals.total_elements_added)?;
    pickler.text("max_seq_id")?;
    match totals.max_seq_id {
        None => pickler.bytes(&[code::NONE])?,
        Some(max_seq_id) => pickler.number(max_seq_id)?,
    }
    let all = 0..ids.len();

    pickler.text("id_to_label")?;
    pickler.map(all.clone(), monitor, |pickler, number| {
        pickler.text(ids.user_id(number)?)?;
        pickler.bytes(&[code::MEMOIZE])?;
        pickler.number(ids.label(number).into())
    })?;
    pickler.text("label_to_id")?;
    pickler.map(all.clone(), monitor, |pickler, number| {
        pickler.number(ids.label(number).into())?;
        pickler.get_from_memo(number)
    })?;
    pickler.text("id_to_seq_id")?;
    let known = all.filter(|number| ids.seq_id(*number).is_some());
    pickler.map(known, monitor, |pickler, number| {
        pickler.get_from_memo(number)?;
        pickler.number(ids.seq_id(number).unwrap_or_default())
    })?;
    pickler.bytes(&[code::SETITEMS, code::BUILD, code::STOP])
}

struct Pickler<'o, W, F> {
    out: &'o mut W,
    failed: F,
}

impl<W: Write, F: Fn(io::Error) -> Error> Pickler<'_, W, F> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(&self.failed)
    }

    fn text(&mut self, text: &str) -> Result<()> {
        match u8::try_from(text.len()) {
            Ok(length) => self.bytes(&[code::SHORT_BINUNICODE, length])?,
            Err(_) => {
                let length = u32::try_from(text.len())
                    .ok()
                    .filter(|length| u64::from(*length) <= MAX_ID_BYTES);
                let Some(length) = length else {
                    return Err(Error::internal("an id that is too long for a pickle"));
                };
                self.bytes(&[code::BINUNICODE])?;
                self.bytes(&length.to_le_bytes())?;
            }
        }
        self.bytes(text.as_bytes())
    }

    fn number(&mut self, number: u64) -> Result<()> {
        if let Ok(number) = u8::try_from(number) {
            return self.bytes(&[code::BININT1, number]);
        }
        if let Ok(number) = u16::try_from(number) {
            self.bytes(&[code::BININT2])?;
            return self.bytes(&number.to_le_bytes());
        }
        if let Ok(number) = i32::try_from(number) {
            self.bytes(&[code::BININT])?;
            return self.bytes(&number.to_le_bytes());
        }
        // Two's complement: a ninth byte keeps the highest bit from being read as the sign.
        let bytes = number.to_le_bytes();
        self.bytes(&[code::LONG1, 9])?;
        self.bytes(&bytes)?;
        self.bytes(&[0])
    }

    fn get_from_memo(&mut self, number: u32) -> Result<()> {
        match u8::try_from(number) {
            Ok(number) => self.bytes(&[code::BINGET, number]),
            Err(_) => {
                self.bytes(&[code::LONG_BINGET])?;
                self.bytes(&number.to_le_bytes())
            }
        }
    }

    fn map(
        &mut self,
        numbers: impl Iterator<Item = u32>,
        monitor: &Monitor<'_>,
        mut pair: impl FnMut(&mut Self, u32) -> Result<()>,
    ) -> Result<()> {
        self.bytes(&[code::EMPTY_DICT])?;
        let mut in_batch = 0;
        for number in numbers {
            if number % CHECK_INTERVAL == 0 {
                monitor.check()?;
            }
            if in_batch == 0 {
                self.bytes(&[code::MARK])?;
            }
            pair(self, number)?;
            in_batch += 1;
            if in_batch == BATCH {
                self.bytes(&[code::SETITEMS])?;
                in_batch = 0;
            }
        }
        if in_batch > 0 {
            self.bytes(&[code::SETITEMS])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::oracle::{contents, serde_pickle_contents, Contents};
    use super::super::Pickle;
    use super::*;

    struct Listed(Vec<(u32, String, Option<u64>)>);

    impl Ids for Listed {
        fn len(&self) -> u32 {
            u32::try_from(self.0.len()).unwrap()
        }

        fn label(&self, number: u32) -> u32 {
            self.0[number as usize].0
        }

        fn seq_id(&self, number: u32) -> Option<u64> {
            self.0[number as usize].2
        }

        fn user_id(&mut self, number: u32) -> Result<&str> {
            Ok(&self.0[number as usize].1)
        }
    }

    fn pickle(totals: Totals, ids: Vec<(u32, String, Option<u64>)>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let io = |_| Error::internal("a vector is full");
        write(
            &mut bytes,
            totals,
            &mut Listed(ids),
            &Monitor::default(),
            io,
        )
        .unwrap();
        bytes
    }

    fn read(pickle: &[u8]) -> Contents {
        let metadata = Pickle::read(pickle, &Monitor::default()).unwrap();
        contents(&metadata, pickle).unwrap()
    }

    #[test]
    fn batches_end_where_pairs_do() {
        for count in [0, 1, 255, 256, 257, 999, 1000, 1001, 2000, 2500] {
            let ids: Vec<_> = (0..count)
                .map(|at| (at + 1, format!("id {at}"), Some(u64::from(at))))
                .collect();
            let totals = Totals {
                dimensionality: 3,
                total_elements_added: count.into(),
                max_seq_id: None,
            };
            assert_eq!(read(&pickle(totals, ids)).ids.len(), count as usize);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn is_read_by_this_reader_and_serde_pickle(
            ids in prop::collection::btree_map(
                any::<u32>(),
                ("\\PC{0,300}", prop::option::of(prop_oneof![0..100_000_u64, any::<u64>()])),
                0..60,
            ),
            dimensionality in prop_oneof![1..300_u64, any::<u32>().prop_map(u64::from)],
            total_elements_added in any::<u64>(),
            max_seq_id in prop::option::of(any::<u64>()),
        ) {
            let mut distinct = std::collections::BTreeSet::new();
            let ids: BTreeMap<u64, (String, Option<u64>)> = ids
                .into_iter()
                .filter(|(_, (id, _))| distinct.insert(id.clone()))
                .map(|(label, entry)| (label.into(), entry))
                .collect();
            let totals = Totals { dimensionality, total_elements_added, max_seq_id };
            let listed = ids.iter().map(|(label, (id, seq_id))| {
                (u32::try_from(*label).unwrap(), id.clone(), *seq_id)
            });
            let bytes = pickle(totals, listed.collect());
            let expected = Contents {
                ids: ids.clone(),
                total_elements_added: Some(total_elements_added),
                dimensionality: Some(dimensionality),
                max_seq_id,
            };
            prop_assert_eq!(&read(&bytes), &expected);
            prop_assert_eq!(serde_pickle_contents(&bytes), Some(expected));
        }
    }
}
