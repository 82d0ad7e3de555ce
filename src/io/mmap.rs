//! Memory maps and prefetches: the only `unsafe` of the crate.

#![expect(unsafe_code, reason = "a map and a prefetch are not safe by nature")]

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, MmapOptions};

use crate::error::{Error, Result};

/// A read-only map of a range of a file.
#[derive(Debug)]
pub(crate) struct Map(Mmap);

impl Map {
    /// Maps `len` bytes of `file` from `offset`.
    ///
    /// The caller decides whether to map or to read ([`IoMode`](crate::IoMode)).
    pub(crate) fn new(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.offset(offset).len(len);
        // SAFETY: the map is read-only, private to this value, and mapped until it is dropped. It
        // cannot be promised that no other process writes to the file during that time, so bytes
        // behind a `&[u8]` or `&[f32]` may change. Readers are written so that this gives them
        // wrong values, but nothing worse:
        // - Only integers and f32 are cast in place: each of their bit patterns is a valid value.
        // - A number that becomes an index, an offset or a size is copied out before it is checked.
        // - Text is copied before it is checked, because a `str` must stay UTF-8
        //   (`Metadata::read_user_id`).
        // A truncation raises SIGBUS, which kills the process. That is documented, and avoided by
        // `IoMode::Read`.
        unsafe { options.map(file) }.map(Self)
    }

    /// Allocates `len` zeroed bytes that belong to no file, in large pages if the system has them,
    /// and fills them.
    pub(crate) fn filled(
        len: usize,
        action: &'static str,
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Self> {
        let failed = |_| Error::out_of_memory(action, len as u64);
        let mut map = MmapOptions::new().len(len).map_anon().map_err(failed)?;
        // Only a hint: small pages work as well.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        fill(&mut map)?;
        map.make_read_only().map(Self).map_err(failed)
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes that [`check_headroom`] requests: several times the infallible allocations of any step,
/// including those in dependencies.
const HEADROOM_BYTES: usize = 16 << 20;

/// Fails if 16 MiB more cannot be allocated.
///
/// Small allocations of the standard library and of dependencies abort the process when memory runs
/// out (arrow2 and hnsw_rs), or panic (zstd). None of them takes megabytes, so that a step that
/// starts with this check fails with an error instead. The memory is requested as a map, never
/// touched and released at once. That takes a few microseconds and bypasses the allocator.
pub(crate) fn check_headroom(action: &'static str) -> Result<()> {
    check_headroom_and(0, action)
}

/// Like [`check_headroom`], with `more` additional bytes.
pub(crate) fn check_headroom_and(more: usize, action: &'static str) -> Result<()> {
    let bytes = HEADROOM_BYTES.saturating_add(more);
    match MmapOptions::new().len(bytes).map_anon() {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::out_of_memory(action, bytes as u64)),
    }
}

/// Bytes per cache line on nearly every machine.
const CACHE_LINE_BYTES: usize = 64;

/// Asks the processor to load `values` into its caches. Only a hint without any other effect.
///
/// Prefetches into the second level, because few lines at a time can be on their way into the
/// first, and a further request waits. With the first level, building a graph took 1.6 times as
/// long on an EPYC.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T]) {
    let first: *const i8 = values.as_ptr().cast();
    let mut offset = 0;
    while offset < size_of_val(values) {
        // Within `values`, so that the pointer keeps its provenance.
        let line = first.wrapping_add(offset);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instruction has no effect that a program can observe, and does not fault on
        // any address. SSE, which has it, is part of x86_64.
        unsafe {
            use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T1};
            _mm_prefetch::<_MM_HINT_T1>(line);
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above; the instruction is part of the base architecture.
        unsafe {
            std::arch::asm!(
                "prfm pldl2keep, [{line}]",
                line = in(reg) line,
                options(nostack, preserves_flags, readonly)
            );
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let _ = line;
        offset += CACHE_LINE_BYTES;
    }
}
