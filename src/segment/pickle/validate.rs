//! The first pass: validates the whole pickle and finds its maps.
//!
//! A pickle is a program for a stack machine. This machine keeps only the kind of each value: it
//! builds nothing, calls nothing and never recurses. A run of plain values in a list, set or map is
//! one item of its stack, so long lists need no memory.

use super::memo::{EntryKind, MemoKinds};
use super::opcode::{Integer, Lexed, Name, Op};
use super::walk::{Flow, Visitor, Walker};
use crate::base::memory;
use crate::io::source::Source;
use crate::segment::decode_error::{DecodeError, Decoded};

/// Maximum number of items on the stack, which limits the depth of nesting. Picklers add to lists and
/// maps in batches of 1000, so real files stay far below it.
const MAX_STACK: usize = 1 << 16;

/// A map of the pickle: the opcodes that fill it, and the number of pairs that they add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapSpan {
    /// Offset in the file right after the opcode for the empty map.
    pub(super) start: u64,
    /// Offset right after the opcode that adds the last pair.
    pub(super) end: u64,
    pub(super) pairs: u64,
}

/// The result of the first pass.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) label_to_id: Option<MapSpan>,
    pub(super) id_to_label: Option<MapSpan>,
    pub(super) id_to_seq_id: Option<MapSpan>,
    pub(super) total_elements_added: Option<u64>,
    pub(super) dimensionality: Option<u64>,
    pub(super) max_seq_id: Option<u64>,
    pub(super) memo: MemoKinds,
}

/// Reads the whole pickle. Fails if it is malformed, or a field has the wrong type.
pub(super) fn validate(walker: &mut Walker<'_, impl Source>) -> Decoded<Outline> {
    let len = walker.len();
    let mut machine = Machine {
        len,
        stack: Vec::new(),
        base: 0,
        bulk: false,
        last: EntryKind::Other,
        has_top_level: false,
        known: 0,
        outline: Outline::default(),
    };
    let end = walker.walk(0, len, &mut machine)?;
    if !machine.has_top_level || !machine.stack.is_empty() {
        return Err(DecodeError::byte(
            end,
            "the end of the file",
            "opcodes up to a STOP",
        ));
    }
    if end != len {
        return Err(DecodeError::byte(
            end,
            format!("{} bytes after the STOP opcode", len - end),
            "the end of the file",
        ));
    }
    Ok(machine.outline)
}

/// A value on the stack.
#[derive(Clone, Copy, Debug)]
enum Item {
    /// Start of a batch, with the base to restore after it.
    Mark {
        base: usize,
    },
    /// A run of plain values, by its length. No opcode can add to them.
    Plain(u64),
    None,
    Integer(Integer),
    Text {
        name: Name,
        at: u64,
    },
    Tuple,
    List,
    Set,
    Dict(MapSpan),
    /// The dict of fields: at top level, or the state of the top-level instance.
    Fields,
    /// The class PersistentData.
    Class,
    Constructor,
    /// An instance of PersistentData, with or without the dict of fields as its state.
    Instance {
        has_state: bool,
    },
}

impl Item {
    fn describe(&self) -> String {
        match self {
            Self::Mark { .. } => "a mark".into(),
            Self::Plain(_) => "a value of another type".into(),
            Self::None => "None".into(),
            Self::Integer(integer) => integer.describe(),
            Self::Text { .. } => "a string".into(),
            Self::Tuple => "a tuple".into(),
            Self::List => "a list".into(),
            Self::Set => "a set".into(),
            Self::Dict(_) | Self::Fields => "a dict".into(),
            Self::Class | Self::Constructor => "a class or function".into(),
            Self::Instance { has_state: true } => "an instance".into(),
            Self::Instance { has_state: false } => "an instance without a dict of fields".into(),
        }
    }
}

#[cold]
fn wrong(at: u64, found: impl Into<String>, expected: impl Into<String>) -> DecodeError {
    DecodeError::byte(at, found, expected.into())
}

struct Machine {
    len: u64,
    stack: Vec<Item>,
    /// Index of the first item above the topmost mark.
    base: usize,
    /// True if values above the topmost mark may be merged into runs.
    bulk: bool,
    /// The value that the last opcode pushed, for MEMOIZE and PUT.
    last: EntryKind,
    has_top_level: bool,
    /// A bit for each known key seen so far.
    known: u8,
    outline: Outline,
}

impl Visitor for Machine {
    #[inline]
    fn visit(&mut self, lexed: &Lexed, at: u64, payload: Option<&[u8]>) -> Decoded<Flow> {
        if at == 0 {
            return self.start(lexed.op);
        }
        match lexed.op {
            Op::Text => {
                let name = if Name::LENGTHS.contains(&lexed.payload) {
                    match payload {
                        Some(text) => Name::of(text),
                        None => return Ok(Flow::Payload),
                    }
                } else {
                    Name::Other
                };
                self.push(at, Item::Text { name, at })?;
                self.last = EntryKind::Text(name);
            }
            Op::Integer(integer) => self.push(at, Item::Integer(integer))?,
            Op::Memoize => self.memoize(at, None)?,
            Op::Put(index) => self.memoize(at, Some(index))?,
            Op::Get(index) => self.get(at, index)?,
            Op::None => self.push(at, Item::None)?,
            Op::Scalar | Op::Bytes => self.push(at, Item::Plain(1))?,
            Op::EmptyTuple => self.push(at, Item::Tuple)?,
            Op::EmptyList => self.push(at, Item::List)?,
            Op::EmptySet => self.push(at, Item::Set)?,
            Op::EmptyDict => self.empty_dict(at)?,
            Op::Mark => self.mark(at)?,
            Op::SetItem => {
                let value = self.pop(at)?;
                let key = self.pop(at)?;
                self.set_items(at, 1)?;
                if let Some(Item::Fields) = self.stack.last() {
                    self.field(key, value)?;
                }
            }
            Op::SetItems => {
                let first = self.close_mark(at)?;
                let items = self.count_from(first);
                if !items.is_multiple_of(2) {
                    return Err(wrong(
                        at,
                        format!("{items} items"),
                        "keys with their values",
                    ));
                }
                if let Some(Item::Fields) = first.checked_sub(2).and_then(|at| self.stack.get(at)) {
                    self.fields(first)?;
                }
                self.drop_mark(first);
                self.set_items(at, items / 2)?;
            }
            Op::Append => {
                self.pop(at)?;
                self.expect_target(at, |item| matches!(item, Item::List), "a list to add to")?;
            }
            Op::Appends => {
                let first = self.close_mark(at)?;
                self.drop_mark(first);
                self.expect_target(at, |item| matches!(item, Item::List), "a list to add to")?;
            }
            Op::AddItems => {
                let first = self.close_mark(at)?;
                self.drop_mark(first);
                self.expect_target(at, |item| matches!(item, Item::Set), "a set to add to")?;
            }
            Op::Tuple => {
                let first = self.close_mark(at)?;
                self.drop_mark(first);
                self.push(at, Item::Tuple)?;
            }
            Op::TupleOf(items) => {
                for _ in 0..items {
                    self.pop(at)?;
                }
                self.push(at, Item::Tuple)?;
            }
            Op::FrozenSet => {
                let first = self.close_mark(at)?;
                self.drop_mark(first);
                self.push(at, Item::Plain(1))?;
            }
            Op::Pop => {
                self.pop(at)?;
                self.last = EntryKind::Other;
            }
            Op::PopMark => {
                let first = self.close_mark(at)?;
                self.drop_mark(first);
            }
            Op::Global { module, name } => self.global(at, module, name)?,
            Op::StackGlobal => {
                let (name, module) = (self.pop(at)?, self.pop(at)?);
                match (module, name) {
                    (Item::Text { name: module, .. }, Item::Text { name, .. }) => {
                        self.global(at, module, name)?
                    }
                    (module, _) => {
                        return Err(wrong(
                            at,
                            module.describe(),
                            "the names of a module and a class",
                        ))
                    }
                }
            }
            Op::NewObj => {
                let (arguments, class) = (self.pop(at)?, self.pop(at)?);
                if !matches!((class, arguments), (Item::Class, Item::Tuple)) {
                    return Err(wrong(at, class.describe(), "the class PersistentData"));
                }
                self.push(at, Item::Instance { has_state: false })?;
            }
            Op::Reduce => {
                let (arguments, function) = (self.pop(at)?, self.pop(at)?);
                if !matches!((function, arguments), (Item::Constructor, Item::Tuple)) {
                    return Err(wrong(
                        at,
                        format!("a call of {}", function.describe()),
                        "only calls that construct a plain value",
                    ));
                }
                self.push(at, Item::Plain(1))?;
            }
            Op::Build => {
                let state = self.pop(at)?;
                self.expect_target(
                    at,
                    |item| matches!(item, Item::Instance { .. }),
                    "an instance of PersistentData to give a state",
                )?;
                if let Some(Item::Instance { has_state }) = self.stack.last_mut() {
                    *has_state = matches!(state, Item::Fields);
                }
            }
            Op::Frame(length) => {
                let left = self.len.saturating_sub(at).saturating_sub(9);
                if length > left {
                    return Err(wrong(
                        at,
                        format!("a frame of {length} bytes"),
                        format!("at most the {left} bytes that are left"),
                    ));
                }
            }
            Op::Proto(_) => {
                return Err(wrong(
                    at,
                    "a second PROTO opcode",
                    "one, at the start of the file",
                ))
            }
            Op::Stop => return self.stop(at),
        }
        Ok(Flow::Next)
    }
}

impl Machine {
    fn start(&self, op: Op) -> Decoded<Flow> {
        match op {
            Op::Proto(2..=5) => Ok(Flow::Next),
            Op::Proto(version) => Err(wrong(
                0,
                format!("pickle protocol {version}"),
                "a pickle of protocol 2, 3, 4 or 5",
            )),
            _ => Err(wrong(
                0,
                "no PROTO opcode",
                "a pickle of protocol 2, 3, 4 or 5",
            )),
        }
    }

    #[inline]
    fn push(&mut self, at: u64, item: Item) -> Decoded<()> {
        self.last = EntryKind::Other;
        if self.bulk {
            // Names are kept: a later opcode may use one as the name of a function.
            let plain = matches!(
                item,
                Item::Text {
                    name: Name::Other,
                    ..
                } | Item::Integer(_)
                    | Item::None
                    | Item::Plain(_)
            );
            if plain {
                // The item below a frame is its mark, so this is a value of the same frame.
                if let Some(Item::Plain(run)) = self.stack.last_mut() {
                    *run += 1;
                    return Ok(());
                }
                return self.push_item(at, Item::Plain(1));
            }
        }
        self.push_item(at, item)
    }

    fn push_item(&mut self, at: u64, item: Item) -> Decoded<()> {
        if self.stack.len() >= MAX_STACK {
            return Err(wrong(
                at,
                "values nested too deeply",
                format!("at most {MAX_STACK} unfinished ones"),
            ));
        }
        memory::reserve(&mut self.stack, 1, "hold its unfinished values")?;
        self.stack.push(item);
        Ok(())
    }

    /// Takes the topmost value above the mark.
    fn pop(&mut self, at: u64) -> Decoded<Item> {
        if self.stack.len() > self.base {
            match self.stack.last_mut() {
                Some(Item::Plain(run)) if *run > 1 => {
                    *run -= 1;
                    return Ok(Item::Plain(1));
                }
                _ => {
                    if let Some(item) = self.stack.pop() {
                        return Ok(item);
                    }
                }
            }
        }
        Err(wrong(
            at,
            "too few values",
            "a value for this opcode to take",
        ))
    }

    fn mark(&mut self, at: u64) -> Decoded<()> {
        let bulk = !matches!(self.stack.last(), Some(Item::Fields));
        let base = self.base;
        self.push_item(at, Item::Mark { base })?;
        self.base = self.stack.len();
        self.bulk = bulk;
        self.last = EntryKind::Other;
        Ok(())
    }

    /// The index of the first item above the topmost mark. The items stay on the stack.
    fn close_mark(&self, at: u64) -> Decoded<usize> {
        match self.base {
            0 => Err(wrong(
                at,
                "no mark",
                "a mark before the items of this opcode",
            )),
            first => Ok(first),
        }
    }

    /// Drops the topmost mark and all items above it.
    fn drop_mark(&mut self, first: usize) {
        let mark = first.saturating_sub(1);
        debug_assert!(matches!(self.stack.get(mark), Some(Item::Mark { .. })));
        if let Some(Item::Mark { base }) = self.stack.get(mark) {
            self.base = *base;
        }
        self.stack.truncate(mark);
        self.bulk = self
            .base
            .checked_sub(2)
            .and_then(|below| self.stack.get(below))
            .is_some_and(|below| !matches!(below, Item::Fields));
        self.last = EntryKind::Other;
    }

    fn count_from(&self, first: usize) -> u64 {
        debug_assert!(first <= self.stack.len());
        let items = self.stack.get(first..).unwrap_or_default();
        items
            .iter()
            .map(|item| match item {
                Item::Plain(run) => *run,
                _ => 1,
            })
            .sum()
    }

    fn expect_target(
        &mut self,
        at: u64,
        accepts: impl FnOnce(&Item) -> bool,
        expected: &'static str,
    ) -> Decoded<()> {
        self.last = EntryKind::Other;
        let found = self.stack.get(self.base..).and_then(<[Item]>::last);
        match found {
            Some(item) if accepts(item) => Ok(()),
            Some(item) => Err(wrong(at, item.describe(), expected)),
            None => Err(wrong(at, "too few values", expected)),
        }
    }

    /// Adds pairs to the dict on top.
    fn set_items(&mut self, at: u64, pairs: u64) -> Decoded<()> {
        self.expect_target(
            at,
            |item| matches!(item, Item::Dict(_) | Item::Fields),
            "a dict to add to",
        )?;
        if let Some(Item::Dict(map)) = self.stack.last_mut() {
            map.pairs += pairs;
            map.end = at + 1;
        }
        Ok(())
    }

    fn empty_dict(&mut self, at: u64) -> Decoded<()> {
        let is_top_level = matches!(self.stack.as_slice(), [] | [Item::Instance { .. }]);
        if !is_top_level {
            let start = at + 1;
            let map = MapSpan {
                start,
                end: start,
                pairs: 0,
            };
            return self.push(at, Item::Dict(map));
        }
        if self.has_top_level {
            return Err(wrong(at, "a second dict of fields", "one"));
        }
        self.has_top_level = true;
        self.push(at, Item::Fields)
    }

    /// Reads the fields among the pairs, starting with pair `first`.
    fn fields(&mut self, first: usize) -> Decoded<()> {
        let mut index = first;
        while let Some([key, value]) = self.stack.get(index..index + 2) {
            let (key, value) = (*key, *value);
            self.field(key, value)?;
            index += 2;
        }
        Ok(())
    }

    fn field(&mut self, key: Item, value: Item) -> Decoded<()> {
        let Item::Text { name, at } = key else {
            return Ok(());
        };
        let outline = &mut self.outline;
        let (bit, key, map, integer) = match name {
            Name::LabelToId => (1, "label_to_id", Some(&mut outline.label_to_id), None),
            Name::IdToLabel => (2, "id_to_label", Some(&mut outline.id_to_label), None),
            Name::IdToSeqId => (4, "id_to_seq_id", Some(&mut outline.id_to_seq_id), None),
            Name::TotalElementsAdded => {
                let field = &mut outline.total_elements_added;
                (8, "total_elements_added", None, Some(field))
            }
            Name::Dimensionality => {
                let field = &mut outline.dimensionality;
                (16, "dimensionality", None, Some(field))
            }
            Name::MaxSeqId => (32, "max_seq_id", None, Some(&mut outline.max_seq_id)),
            _ => return Ok(()),
        };
        if self.known & bit != 0 {
            return Err(wrong(at, format!("a second {key}"), "each field once"));
        }
        self.known |= bit;
        match (map, integer, value) {
            (Some(map), _, Item::Dict(value)) => *map = Some(value),
            (_, Some(integer), Item::Integer(Integer::Unsigned(value))) => *integer = Some(value),
            (_, Some(_), Item::None) => {}
            (Some(_), ..) => {
                let found = format!("{} as {key}", value.describe());
                return Err(wrong(at, found, format!("{key} to be a dict")));
            }
            _ => {
                let found = format!("{} as {key}", value.describe());
                let expected = format!("{key} to be None or an integer from 0 to {}", u64::MAX);
                return Err(wrong(at, found, expected));
            }
        }
        Ok(())
    }

    fn global(&mut self, at: u64, module: Name, name: Name) -> Decoded<()> {
        match (module, name) {
            (_, Name::PersistentData) => self.push(at, Item::Class),
            (Name::Builtins, Name::BuiltinType) | (Name::Codecs, Name::Encode) => {
                self.push(at, Item::Constructor)?;
                self.last = EntryKind::Constructor;
                Ok(())
            }
            _ => Err(wrong(
                at,
                "a class or function by name",
                "no class but PersistentData",
            )),
        }
    }

    fn memoize(&mut self, at: u64, index: Option<u64>) -> Decoded<()> {
        if self.stack.len() <= self.base {
            return Err(wrong(at, "nothing to memoise", "a value before it"));
        }
        let next = u64::try_from(self.outline.memo.len()).unwrap_or(u64::MAX);
        match index {
            Some(index) if index != next => Err(wrong(
                at,
                format!("memo entry {index}"),
                format!("the next one, {next}"),
            )),
            _ => Ok(self.outline.memo.push(self.last)?),
        }
    }

    fn get(&mut self, at: u64, index: u64) -> Decoded<()> {
        match self.outline.memo.refer(index) {
            Some(EntryKind::Text(name)) => self.push(at, Item::Text { name, at }),
            Some(EntryKind::Constructor) => self.push(at, Item::Constructor),
            Some(EntryKind::Other) => self.push(at, Item::Plain(1)),
            None => Err(wrong(
                at,
                format!("memo entry {index}"),
                format!("one of the {} put so far", self.outline.memo.len()),
            )),
        }
    }

    fn stop(&mut self, at: u64) -> Decoded<Flow> {
        match self.stack.as_slice() {
            [Item::Fields | Item::Instance { has_state: true }] => {
                self.stack.clear();
                Ok(Flow::Stop)
            }
            [item] => Err(wrong(
                at,
                item.describe(),
                "a dict of fields or an instance of PersistentData",
            )),
            items => Err(wrong(
                at,
                format!("{} unfinished values", items.len()),
                "one finished value",
            )),
        }
    }
}
