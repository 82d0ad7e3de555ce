//! Goes over the opcodes of a range of a pickle, window by window.

use super::corrupt;
use super::opcode::{lex, LexError, Lexed};
use crate::error::{Error, Result};
use crate::io::file::{Cursor, Source};
use crate::progress::Monitor;

/// What a [`Visitor`] wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The next opcode.
    Next,
    /// The same opcode again, with its payload in memory.
    Payload,
    /// Nothing more.
    Stop,
}

pub(super) trait Visitor {
    /// Takes the opcode at `position`. `payload` is `None` when it is not all in the window; the
    /// file does hold it.
    fn visit(&mut self, lexed: &Lexed, position: u64, payload: Option<&[u8]>) -> Result<Flow>;
}

/// A pickle that is read in windows.
#[derive(Debug)]
pub(super) struct Walker<'s, 'm> {
    source: &'s Source,
    cursor: Cursor<'s>,
    window: usize,
    monitor: &'m Monitor<'m>,
}

impl<'s, 'm> Walker<'s, 'm> {
    /// Windows hold `window` bytes, or more when one opcode needs more.
    pub(super) fn new(source: &'s Source, window: usize, monitor: &'m Monitor<'m>) -> Self {
        Self {
            source,
            cursor: source.cursor_with_window(window),
            window,
            monitor,
        }
    }

    pub(super) fn source(&self) -> &'s Source {
        self.source
    }

    pub(super) fn check(&self) -> Result<()> {
        self.monitor.check()
    }

    /// Shows the opcodes from `start` on to `visitor`. Returns where the one after the last is: at
    /// `end`, unless the visitor stopped before.
    ///
    /// An opcode that reaches beyond `end` is an error.
    pub(super) fn walk(&mut self, start: u64, end: u64, visitor: &mut impl Visitor) -> Result<u64> {
        let path = self.source.path();
        let mut position = start;
        let mut needed = 1;
        while position < end {
            self.monitor.check()?;
            let available = usize::try_from(end - position).unwrap_or(usize::MAX);
            let size = self.window.max(needed).min(available);
            let mut rest = self.cursor.bytes(position, size)?;
            needed = 1;
            while !rest.is_empty() {
                let lexed = match lex(rest) {
                    Ok(lexed) => lexed,
                    Err(LexError::Short(least)) => {
                        if as_u64(rest.len())? == end - position {
                            return Err(cut_off(path, position, rest, end));
                        }
                        needed = least;
                        break;
                    }
                    Err(LexError::Refused { found, expected }) => {
                        return Err(corrupt(path, position, found, expected));
                    }
                };
                let header = as_u64(lexed.header)?;
                let left = (end - position).saturating_sub(header);
                if lexed.payload > left {
                    return Err(corrupt(
                        path,
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
                        needed = size.ok_or_else(|| Error::internal("payload beyond memory"))?;
                        break;
                    }
                    Flow::Stop => return Ok(position + header + lexed.payload),
                }
            }
        }
        Ok(position)
    }
}

fn as_u64(size: usize) -> Result<u64> {
    u64::try_from(size).map_err(|_| Error::internal("a size beyond 64 bits"))
}

#[cold]
fn cut_off(path: &std::path::Path, position: u64, rest: &[u8], end: u64) -> Error {
    let code = rest.first().copied().unwrap_or_default();
    corrupt(
        path,
        position,
        format!("opcode 0x{code:02x}, cut off at byte {end}"),
        "its whole argument",
    )
}
