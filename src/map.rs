//! Memory maps: the only `unsafe` of the crate.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, MmapOptions};

/// A read-only map of a range of a file.
#[derive(Debug)]
pub(crate) struct Map(Mmap);

impl Map {
    /// Maps `len` bytes of `file` from `offset`.
    ///
    /// Whether to map at all is the caller's decision ([`IoMode`](crate::IoMode)).
    pub(crate) fn new(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.offset(offset).len(len);
        // SAFETY: the map is private to this value and read-only. What Rust cannot promise is that
        // no other process changes the file meanwhile: a write may be seen in the middle, which
        // every reader here tolerates because each value is validated after it is copied out and
        // no bit pattern of the types that are cast (integers, f32) is invalid; a truncation
        // raises SIGBUS, which is documented, and avoided by `IoMode::Read`.
        unsafe { options.map(file) }.map(Self)
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
