//! Lexer for pickle protocols 2 to 5: one opcode at a time.
//!
//! It knows the opcodes of plain values and of an instance with a plain state. Opcodes that refer to
//! objects outside the file (persistent ids, extension codes, out-of-band buffers), build other
//! instances, or belong to the text protocols 0 and 1 are refused by name.

/// Maximum total length of the module and name lines of a GLOBAL opcode, in bytes.
const MAX_GLOBAL: usize = 1024;

/// The first byte of each opcode, under the names of Python's `pickletools`.
mod code {
    pub(super) const BINUNICODE: u8 = b'X';
    pub(super) const SHORT_BINUNICODE: u8 = 0x8c;
    pub(super) const BINUNICODE8: u8 = 0x8d;
    pub(super) const BININT: u8 = b'J';
    pub(super) const BININT1: u8 = b'K';
    pub(super) const BININT2: u8 = b'M';
    pub(super) const LONG1: u8 = 0x8a;
    pub(super) const LONG4: u8 = 0x8b;
    pub(super) const MEMOIZE: u8 = 0x94;
    pub(super) const BINPUT: u8 = b'q';
    pub(super) const LONG_BINPUT: u8 = b'r';
    pub(super) const BINGET: u8 = b'h';
    pub(super) const LONG_BINGET: u8 = b'j';
    pub(super) const MARK: u8 = b'(';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const SETITEM: u8 = b's';
    pub(super) const EMPTY_DICT: u8 = b'}';
    pub(super) const NONE: u8 = b'N';
    pub(super) const NEWTRUE: u8 = 0x88;
    pub(super) const NEWFALSE: u8 = 0x89;
    pub(super) const BINFLOAT: u8 = b'G';
    pub(super) const BINBYTES: u8 = b'B';
    pub(super) const BINSTRING: u8 = b'T';
    pub(super) const SHORT_BINBYTES: u8 = b'C';
    pub(super) const SHORT_BINSTRING: u8 = b'U';
    pub(super) const BINBYTES8: u8 = 0x8e;
    pub(super) const BYTEARRAY8: u8 = 0x96;
    pub(super) const EMPTY_LIST: u8 = b']';
    pub(super) const APPEND: u8 = b'a';
    pub(super) const APPENDS: u8 = b'e';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const TUPLE: u8 = b't';
    pub(super) const TUPLE1: u8 = 0x85;
    pub(super) const TUPLE2: u8 = 0x86;
    pub(super) const TUPLE3: u8 = 0x87;
    pub(super) const EMPTY_SET: u8 = 0x8f;
    pub(super) const ADDITEMS: u8 = 0x90;
    pub(super) const FROZENSET: u8 = 0x91;
    pub(super) const POP: u8 = b'0';
    pub(super) const POP_MARK: u8 = b'1';
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const FRAME: u8 = 0x95;
    pub(super) const STOP: u8 = b'.';
    pub(super) const GLOBAL: u8 = b'c';
    pub(super) const STACK_GLOBAL: u8 = 0x93;
    pub(super) const NEWOBJ: u8 = 0x81;
    pub(super) const REDUCE: u8 = b'R';
    pub(super) const BUILD: u8 = b'b';
    pub(super) const PERSID: u8 = b'P';
    pub(super) const BINPERSID: u8 = b'Q';
    pub(super) const EXT1: u8 = 0x82;
    pub(super) const EXT4: u8 = 0x84;
    pub(super) const INST: u8 = b'i';
    pub(super) const OBJ: u8 = b'o';
    pub(super) const NEWOBJ_EX: u8 = 0x92;
    pub(super) const NEXT_BUFFER: u8 = 0x97;
    pub(super) const READONLY_BUFFER: u8 = 0x98;
    pub(super) const DUP: u8 = b'2';
    pub(super) const INT: u8 = b'I';
    pub(super) const LONG: u8 = b'L';
    pub(super) const FLOAT: u8 = b'F';
    pub(super) const STRING: u8 = b'S';
    pub(super) const UNICODE: u8 = b'V';
    pub(super) const GET: u8 = b'g';
    pub(super) const PUT: u8 = b'p';
    pub(super) const DICT: u8 = b'd';
    pub(super) const LIST: u8 = b'l';
}

/// An integer of a pickle, signed and of any width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integer {
    Unsigned(u64),
    Negative,
    /// Too many bits for a u64.
    Wide,
}

impl Integer {
    /// Decodes little-endian two's complement of any width. Zero bytes encode 0, as in LONG1.
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

/// The strings with a meaning to the reader. All others are ids or ignored.
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
    /// A builtin type that older protocols construct by a call.
    BuiltinType,
    Codecs,
    Encode,
}

impl Name {
    /// Lengths in bytes of the known names.
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

/// An opcode by its effect, with its argument.
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
    /// That many topmost items: 1 to 3.
    TupleOf(u8),
    EmptyDict,
    SetItem,
    SetItems,
    EmptySet,
    AddItems,
    FrozenSet,
    /// Stores the top in the next free entry of the memo.
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

/// An opcode: `header` bytes, which the lexer has read, then `payload` bytes, which it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lexed {
    pub(super) op: Op,
    pub(super) header: usize,
    pub(super) payload: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum LexError {
    /// The window ends within the opcode, which needs at least this many bytes.
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

/// Reads the opcode at the start of `bytes`.
#[inline]
pub(super) fn lex(bytes: &[u8]) -> Result<Lexed, LexError> {
    let Some(&code) = bytes.first() else {
        return Err(LexError::Short(1));
    };
    match code {
        code::BINUNICODE => with_payload(Op::Text, 5, argument_u32(bytes)?),
        code::SHORT_BINUNICODE => with_payload(Op::Text, 2, argument_u8(bytes)?.into()),
        code::BINUNICODE8 => with_payload(Op::Text, 9, argument_u64(bytes)?),
        code::BININT => {
            let value = i32::from_le_bytes(argument(bytes)?);
            let value = u64::try_from(value).map_or(Integer::Negative, Integer::Unsigned);
            with_header(Op::Integer(value), 5)
        }
        code::BININT1 => {
            let value = Integer::Unsigned(argument_u8(bytes)?.into());
            with_header(Op::Integer(value), 2)
        }
        code::BININT2 => {
            let value = u16::from_le_bytes(argument(bytes)?);
            with_header(Op::Integer(Integer::Unsigned(value.into())), 3)
        }
        code::LONG1 => {
            let length = usize::from(argument_u8(bytes)?);
            long(bytes, 2, length)
        }
        code::LONG4 => {
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
        code::MEMOIZE => plain(Op::Memoize),
        code::BINPUT => with_header(Op::Put(argument_u8(bytes)?.into()), 2),
        code::LONG_BINPUT => with_header(Op::Put(argument_u32(bytes)?), 5),
        code::BINGET => with_header(Op::Get(argument_u8(bytes)?.into()), 2),
        code::LONG_BINGET => with_header(Op::Get(argument_u32(bytes)?), 5),
        code::MARK => plain(Op::Mark),
        code::SETITEMS => plain(Op::SetItems),
        code::SETITEM => plain(Op::SetItem),
        code::EMPTY_DICT => plain(Op::EmptyDict),
        code::NONE => plain(Op::None),
        code::NEWTRUE | code::NEWFALSE => plain(Op::Scalar),
        code::BINFLOAT => argument::<8>(bytes).and_then(|_| with_header(Op::Scalar, 9)),
        code::BINBYTES | code::BINSTRING => with_payload(Op::Bytes, 5, argument_u32(bytes)?),
        code::SHORT_BINBYTES | code::SHORT_BINSTRING => {
            with_payload(Op::Bytes, 2, argument_u8(bytes)?.into())
        }
        code::BINBYTES8 | code::BYTEARRAY8 => with_payload(Op::Bytes, 9, argument_u64(bytes)?),
        code::EMPTY_LIST => plain(Op::EmptyList),
        code::APPEND => plain(Op::Append),
        code::APPENDS => plain(Op::Appends),
        code::EMPTY_TUPLE => plain(Op::EmptyTuple),
        code::TUPLE => plain(Op::Tuple),
        code::TUPLE1 => plain(Op::TupleOf(1)),
        code::TUPLE2 => plain(Op::TupleOf(2)),
        code::TUPLE3 => plain(Op::TupleOf(3)),
        code::EMPTY_SET => plain(Op::EmptySet),
        code::ADDITEMS => plain(Op::AddItems),
        code::FROZENSET => plain(Op::FrozenSet),
        code::POP => plain(Op::Pop),
        code::POP_MARK => plain(Op::PopMark),
        code::PROTO => with_header(Op::Proto(argument_u8(bytes)?), 2),
        code::FRAME => with_header(Op::Frame(argument_u64(bytes)?), 9),
        code::STOP => plain(Op::Stop),
        code::GLOBAL => global(bytes),
        code::STACK_GLOBAL => plain(Op::StackGlobal),
        code::NEWOBJ => plain(Op::NewObj),
        code::REDUCE => plain(Op::Reduce),
        code::BUILD => plain(Op::Build),
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
        code::PERSID | code::BINPERSID => " (a persistent id)",
        code::EXT1..=code::EXT4 => " (an extension code)",
        code::INST | code::OBJ | code::NEWOBJ_EX => " (an instance of some class)",
        code::NEXT_BUFFER | code::READONLY_BUFFER => " (an out-of-band buffer)",
        code::DUP => " (a duplicate of the topmost value)",
        code::INT
        | code::LONG
        | code::FLOAT
        | code::STRING
        | code::UNICODE
        | code::GET
        | code::PUT
        | code::DICT
        | code::LIST => " (of the text protocols 0 and 1)",
        _ => "",
    };
    LexError::Refused {
        found: format!("opcode 0x{code:02x}{meaning}"),
        expected: "an opcode for plain values in pickle protocols 2 to 5",
    }
}
