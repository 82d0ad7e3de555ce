//! Reads the opcodes of a range of a pickle, window by window.

use super::opcode::{lex, LexError, Lexed};
use crate::base::progress::Monitor;
use crate::error::Result;
use crate::io::source::{exact, Source};
use crate::segment::decode_error::{DecodeError, Decoded};

/// The next step of a walk, chosen by the [`Visitor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The next opcode.
    Next,
    /// The same opcode again, with its payload in memory.
    Payload,
    /// End the walk.
    Stop,
}

pub(super) trait Visitor {
    /// Visits the opcode at `position`. `payload` is `None` if not all of it is in the window.
    fn visit(&mut self, lexed: &Lexed, position: u64, payload: Option<&[u8]>) -> Decoded<Flow>;
}

/// Reads a pickle in windows.
#[derive(Debug)]
pub(super) struct Walker<'m, S> {
    source: S,
    window: usize,
    monitor: &'m Monitor<'m>,
}

impl<'m, S: Source> Walker<'m, S> {
    /// Windows hold `window` bytes, or more for a longer opcode.
    pub(super) fn new(source: S, window: usize, monitor: &'m Monitor<'m>) -> Self {
        Self {
            source,
            window,
            monitor,
        }
    }

    /// Length of the pickle in bytes.
    pub(super) fn len(&self) -> u64 {
        self.source.len()
    }

    pub(super) fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        exact(&mut self.source, offset, len)
    }

    pub(super) fn check(&self) -> Result<()> {
        self.monitor.check()
    }

    /// Passes the opcodes from `start` to `end` to `visitor`. Returns the offset after the last of
    /// them: `end`, unless the visitor ended the walk.
    ///
    /// An opcode that crosses `end` is an error.
    pub(super) fn walk(
        &mut self,
        start: u64,
        end: u64,
        visitor: &mut impl Visitor,
    ) -> Decoded<u64> {
        let mut position = start;
        let mut needed = 1;
        while position < end {
            self.monitor.check()?;
            let available = usize::try_from(end - position).unwrap_or(usize::MAX);
            let size = self.window.max(needed).min(available);
            let mut rest = exact(&mut self.source, position, size)?;
            needed = 1;
            while !rest.is_empty() {
                let lexed = match lex(rest) {
                    Ok(lexed) => lexed,
                    Err(LexError::Short(least)) => {
                        if as_u64(rest.len())? == end - position {
                            return Err(cut_off(position, rest, end));
                        }
                        needed = least;
                        break;
                    }
                    Err(LexError::Refused { found, expected }) => {
                        return Err(DecodeError::byte(position, found, expected));
                    }
                };
                let header = as_u64(lexed.header)?;
                let left = (end - position).saturating_sub(header);
                if lexed.payload > left {
                    return Err(DecodeError::byte(
                        position,
                        format!("a string or integer of {} bytes", lexed.payload),
                        format!("at most the {left} bytes that are left"),
                    ));
                }
                let size = usize::try_from(lexed.payload)
                    .ok()
                    .and_then(|payload| lexed.header.checked_add(payload));
                let payload = size.and_then(|size| rest.get(lexed.header..size));
                match visitor.visit(&lexed, position, payload)? {
                    Flow::Next => {
                        position += header + lexed.payload;
                        rest = size.and_then(|size| rest.get(size..)).unwrap_or_default();
                    }
                    Flow::Payload => {
                        needed =
                            size.ok_or_else(|| DecodeError::internal("payload beyond memory"))?;
                        break;
                    }
                    Flow::Stop => return Ok(position + header + lexed.payload),
                }
            }
        }
        Ok(position)
    }
}

fn as_u64(size: usize) -> Decoded<u64> {
    u64::try_from(size).map_err(DecodeError::internal)
}

#[cold]
fn cut_off(position: u64, rest: &[u8], end: u64) -> DecodeError {
    let code = rest.first().copied().unwrap_or_default();
    DecodeError::byte(
        position,
        format!("opcode 0x{code:02x}, cut off at byte {end}"),
        "its whole argument",
    )
}
