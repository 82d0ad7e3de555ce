//! The later passes: the pairs of one map, and the memo's strings.
//!
//! The first pass has found the opcodes that fill each map, so these passes need no stack: between
//! opcodes that add pairs only keys and values are allowed.

use super::fingerprint::Fingerprinter;
use super::memo::{MemoStrings, Text};
use super::opcode::{Integer, Lexed, Op};
use super::span::{Span, MAX_ID_BYTES};
use super::validate::MapSpan;
use super::walk::{Flow, Visitor, Walker};
use crate::io::source::Source;
use crate::segment::decode_error::{DecodeError, Decoded};

/// A key or a value of a map of ids.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalar {
    /// Offset in the file of its opcode.
    pub(super) at: u64,
    value: Value,
}

#[derive(Clone, Copy, Debug)]
enum Value {
    Text(Text),
    Integer(Integer),
}

impl Scalar {
    /// The string, as an id.
    pub(super) fn id(&self) -> Decoded<Text> {
        match self.value {
            Value::Text(text) if !text.span.is_flagged() => Ok(text),
            Value::Text(_) => Err(DecodeError::byte(
                self.at,
                "a string that is too long or not UTF-8",
                format!("an id of at most {MAX_ID_BYTES} bytes of UTF-8"),
            )),
            Value::Integer(integer) => Err(DecodeError::byte(
                self.at,
                integer.describe(),
                "an id (a string)",
            )),
        }
    }

    /// The integer, as a label or a sequence number.
    pub(super) fn number(&self, what: &'static str) -> Decoded<u64> {
        let found = match self.value {
            Value::Integer(Integer::Unsigned(value)) => return Ok(value),
            Value::Integer(integer) => integer.describe(),
            Value::Text(_) => "a string".into(),
        };
        let expected = format!("{what} (an integer from 0 to {})", u64::MAX);
        Err(DecodeError::byte(self.at, found, expected))
    }
}

/// Calls `pair` with each key and value of `map`, in the order of the file.
///
/// With `fill`, memo entries within the map are filled as well.
pub(super) fn pairs<P>(
    walker: &mut Walker<'_, impl Source>,
    map: MapSpan,
    memo: &mut MemoStrings,
    fill: bool,
    fingerprinter: &Fingerprinter,
    pair: P,
) -> Decoded<()>
where
    P: FnMut(Scalar, Scalar) -> Decoded<()>,
{
    let mut reader = PairReader {
        strings: StringReader {
            memo,
            fill,
            fingerprinter,
            last: None,
        },
        state: State::Between,
        count: 0,
        pair,
    };
    walker.walk(map.start, map.end, &mut reader)?;
    let (state, count) = (reader.state, reader.count);
    if !matches!(state, State::Between) || count != map.pairs {
        return Err(DecodeError::Changed {
            found: format!("{count} pairs in the map at byte {}", map.start),
            expected: format!("{} pairs", map.pairs),
        });
    }
    Ok(())
}

/// Fills the memo entries between `start` and `end`.
pub(super) fn fill_memo(
    walker: &mut Walker<'_, impl Source>,
    start: u64,
    end: u64,
    memo: &mut MemoStrings,
    fingerprinter: &Fingerprinter,
) -> Decoded<()> {
    let mut reader = MemoReader(StringReader {
        memo,
        fill: true,
        fingerprinter,
        last: None,
    });
    walker.walk(start, end, &mut reader)?;
    Ok(())
}

/// Reads strings, and keeps the ones to which the memo refers.
struct StringReader<'a> {
    memo: &'a mut MemoStrings,
    fill: bool,
    fingerprinter: &'a Fingerprinter,
    /// The last string read. The first pass has checked that each referenced memo entry directly
    /// follows its string.
    last: Option<Text>,
}

impl StringReader<'_> {
    fn wants_next(&self) -> bool {
        self.fill && self.memo.wants_next()
    }

    /// Returns `None` if the payload must be in memory first.
    #[inline]
    fn text(&mut self, lexed: &Lexed, at: u64, payload: Option<&[u8]>) -> Option<Text> {
        let header = u64::try_from(lexed.header).unwrap_or_default();
        let span = Span::new(at + header, lexed.payload);
        let text = if lexed.payload > MAX_ID_BYTES {
            Text {
                span: span.flagged(),
                fingerprint: 0,
            }
        } else {
            let payload = payload?;
            if std::str::from_utf8(payload).is_ok() {
                Text {
                    span,
                    fingerprint: self.fingerprinter.of(payload),
                }
            } else {
                Text {
                    span: span.flagged(),
                    fingerprint: 0,
                }
            }
        };
        self.last = Some(text);
        Some(text)
    }

    fn put(&mut self) {
        if self.fill {
            self.memo.push(self.last);
        }
    }
}

struct MemoReader<'a>(StringReader<'a>);

impl Visitor for MemoReader<'_> {
    #[inline]
    fn visit(&mut self, lexed: &Lexed, at: u64, payload: Option<&[u8]>) -> Decoded<Flow> {
        match lexed.op {
            Op::Text if self.0.wants_next() && self.0.text(lexed, at, payload).is_none() => {
                return Ok(Flow::Payload);
            }
            Op::Memoize | Op::Put(_) => self.0.put(),
            _ => {}
        }
        Ok(Flow::Next)
    }
}

/// The position of a reader among the opcodes of a map.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a mark, or before a single key.
    Between,
    /// After a key that no mark precedes.
    SingleKey(Scalar),
    /// After its value.
    SingleValue(Scalar, Scalar),
    /// After a mark or a value.
    Batch,
    /// After a key.
    BatchKey(Scalar),
}

struct PairReader<'a, P> {
    strings: StringReader<'a>,
    state: State,
    count: u64,
    pair: P,
}

impl<P: FnMut(Scalar, Scalar) -> Decoded<()>> PairReader<'_, P> {
    #[inline]
    fn scalar(&mut self, at: u64, value: Value) -> Decoded<()> {
        let scalar = Scalar { at, value };
        self.state = match self.state {
            State::Batch => State::BatchKey(scalar),
            State::BatchKey(key) => {
                self.emit(key, scalar)?;
                State::Batch
            }
            State::Between => State::SingleKey(scalar),
            State::SingleKey(key) => State::SingleValue(key, scalar),
            State::SingleValue(..) => {
                return Err(DecodeError::byte(
                    at,
                    "a third value",
                    "SETITEM after a key and a value",
                ))
            }
        };
        Ok(())
    }

    fn emit(&mut self, key: Scalar, value: Scalar) -> Decoded<()> {
        self.count += 1;
        (self.pair)(key, value)
    }
}

impl<P: FnMut(Scalar, Scalar) -> Decoded<()>> Visitor for PairReader<'_, P> {
    #[inline]
    fn visit(&mut self, lexed: &Lexed, at: u64, payload: Option<&[u8]>) -> Decoded<Flow> {
        match lexed.op {
            Op::Text => match self.strings.text(lexed, at, payload) {
                Some(text) => {
                    self.scalar(at, Value::Text(text))?;
                }
                None => return Ok(Flow::Payload),
            },
            Op::Memoize | Op::Put(_) => self.strings.put(),
            Op::Frame(_) => {}
            Op::Integer(integer) => self.scalar(at, Value::Integer(integer))?,
            Op::Get(index) => match self.strings.memo.get(index) {
                Some(text) => self.scalar(at, Value::Text(text))?,
                None => {
                    return Err(DecodeError::byte(
                        at,
                        format!("memo entry {index}"),
                        "one that holds a string",
                    ))
                }
            },
            op => match (self.state, op) {
                (State::Between, Op::Mark) => self.state = State::Batch,
                (State::Batch, Op::SetItems) => self.state = State::Between,
                (State::SingleValue(key, value), Op::SetItem) => {
                    self.state = State::Between;
                    self.emit(key, value)?;
                }
                _ => {
                    return Err(DecodeError::byte(
                        at,
                        describe(op),
                        "only strings and integers in a map of ids",
                    ))
                }
            },
        }
        Ok(Flow::Next)
    }
}

fn describe(op: Op) -> String {
    match op {
        Op::None => "None".into(),
        Op::Scalar => "a bool or a float".into(),
        Op::Bytes => "bytes".into(),
        Op::EmptyList => "a list".into(),
        Op::EmptyTuple | Op::Tuple | Op::TupleOf(_) => "a tuple".into(),
        Op::EmptyDict => "a dict".into(),
        Op::EmptySet | Op::FrozenSet => "a set".into(),
        other => format!("the opcode {other:?}"),
    }
}
