//! The opcodes of pickle protocols 2 to 5, one at a time, from bytes.
//!
//! Only what a plain value, or an instance with a plain state, is written with is known here.
//! Opcodes that refer to something outside the file (persistent ids, extension codes, out-of-band
//! buffers), build other instances, or belong to the text protocols 0 and 1 are refused by name.

/// Module and name lines of a GLOBAL opcode may hold this many bytes together.
const MAX_GLOBAL: usize = 1024;

/// An integer as a pickle holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integer {
    Unsigned(u64),
    Negative,
    /// Too many bits for a u64.
    Wide,
}

impl Integer {
    /// From little-endian two's complement of any width, none included.
    fn from_twos_complement(bytes: &[u8]) -> Self {
        if bytes.last().is_some_and(|last| last & 0x80 != 0) {
            return Self::Negative;
        }
        let (low, high) = bytes.split_at_checked(8).unwrap_or((bytes, &[]));
        if high.iter().any(|byte| *byte != 0) {
            return Self::Wide;
        }
        Self::Unsigned(
            low.iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte)),
        )
    }

    pub(super) fn describe(self) -> String {
        match self {
            Self::Unsigned(value) => format!("the integer {value}"),
            Self::Negative => "a negative integer".into(),
            Self::Wide => "an integer beyond 64 bits".into(),
        }
    }
}

/// The strings that mean something to the reader. All others are ids, or of no interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Other,
    LabelToId,
    IdToLabel,
    IdToSeqId,
    TotalElementsAdded,
    Dimensionality,
    MaxSeqId,
    PersistentData,
    /// A module of the builtins, in Python 2's spelling or Python 3's.
    Builtins,
    /// A builtin type that older protocols build from plain values.
    BuiltinType,
    Codecs,
    Encode,
}

impl Name {
    /// Lengths in bytes that a known name can have.
    pub(super) const LENGTHS: std::ops::RangeInclusive<u64> = 3..=20;

    pub(super) fn of(text: &[u8]) -> Self {
        match text {
            b"label_to_id" => Self::LabelToId,
            b"id_to_label" => Self::IdToLabel,
            b"id_to_seq_id" => Self::IdToSeqId,
            b"total_elements_added" => Self::TotalElementsAdded,
            b"dimensionality" => Self::Dimensionality,
            b"max_seq_id" => Self::MaxSeqId,
            b"PersistentData" => Self::PersistentData,
            b"builtins" | b"__builtin__" => Self::Builtins,
            b"set" | b"frozenset" | b"bytes" | b"bytearray" | b"complex" => Self::BuiltinType,
            b"_codecs" => Self::Codecs,
            b"encode" => Self::Encode,
            _ => Self::Other,
        }
    }
}

/// What an opcode does, with its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Proto(u8),
    /// Length in bytes of the frame that follows.
    Frame(u64),
    Stop,
    Mark,
    Pop,
    PopMark,
    None,
    /// A bool or a float.
    Scalar,
    Integer(Integer),
    /// A str; its UTF-8 is the payload.
    Text,
    /// bytes, a bytearray, or Python 2's str, as the payload.
    Bytes,
    EmptyList,
    Append,
    Appends,
    EmptyTuple,
    /// All items above the mark.
    Tuple,
    /// So many topmost items: 1 to 3.
    TupleOf(u8),
    EmptyDict,
    SetItem,
    SetItems,
    EmptySet,
    AddItems,
    FrozenSet,
    /// Into the next free entry of the memo.
    Memoize,
    Put(u64),
    Get(u64),
    Global {
        module: Name,
        name: Name,
    },
    StackGlobal,
    NewObj,
    Reduce,
    Build,
}

/// An opcode: `header` bytes that were read, then `payload` bytes that were not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lexed {
    pub(super) op: Op,
    pub(super) header: usize,
    pub(super) payload: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum LexError {
    /// The bytes end within the opcode: at least so many are needed.
    Short(usize),
    Refused {
        found: String,
        expected: &'static str,
    },
}

fn plain(op: Op) -> Result<Lexed, LexError> {
    with_header(op, 1)
}

fn with_header(op: Op, header: usize) -> Result<Lexed, LexError> {
    Ok(Lexed {
        op,
        header,
        payload: 0,
    })
}

fn with_payload(op: Op, header: usize, payload: u64) -> Result<Lexed, LexError> {
    Ok(Lexed {
        op,
        header,
        payload,
    })
}

/// The `N` bytes after the opcode.
fn argument<const N: usize>(bytes: &[u8]) -> Result<[u8; N], LexError> {
    bytes
        .get(1..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(LexError::Short(1 + N))
}

fn argument_u8(bytes: &[u8]) -> Result<u8, LexError> {
    let [value] = argument(bytes)?;
    Ok(value)
}

fn argument_u32(bytes: &[u8]) -> Result<u64, LexError> {
    argument(bytes).map(|bytes| u32::from_le_bytes(bytes).into())
}

fn argument_u64(bytes: &[u8]) -> Result<u64, LexError> {
    argument(bytes).map(u64::from_le_bytes)
}

/// Reads the opcode that `bytes` start with.
#[inline]
pub(super) fn lex(bytes: &[u8]) -> Result<Lexed, LexError> {
    let Some(&code) = bytes.first() else {
        return Err(LexError::Short(1));
    };
    match code {
        b'X' => with_payload(Op::Text, 5, argument_u32(bytes)?),
        0x8c => with_payload(Op::Text, 2, argument_u8(bytes)?.into()),
        0x8d => with_payload(Op::Text, 9, argument_u64(bytes)?),
        b'J' => {
            let value = i32::from_le_bytes(argument(bytes)?);
            let value = u64::try_from(value).map_or(Integer::Negative, Integer::Unsigned);
            with_header(Op::Integer(value), 5)
        }
        b'K' => {
            let value = Integer::Unsigned(argument_u8(bytes)?.into());
            with_header(Op::Integer(value), 2)
        }
        b'M' => {
            let value = u16::from_le_bytes(argument(bytes)?);
            with_header(Op::Integer(Integer::Unsigned(value.into())), 3)
        }
        0x8a => {
            let length = usize::from(argument_u8(bytes)?);
            long(bytes, 2, length)
        }
        0x8b => {
            let length = i32::from_le_bytes(argument(bytes)?);
            match u8::try_from(length) {
                Ok(length) => long(bytes, 5, length.into()),
                Err(_) => match u64::try_from(length) {
                    Ok(length) => with_payload(Op::Integer(Integer::Wide), 5, length),
                    Err(_) => Err(LexError::Refused {
                        found: format!("an integer of {length} bytes"),
                        expected: "a length that is not negative",
                    }),
                },
            }
        }
        0x94 => plain(Op::Memoize),
        b'q' => with_header(Op::Put(argument_u8(bytes)?.into()), 2),
        b'r' => with_header(Op::Put(argument_u32(bytes)?), 5),
        b'h' => with_header(Op::Get(argument_u8(bytes)?.into()), 2),
        b'j' => with_header(Op::Get(argument_u32(bytes)?), 5),
        b'(' => plain(Op::Mark),
        b'u' => plain(Op::SetItems),
        b's' => plain(Op::SetItem),
        b'}' => plain(Op::EmptyDict),
        b'N' => plain(Op::None),
        0x88 | 0x89 => plain(Op::Scalar),
        b'G' => argument::<8>(bytes).and_then(|_| with_header(Op::Scalar, 9)),
        b'B' | b'T' => with_payload(Op::Bytes, 5, argument_u32(bytes)?),
        b'C' | b'U' => with_payload(Op::Bytes, 2, argument_u8(bytes)?.into()),
        0x8e | 0x96 => with_payload(Op::Bytes, 9, argument_u64(bytes)?),
        b']' => plain(Op::EmptyList),
        b'a' => plain(Op::Append),
        b'e' => plain(Op::Appends),
        b')' => plain(Op::EmptyTuple),
        b't' => plain(Op::Tuple),
        0x85 => plain(Op::TupleOf(1)),
        0x86 => plain(Op::TupleOf(2)),
        0x87 => plain(Op::TupleOf(3)),
        0x8f => plain(Op::EmptySet),
        0x90 => plain(Op::AddItems),
        0x91 => plain(Op::FrozenSet),
        b'0' => plain(Op::Pop),
        b'1' => plain(Op::PopMark),
        0x80 => with_header(Op::Proto(argument_u8(bytes)?), 2),
        0x95 => with_header(Op::Frame(argument_u64(bytes)?), 9),
        b'.' => plain(Op::Stop),
        b'c' => global(bytes),
        0x93 => plain(Op::StackGlobal),
        0x81 => plain(Op::NewObj),
        b'R' => plain(Op::Reduce),
        b'b' => plain(Op::Build),
        _ => Err(refused(code)),
    }
}

/// An integer of `length` bytes after `header` ones.
fn long(bytes: &[u8], header: usize, length: usize) -> Result<Lexed, LexError> {
    let end = header + length;
    let digits = bytes.get(header..end).ok_or(LexError::Short(end))?;
    with_header(Op::Integer(Integer::from_twos_complement(digits)), end)
}

/// `c`, then a module and a name, each on a line.
fn global(bytes: &[u8]) -> Result<Lexed, LexError> {
    let lines = bytes.get(1..).unwrap_or_default();
    let lines = lines.get(..MAX_GLOBAL).unwrap_or(lines);
    let mut parts = lines.split(|byte| *byte == b'\n');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(module), Some(name), Some(_)) => {
            let op = Op::Global {
                module: Name::of(module),
                name: Name::of(name),
            };
            with_header(op, 3 + module.len() + name.len())
        }
        _ if lines.len() < MAX_GLOBAL => Err(LexError::Short(1 + MAX_GLOBAL)),
        _ => Err(LexError::Refused {
            found: "a class name that does not end".into(),
            expected: "a module and a name, each on a line",
        }),
    }
}

#[cold]
fn refused(code: u8) -> LexError {
    let meaning = match code {
        b'P' | b'Q' => " (a persistent id)",
        0x82..=0x84 => " (an extension code)",
        b'i' | b'o' | 0x92 => " (an instance of some class)",
        0x97 | 0x98 => " (an out-of-band buffer)",
        b'2' => " (a duplicate of the topmost value)",
        b'I' | b'L' | b'F' | b'S' | b'V' | b'g' | b'p' | b'd' | b'l' => {
            " (of the text protocols 0 and 1)"
        }
        _ => "",
    };
    LexError::Refused {
        found: format!("opcode 0x{code:02x}{meaning}"),
        expected: "an opcode for plain values in pickle protocols 2 to 5",
    }
}
