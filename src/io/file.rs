//! Files as byte sources, mapped or read in windows.
//!
//! A [`FileWindow`] holds one window at a time and moves it to each requested range. Resident
//! memory does not depend on the size of the file. An [`InputFile`] remembers the state of the file
//! when it was opened. Its reader can check at the end that it has read a single state.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Datelike, SecondsFormat};
use zerocopy::IntoBytes;

use crate::base::bits::Bits;
use crate::base::memory;
use crate::error::{is_absent, is_bad_medium, Error, Result};
use crate::io::bad_sectors::BadSectors;
use crate::io::mmap::{check_headroom, Map};
use crate::io::source::{outside, Source};

named_enum! {
    /// The I/O mode of input files.
    #[derive(Default)]
    pub enum IoMode for "io" {
        /// Map windows of the file. Fastest. If another process truncates the file during a read,
        /// the operating system kills this process (SIGBUS).
        #[default]
        Mmap = "mmap",
        /// Read windows of the file into a buffer. If the file shrinks during a read, that is an
        /// error.
        Read = "read",
    }
}

/// Size in bytes from which a window is a noticeable part of a small address space.
const LARGE_WINDOW_BYTES: usize = 1 << 20;

/// Window in bytes for a pass over a file. Mapping it costs little compared with reading it, and it
/// is small compared with an extraction's memory.
pub(crate) const WINDOW: usize = 4 << 20;

/// Upper bound in bytes for a window of reads. Its buffer is private memory, while the pages of a
/// map belong to the page cache. A system call per 1 MiB costs little compared with the copy.
const MAX_READ_WINDOW_BYTES: usize = 1 << 20;

/// Bytes of a map that the system makes resident around a requested page.
const FAULT_AROUND_BYTES: u64 = 64 << 10;

/// Upper bound for a window for neighbours, in parts of [`FAULT_AROUND_BYTES`]: 16 MiB.
const MAX_RESIDENT_PARTS: usize = 256;

/// Smallest read of a lookup in bytes: a page of most file systems.
const MIN_LOOKUP_BYTES: usize = 4 << 10;

/// Alignment of a map's offset, which must be a multiple of the page size. 64 KiB is one on every
/// known system.
const WINDOW_ALIGNMENT: u64 = 64 << 10;

/// Alignment of a read's offset, which keeps ranges as aligned in memory as in the file.
const READ_ALIGNMENT: u64 = align_of::<u64>() as u64;

/// Longest tick of the kernel clock that sets modification times, at 100 Hz.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// Access to a file: mode, window size, and tolerance of bad sectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    mode: IoMode,
    /// Upper bound in bytes for every window.
    largest_window: usize,
    /// True to fill sectors that the disk cannot read, instead of failing.
    past_bad_sectors: bool,
}

impl From<IoMode> for Access {
    fn from(mode: IoMode) -> Self {
        Self {
            mode,
            largest_window: match mode {
                IoMode::Mmap => usize::MAX,
                IoMode::Read => MAX_READ_WINDOW_BYTES,
            },
            past_bad_sectors: false,
        }
    }
}

impl Access {
    /// Reads past bad sectors (see [`bad_sectors`](super::bad_sectors)). A map cannot, because the
    /// system kills a process that touches a bad sector.
    pub(crate) fn past_bad_sectors(self) -> Self {
        Self {
            past_bad_sectors: true,
            ..self
        }
    }

    /// Limits windows to `bytes`, or to a single request if that is longer.
    #[cfg(any(test, feature = "_fuzzing"))]
    pub(crate) fn with_largest_window(self, bytes: usize) -> Self {
        Self {
            largest_window: bytes,
            ..self
        }
    }

    /// Window size in bytes, where `usual` bytes are a good size.
    pub(crate) fn window(self, usual: usize) -> usize {
        usual.min(self.largest_window)
    }
}

/// Identity of a file and of its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    len: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: (u64, u64),
}

impl FileIdentity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            len: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            inode: {
                use std::os::unix::fs::MetadataExt;
                (metadata.dev(), metadata.ino())
            },
        }
    }

    /// Sleeps (at most 10 ms) until the clock has passed the modification time, so that any later
    /// write changes it. File systems take the time from a clock that ticks every few milliseconds.
    pub(super) fn outlive_clock_tick(&self) {
        let age = self.modified.map(|modified| modified.elapsed());
        if let Some(Ok(age)) = age {
            if let Some(left) = CLOCK_TICK.checked_sub(age) {
                std::thread::sleep(left);
            }
        }
    }

    pub(super) fn difference(&self, now: &Self) -> Option<(String, String)> {
        if self.len != now.len {
            Some((format!("{} bytes", now.len), format!("{} bytes", self.len)))
        } else if self.modified != now.modified {
            Some((
                format!("modification time {}", utc(now.modified)),
                utc(self.modified),
            ))
        // Same length and time, so the inode differs.
        } else if self != now {
            Some(("another file of that name".into(), "the same file".into()))
        } else {
            None
        }
    }
}

/// Formats a time as RFC 3339 does, such as "2024-02-29T23:59:59.123456789Z". Outside the years
/// 1970 to 9999, gives the seconds since 1970.
fn utc(time: Option<SystemTime>) -> String {
    let Some(time) = time else {
        return "unknown".into();
    };
    let since = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since,
        Err(before) => return format!("{:?} before 1970", before.duration()),
    };
    // A file system may store any 64 bits; after the year 9999, digits would be misread.
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    match DateTime::from_timestamp(seconds, since.subsec_nanos()) {
        Some(time) if time.year() <= 9999 => time.to_rfc3339_opts(SecondsFormat::Nanos, true),
        _ => format!("{} seconds after 1970", since.as_secs()),
    }
}

/// Returns true if the path leads to a directory. Fails if the system refuses to tell.
#[cfg_attr(not(feature = "database"), allow(dead_code))]
pub(crate) fn is_directory(path: &Path) -> Result<bool> {
    Ok(look_up(path)?.is_some_and(|found| found.is_dir()))
}

/// Returns true if the path exists. Fails if the system refuses to tell.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    Ok(look_up(path)?.is_some())
}

fn look_up(path: &Path) -> Result<Option<Metadata>> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Error::io(path, "look it up")(error)),
    }
}

/// An open regular file that is only read.
#[derive(Debug)]
pub(crate) struct InputFile {
    file: File,
    path: PathBuf,
    identity: FileIdentity,
    access: Access,
    bad_sectors: BadSectors,
}

impl InputFile {
    /// Opens a regular file. Pipes, devices and directories are refused without waiting for them.
    ///
    /// Takes up to 10 ms if the file was just written, so that a later write changes its
    /// modification time.
    pub(crate) fn open(path: &Path, access: impl Into<Access>) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            // Without this flag, opening a pipe without a writer would block forever.
            options.custom_flags(libc::O_NONBLOCK);
        }
        let file = options.open(path).map_err(Error::io(path, "open"))?;
        check_headroom("read it").map_err(|error| error.in_file(path))?;
        let metadata = file.metadata().map_err(Error::io(path, "read the size"))?;
        if !metadata.is_file() {
            let found = if metadata.is_dir() {
                "a directory"
            } else {
                "a device, pipe or socket"
            };
            return Err(Error::unusable(path, found, "a regular file"));
        }
        let identity = FileIdentity::of(&metadata);
        identity.outlive_clock_tick();
        Ok(Self {
            identity,
            path: path.to_path_buf(),
            file,
            access: access.into(),
            bad_sectors: BadSectors::default(),
        })
    }

    /// Like [`Self::open`], or `None` if there is no such file.
    pub(crate) fn open_if_present(path: &Path, access: Access) -> Result<Option<Self>> {
        match Self::open(path, access) {
            Err(error) if error.io_cause().is_some_and(is_absent) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Length in bytes when the file was opened.
    pub(crate) fn len(&self) -> u64 {
        self.identity.len
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a window of `bytes`, or of a single request if that is longer.
    pub(crate) fn window(&self, bytes: usize) -> FileWindow<'_> {
        FileWindow {
            file: self,
            mode: self.access.mode,
            size: self.access.window(bytes),
            resident: None,
            start: 0,
            held: Held::Nothing,
        }
    }

    /// Opens a window for short, scattered ranges, which is read in either mode. Mapping each range
    /// would take ten times as long. It holds one range at a time.
    pub(crate) fn window_of_reads(&self) -> FileWindow<'_> {
        FileWindow {
            mode: IoMode::Read,
            ..self.window(0)
        }
    }

    /// Opens a window for short ranges in any order, if ranges that are close in the file are
    /// requested close in time. It maps the whole file and unmaps it whenever 16 MiB are resident,
    /// or reads little more than each range.
    #[cfg(any(test, feature = "database"))]
    pub(crate) fn window_for_neighbours(&self) -> Result<FileWindow<'_>> {
        match self.access.mode {
            IoMode::Mmap => Ok(FileWindow {
                resident: Some(ResidentParts::of(self.len())?),
                ..self.window(usize::MAX)
            }),
            // A whole page takes hardly longer to read, and often contains the next range.
            IoMode::Read => Ok(self.window(MIN_LOOKUP_BYTES)),
        }
    }

    /// Opens a window for short ranges in no order: a map of the whole file, or reads of little
    /// more than each range.
    pub(crate) fn window_for_lookups(&self) -> FileWindow<'_> {
        self.window(match self.access.mode {
            IoMode::Mmap => usize::MAX,
            IoMode::Read => MIN_LOOKUP_BYTES,
        })
    }

    /// Maps the whole file.
    pub(crate) fn map(&self) -> Result<Map> {
        let len = usize::try_from(self.len()).unwrap_or(usize::MAX);
        Map::new(&self.file, 0, len).map_err(Error::io(&self.path, "map into memory"))
    }

    /// Loads the whole file into private memory. Later changes of the file do not matter.
    pub(crate) fn load(&self) -> Result<Map> {
        let len = usize::try_from(self.len()).unwrap_or(usize::MAX);
        Map::filled(len, "hold all of it", |bytes| self.read_at(bytes, 0))
            .map_err(|error| error.in_file(&self.path))
    }

    /// Reads `bytes.len()` bytes at `offset`, in either mode. Bypasses the memory map: scattered
    /// short reads would make ever more of it resident.
    pub(crate) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let read = |bytes: &mut [u8], offset| {
            #[cfg(test)]
            super::bad_sectors::injected::check(&self.path, offset, bytes.len())?;
            read_exact_at(&self.file, bytes, offset)
        };
        let done = match read(bytes, offset) {
            Err(error) if self.access.past_bad_sectors && is_bad_medium(&error) => {
                self.bad_sectors.read_past(bytes, offset, read)
            }
            done => done,
        };
        done.map_err(|error| match error.kind() {
            // Ranges are checked against the length at opening, so an early end means that the file
            // shrank.
            io::ErrorKind::UnexpectedEof => Error::changed(
                &self.path,
                format!(
                    "its end before byte {}",
                    offset.saturating_add(bytes.len() as u64)
                ),
                format!("{} bytes", self.len()),
            ),
            _ => Error::io(&self.path, "read")(error),
        })
    }

    /// Returns the next range of data at or after `offset`, up to `end`. Bytes before it are a
    /// hole.
    #[cfg(feature = "database")]
    pub(crate) fn next_data(&self, offset: u64, end: u64) -> Option<std::ops::Range<u64>> {
        crate::io::sparse::next_data(&self.file, offset, end)
    }

    /// Bytes on disk that the first `len` bytes occupy, as far as the system reports it.
    #[cfg(feature = "database")]
    pub(crate) fn allocated(&self, len: u64) -> u64 {
        #[cfg(unix)]
        if let Ok(metadata) = self.file.metadata() {
            use std::os::unix::fs::MetadataExt;
            // `st_blocks` counts units of 512 bytes on every file system.
            return len.min(metadata.blocks().saturating_mul(512));
        }
        len
    }

    /// Unreadable sectors met so far.
    pub(crate) fn bad_sectors(&self) -> &BadSectors {
        &self.bad_sectors
    }

    /// Fails if the open file, or the file now at its path, differs from the opened one.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        // The open file shows writes; the path shows a replacement by rename.
        let open = self
            .file
            .metadata()
            .map_err(Error::io(&self.path, "read the size"))?;
        let named =
            std::fs::metadata(&self.path).map_err(Error::io(&self.path, "read the size"))?;
        for metadata in [open, named] {
            if let Some((found, expected)) = self.identity.difference(&FileIdentity::of(&metadata))
            {
                return Err(Error::changed(&self.path, found, expected));
            }
        }
        Ok(())
    }
}

/// Parts of a map that are resident because they were requested.
#[derive(Debug)]
struct ResidentParts {
    parts: Bits,
    count: usize,
}

impl ResidentParts {
    #[cfg(any(test, feature = "database"))]
    fn of(len: u64) -> Result<Self> {
        Ok(Self {
            parts: Bits::with_len(len.div_ceil(FAULT_AROUND_BYTES))?,
            count: 0,
        })
    }

    /// Notes a request for a range. Returns false if the map must be unmapped first.
    fn has_room(&mut self, offset: u64, len: usize) -> bool {
        let end = offset.saturating_add(len as u64);
        let mut has_room = true;
        for part in offset / FAULT_AROUND_BYTES..end.div_ceil(FAULT_AROUND_BYTES) {
            if self.parts.insert(part) {
                continue;
            }
            if self.count == MAX_RESIDENT_PARTS {
                // Unmapping makes all parts non-resident, and the new range is the first one again.
                self.parts.clear();
                self.parts.insert(part);
                self.count = 0;
                has_room = false;
            }
            self.count += 1;
        }
        has_room
    }
}

#[derive(Debug)]
enum Held {
    Nothing,
    Map(Map),
    /// Words rather than bytes, which keeps a range as aligned as in the file.
    Buffer {
        words: Vec<u64>,
        len: usize,
    },
}

/// The part of an [`InputFile`] that is in memory. It moves with the requests.
#[derive(Debug)]
pub(crate) struct FileWindow<'f> {
    file: &'f InputFile,
    mode: IoMode,
    size: usize,
    /// Resident parts of a map, if they are bounded.
    resident: Option<ResidentParts>,
    /// Offset in the file of the first byte held.
    start: u64,
    held: Held,
}

impl Source for FileWindow<'_> {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn unreadable(&self, offset: u64, len: usize) -> Vec<Range<u64>> {
        match self.file.access.past_bad_sectors {
            true => self.file.bad_sectors.within(offset, len),
            false => Vec::new(),
        }
    }

    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        if len == 0 {
            return Ok(&[]);
        }
        if let Some(resident) = &mut self.resident {
            if !resident.has_room(offset, len) {
                self.held = Held::Nothing;
            }
        }
        if !self.holds(offset, len) {
            self.load(offset, len)?;
        }
        let start = self.start;
        offset
            .checked_sub(start)
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| Some(at..at.checked_add(len)?))
            .and_then(|range| self.held_bytes().get(range))
            .ok_or_else(|| Error::internal("a window does not hold its requested range"))
    }
}

impl FileWindow<'_> {
    fn held_bytes(&self) -> &[u8] {
        match &self.held {
            Held::Nothing => &[],
            Held::Map(map) => map,
            Held::Buffer { words, len } => words.as_bytes().get(..*len).unwrap_or_default(),
        }
    }

    fn holds(&self, offset: u64, len: usize) -> bool {
        let held = self.held_bytes().len();
        offset
            .checked_sub(self.start)
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| at.checked_add(len))
            .is_some_and(|end| end <= held)
    }

    fn load(&mut self, offset: u64, len: usize) -> Result<()> {
        let input = self.file;
        let missing = || outside(offset, len, input.len());
        let window = u64::try_from(self.size).unwrap_or(u64::MAX);
        let start = match self.mode {
            // A file that fits into one window is never moved.
            _ if window >= input.len() => 0,
            IoMode::Mmap => offset - offset % WINDOW_ALIGNMENT,
            IoMode::Read => offset - offset % READ_ALIGNMENT,
        };
        let skipped = offset - start;
        let needed = skipped
            .checked_add(u64::try_from(len).map_err(|_| missing())?)
            .ok_or_else(missing)?;
        let available = input.len().saturating_sub(start);
        if needed > available {
            return Err(missing());
        }
        let size = usize::try_from(needed.max(window).min(available)).map_err(|_| missing())?;

        self.start = start;
        match self.mode {
            IoMode::Mmap => {
                // Unmapped first, so that two windows are never resident at once.
                self.held = Held::Nothing;
                let map = Map::new(&input.file, start, size)
                    .map_err(Error::io(&input.path, "map into memory"))?;
                self.held = Held::Map(map);
            }
            IoMode::Read => {
                let mut words = match std::mem::replace(&mut self.held, Held::Nothing) {
                    Held::Buffer { words, .. } => words,
                    _ => Vec::new(),
                };
                let count = size.div_ceil(size_of::<u64>());
                words.clear();
                memory::reserve_exact(&mut words, count, "read a part of it")
                    .map_err(|error| error.in_file(&input.path))?;
                words.resize(count, 0);
                let bytes = words
                    .as_mut_bytes()
                    .get_mut(..size)
                    .ok_or_else(|| Error::internal("window buffer too small"))?;
                input.read_at(bytes, start)?;
                self.held = Held::Buffer { words, len: size };
            }
        }
        // Skipped for the short windows of lookups, which are many.
        if size >= LARGE_WINDOW_BYTES {
            check_headroom("read it").map_err(|error| error.in_file(&input.path))?;
        }
        Ok(())
    }
}

#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_read(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = bytes.get_mut(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn times_are_formatted_as_rfc_3339() {
        let after = |seconds, nanoseconds| {
            utc(Some(
                SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds),
            ))
        };
        assert_eq!(after(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(after(951_827_696, 1), "2000-02-29T12:34:56.000000001Z");
        assert_eq!(after(1_709_251_199, 5), "2024-02-29T23:59:59.000000005Z");
        assert_eq!(after(1_709_251_200, 0), "2024-03-01T00:00:00.000000000Z");
        assert_eq!(after(4_107_542_399, 0), "2100-02-28T23:59:59.000000000Z");
        assert_eq!(after(4_107_542_400, 0), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(after(253_402_300_799, 0), "9999-12-31T23:59:59.000000000Z");
        assert_eq!(after(253_402_300_800, 0), "253402300800 seconds after 1970");
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(2);
        assert_eq!(utc(Some(before)), "2s before 1970");
    }

    const MODES: [IoMode; 2] = [IoMode::Mmap, IoMode::Read];

    fn file_of(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        (directory, path)
    }

    /// Bytes without two equal neighbouring groups of four.
    fn pattern(len: u32) -> Vec<u8> {
        (0..len.div_ceil(4))
            .flat_map(|word| word.wrapping_mul(0x9E37_79B1).to_le_bytes())
            .take(len as usize)
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn windows_of_any_size_serve_any_ranges_in_any_order(
            len in 0..300_000_u32,
            window in prop_oneof![0..=4_usize, 5..=200_000_usize, Just(usize::MAX)],
            requests in prop::collection::vec(
                (0..300_000_u64, prop_oneof![0..100_000_usize, 0..1000_usize], 1..5_u64),
                1..20,
            ),
        ) {
            let content = pattern(len);
            let (_directory, path) = file_of(&content);
            // Some ranges are adjacent.
            let requests = requests.into_iter().flat_map(|(offset, len, times)| {
                (0..times).map(move |time| (offset + time * len as u64, len))
            });
            let requests: Vec<_> = requests.collect();
            for mode in MODES {
                let file = InputFile::open(&path, mode).unwrap();
                let views = [
                    file.window(window),
                    file.window_of_reads(),
                    file.window_for_neighbours().unwrap(),
                ];
                for mut view in views {
                    for &(offset, len) in &requests {
                        let start = usize::try_from(offset).unwrap();
                        match (view.bytes(offset, len), content.get(start..start + len)) {
                            (Ok(bytes), Some(expected)) => {
                                prop_assert!(bytes == expected, "{offset} + {len}");
                                let aligned = bytes.as_ptr() as usize % 8 == start % 8;
                                prop_assert!(aligned || bytes.is_empty());
                            }
                            (Ok(bytes), None) => prop_assert!(bytes.is_empty() && len == 0),
                            (Err(error), expected) => {
                                prop_assert!(expected.is_none(), "{error}");
                                let is_internal = error.kind() == ErrorKind::Internal;
                                prop_assert!(is_internal, "{error:?}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_map_for_neighbours_is_unmapped_when_much_is_resident() {
        let length = 2 * MAX_RESIDENT_PARTS as u64 * FAULT_AROUND_BYTES;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        File::create(&path).unwrap().set_len(length).unwrap();
        let file = InputFile::open(&path, IoMode::Mmap).unwrap();
        let mut view = file.window_for_neighbours().unwrap();
        let resident = |view: &FileWindow<'_>| view.resident.as_ref().unwrap().count;
        let mut most = 0;
        for part in (0..length / FAULT_AROUND_BYTES).flat_map(|part| [part, part]) {
            view.bytes(part * FAULT_AROUND_BYTES, 8).unwrap();
            most = most.max(resident(&view));
        }
        assert_eq!(most, MAX_RESIDENT_PARTS);
        // A range that crosses from a part already resident into the next.
        view.bytes(0, 8).unwrap();
        assert_eq!(resident(&view), 1);
        view.bytes(FAULT_AROUND_BYTES - 4, 8).unwrap();
        assert_eq!(resident(&view), 2);
        let all = usize::try_from(length).unwrap();
        assert_eq!(view.bytes(0, all).unwrap().len(), all);
        assert!(resident(&view) <= MAX_RESIDENT_PARTS);
    }

    #[test]
    fn ranges_that_overflow_are_errors() {
        let (_directory, path) = file_of(&pattern(100));
        for mode in MODES {
            let file = InputFile::open(&path, mode).unwrap();
            let mut view = file.window(WINDOW);
            for (offset, len) in [
                (u64::MAX, 1),
                (u64::MAX, usize::MAX),
                (0, usize::MAX),
                (99, usize::MAX),
                (100, 1),
            ] {
                assert!(view.bytes(offset, len).is_err());
                assert_eq!(view.bytes(96, 4).unwrap(), &pattern(100)[96..]);
            }
        }
    }

    #[test]
    fn reading_past_the_end_of_a_shrunk_file_is_an_error() {
        let (_directory, path) = file_of(&pattern(200_000));
        let file = InputFile::open(&path, IoMode::Read).unwrap();
        let mut view = file.window(1);
        view.bytes(0, 10).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(150_000).unwrap();
        view.bytes(140_000, 10).unwrap();
        let error = view.bytes(199_990, 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InputChanged, "{error}");
        view.bytes(0, 10).unwrap();
    }

    #[test]
    fn each_kind_of_change_is_detected() {
        type Change = fn(&Path);
        let changes: [(Change, &str); 4] = [
            (|path| std::fs::write(path, b"longer").unwrap(), "6 bytes"),
            (
                |path| {
                    let file = OpenOptions::new().append(true).open(path).unwrap();
                    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
                },
                "modification time",
            ),
            (
                |path| {
                    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
                    let other = path.with_extension("other");
                    std::fs::write(&other, b"four").unwrap();
                    let file = OpenOptions::new().append(true).open(&other).unwrap();
                    file.set_modified(modified).unwrap();
                    std::fs::rename(other, path).unwrap();
                },
                "another file",
            ),
            (|path| std::fs::remove_file(path).unwrap(), "read the size"),
        ];
        for (change, words) in changes {
            let (_directory, path) = file_of(b"four");
            let file = InputFile::open(&path, IoMode::Mmap).unwrap();
            file.check_unchanged().unwrap();
            change(&path);
            let error = file.check_unchanged().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn an_empty_file_has_no_bytes() {
        let (_directory, path) = file_of(b"");
        for mode in MODES {
            let file = InputFile::open(&path, mode).unwrap();
            assert!(file.window(WINDOW).bytes(0, 0).unwrap().is_empty());
            assert!(file.window(WINDOW).bytes(0, 1).is_err());
        }
    }
}
