//! A segment directory and its five files. Only this file and `persist.rs` know paths in this room.
//!
//! [`SegmentFiles`] opens each file once, on first use, gives the parsers their windows, adds the path
//! to their errors, and checks at the end that no file in use has changed, appeared or disappeared. A
//! [`Segment`] adds the layout and the number of the records to read.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::decode_error::DecodeError;
use super::header::MAX_COUNT;
use super::layout::HEADER_SIZE_32;
use super::link_lists::{self, LinkLists};
use super::norms::{self, Norms};
use super::persist::refuse_persist_directory;
use super::pickle::{self, Entry, Pickle};
use super::record::{RecordLayout, Records, BLOCK_BYTES};
use super::{file_name, IndexHeader};
use crate::base::progress::Monitor;
use crate::error::{is_absent, Error, ErrorKind, Result};
use crate::io::file::{exists, Access, FileWindow, InputFile, WINDOW};
use crate::io::protected::Protected;
use crate::io::source::Source;

/// A file that is opened on first use.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    path: PathBuf,
    access: Access,
    /// `None` if the file did not exist on first use.
    file: OnceLock<Option<InputFile>>,
}

impl SegmentFile {
    fn new(path: PathBuf, access: Access) -> Self {
        Self {
            path,
            access,
            file: OnceLock::new(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn name(&self) -> &'static str {
        let is_own = |name: &&&str| self.path.ends_with(name);
        let known = file_name::ALL.iter().find(is_own);
        known.copied().unwrap_or(file_name::METADATA)
    }

    /// The file, or `None` if it does not exist.
    pub(crate) fn get(&self) -> Result<Option<&InputFile>> {
        if let Some(file) = self.file.get() {
            return Ok(file.as_ref());
        }
        let file = InputFile::open_if_present(&self.path, self.access)?;
        Ok(self.file.get_or_init(|| file).as_ref())
    }

    /// The file. Fails if it does not exist.
    pub(crate) fn require(&self) -> Result<&InputFile> {
        match self.get()? {
            Some(file) => Ok(file),
            // Opened again for the error of the operating system.
            None => Err(match InputFile::open(&self.path, self.access) {
                Err(error) => error,
                Ok(_) => self.appeared(),
            }),
        }
    }

    /// The file, if it was opened.
    pub(crate) fn opened(&self) -> Option<&InputFile> {
        self.file.get()?.as_ref()
    }

    /// Returns true if the directory has an entry of that name, even a dangling link.
    pub(crate) fn is_listed(&self) -> bool {
        let found = self.path.symlink_metadata();
        // EACCES says nothing about the entry: assume that it exists.
        !found.is_err_and(|error| is_absent(&error))
    }

    fn appeared(&self) -> Error {
        Error::changed(&self.path, "a file", "none")
    }

    fn check_unchanged(&self) -> Result<()> {
        match self.file.get() {
            None => Ok(()),
            Some(Some(file)) => file.check_unchanged(),
            Some(None) if exists(&self.path)? => Err(self.appeared()),
            Some(None) => Ok(()),
        }
    }

    /// Adds the path to the error of a parser.
    fn decoded<T>(&self, result: Result<T, DecodeError>) -> Result<T> {
        result.map_err(|error| error.in_file(&self.path))
    }
}

/// The files of a segment directory. Some may be missing.
#[derive(Debug)]
pub(crate) struct SegmentFiles {
    dir: PathBuf,
    access: Access,
    pub(crate) header: SegmentFile,
    pub(crate) level0: SegmentFile,
    pub(crate) norms: SegmentFile,
    pub(crate) link_lists: SegmentFile,
    pub(crate) metadata: SegmentFile,
}

impl SegmentFiles {
    /// Fails if `dir` is not a directory. Opens no file yet.
    pub(crate) fn new(dir: &Path, access: impl Into<Access>) -> Result<Self> {
        require_directory(dir)?;
        let access = access.into();
        let file = |name| SegmentFile::new(dir.join(name), access);
        Ok(Self {
            dir: dir.to_path_buf(),
            access,
            header: file(file_name::HEADER),
            level0: file(file_name::LEVEL0),
            norms: file(file_name::NORMS),
            link_lists: file(file_name::LINK_LISTS),
            metadata: file(file_name::METADATA),
        })
    }

    /// Reads the metadata from `path` instead of the directory.
    pub(crate) fn with_metadata_at(self, path: &Path) -> Self {
        Self {
            metadata: SegmentFile::new(path.to_path_buf(), self.access),
            ..self
        }
    }

    fn all(&self) -> [&SegmentFile; 5] {
        [
            &self.header,
            &self.level0,
            &self.norms,
            &self.link_lists,
            &self.metadata,
        ]
    }

    /// Opens all files that exist, so that all are read in one state.
    pub(crate) fn open_all(&self) -> Result<()> {
        self.all()
            .into_iter()
            .try_for_each(|file| file.get().map(drop))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files that no output may replace: these, and Chroma's files in any directory.
    pub(crate) fn protected(&self) -> Protected {
        let protected = self
            .all()
            .into_iter()
            .fold(Protected::names(file_name::PROTECTED), |files, file| {
                files.and_input(&file.path)
            })
            .and_sharing_of(&self.dir);
        // Permissions of the persist directory apply to its segments, so outputs take them as well.
        match self
            .dir
            .parent()
            .filter(|dir| dir.join(file_name::DATABASE).exists())
        {
            Some(persist_dir) => protected.and_sharing_of(persist_dir),
            None => protected,
        }
    }

    /// Reads the first `count` records.
    pub(crate) fn read_level0(
        &self,
        layout: RecordLayout,
        count: u64,
    ) -> Result<Records<FileWindow<'_>>> {
        self.read_level0_in(WINDOW, layout, count)
    }

    /// Reads the first `count` records with at most `bytes` in memory at a time.
    pub(crate) fn read_level0_in(
        &self,
        bytes: usize,
        layout: RecordLayout,
        count: u64,
    ) -> Result<Records<FileWindow<'_>>> {
        let window = self.level0.require()?.window(bytes);
        let level0 = self.level0_in(window, layout, count)?;
        let block = bytes.saturating_sub(WINDOW - BLOCK_BYTES);
        Ok(level0.with_blocks_of(self.access.window(block)))
    }

    /// Reads records in random order: holds little more than one record.
    pub(crate) fn read_level0_for_lookups(
        &self,
        layout: RecordLayout,
        count: u64,
    ) -> Result<Records<FileWindow<'_>>> {
        self.level0_in(self.level0.require()?.window_of_reads(), layout, count)
    }

    fn level0_in<'f>(
        &self,
        window: FileWindow<'f>,
        layout: RecordLayout,
        count: u64,
    ) -> Result<Records<FileWindow<'f>>> {
        self.level0.decoded(layout.check_len(window.len(), count))?;
        Ok(Records::of_checked(window, layout, count)
            .with_blocks_of(self.access.window(BLOCK_BYTES)))
    }

    /// The norms, if `length.bin` exists.
    pub(crate) fn read_norms(&self) -> Result<Option<Norms<FileWindow<'_>>>> {
        let file = self.norms.get()?;
        Ok(file.map(|file| Norms::new(file.window(norms::WINDOW))))
    }

    /// Norms in an order in which neighbours are read close in time.
    #[cfg(feature = "database")]
    pub(crate) fn read_norms_for_neighbours(&self) -> Result<Option<Norms<FileWindow<'_>>>> {
        let file = self.norms.get()?;
        file.map(|file| Ok(Norms::new(file.window_for_neighbours()?)))
            .transpose()
    }

    /// The links of the upper levels, if `link_lists.bin` exists.
    pub(crate) fn read_link_lists(
        &self,
        header: &IndexHeader,
    ) -> Result<Option<LinkLists<FileWindow<'_>>>> {
        let file = self.link_lists.get()?;
        file.map(|file| LinkLists::new(file.window(link_lists::WINDOW), header))
            .transpose()
    }

    /// Links in random order: holds little more than one list.
    pub(crate) fn read_link_lists_for_lookups(
        &self,
        header: &IndexHeader,
    ) -> Result<Option<LinkLists<FileWindow<'_>>>> {
        let file = self.link_lists.get()?;
        file.map(|file| LinkLists::new(file.window_of_reads(), header))
            .transpose()
    }

    /// Reads `index_metadata.pickle`. Fails if it does not exist.
    pub(crate) fn read_metadata(&self, monitor: &Monitor<'_>) -> Result<SegmentMetadata<'_>> {
        let file = self.metadata.require()?;
        let window = self.access.window(pickle::WINDOW);
        let metadata = Pickle::read_in_windows(file.window(window), monitor, window);
        let metadata = self.metadata.decoded(metadata)?;
        // The passes agree with each other only if the file did not change between them.
        file.check_unchanged()?;
        Ok(SegmentMetadata {
            metadata,
            window: file.window_for_lookups(),
            file: &self.metadata,
            id: String::new(),
        })
    }

    /// The files with bad sectors found so far, and the number of those sectors.
    pub(crate) fn bad_sectors(&self) -> impl Iterator<Item = (&SegmentFile, u64)> {
        let counted = |file: &InputFile| file.bad_sectors().count();
        let files = self.all().into_iter();
        files
            .filter_map(move |file| Some((file, file.opened().map(counted)?)))
            .filter(|(_, sectors)| *sectors > 0)
    }

    /// Fails if a file in use has changed since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.all()
            .into_iter()
            .try_for_each(SegmentFile::check_unchanged)
    }
}

/// The parsed pickle, and the file that holds its ids.
#[derive(Debug)]
pub(crate) struct SegmentMetadata<'f> {
    metadata: Pickle,
    window: FileWindow<'f>,
    file: &'f SegmentFile,
    /// The id returned last.
    id: String,
}

impl SegmentMetadata<'_> {
    pub(crate) fn table(&self) -> &Pickle {
        &self.metadata
    }

    pub(crate) fn into_table(self) -> Pickle {
        self.metadata
    }

    /// The id of an entry of the [table](Self::table).
    pub(crate) fn user_id(&mut self, entry: Entry) -> Result<&str> {
        let found = self.metadata.read_id(entry, &mut self.window, &mut self.id);
        self.file.decoded(found)?;
        Ok(&self.id)
    }
}

/// A segment directory whose records can be read.
#[derive(Debug)]
pub(crate) struct Segment {
    files: SegmentFiles,
    /// `None` if the caller gave the layout of a record instead.
    header: Option<IndexHeader>,
    layout: RecordLayout,
    /// Records to read.
    count: u64,
}

impl Segment {
    /// Opens `header.bin` and `data_level0.bin`, and the other files on demand. Fails if a relation
    /// between fields of the header does not hold, or it counts more records than the file has.
    pub(crate) fn open(dir: &Path, access: impl Into<Access>) -> Result<Self> {
        Self::of(SegmentFiles::new(dir, access)?)
    }

    /// Opens a segment over the given files, as [`open`](Self::open) does.
    pub(crate) fn of(files: SegmentFiles) -> Result<Self> {
        let header = IndexHeader::read(files.header.require()?.window(WINDOW));
        let header = files.header.decoded(header)?;
        let layout = files.header.decoded(header.record_layout())?;
        let len = files.level0.require()?.len();
        let count = header.cur_element_count;
        files.level0.decoded(layout.check_len(len, count))?;
        Ok(Self {
            files,
            count,
            layout,
            header: Some(header),
        })
    }

    /// Opens a damaged segment. Only the layout of a record must be known: from the header, or from
    /// `shape`, the dimension and m, without a header.
    pub(crate) fn of_damaged(files: SegmentFiles, shape: Option<(usize, usize)>) -> Result<Self> {
        let (header, layout) = match shape {
            None => {
                let header = IndexHeader::parse(files.header.require()?.window(WINDOW));
                let layout = header.and_then(|header| {
                    header.check_version()?;
                    let layout = header.record_layout()?;
                    Ok((Some(header), layout))
                });
                files.header.decoded(layout)?
            }
            Some((dimension, m)) => {
                // A directory named header.bin counts as a missing header.
                let header_len = match files.header.get() {
                    Ok(header) => header.map(InputFile::len),
                    Err(error) if error.kind() == ErrorKind::UnusablePath => None,
                    Err(error) => return Err(error),
                };
                let wide_label = header_len != Some(HEADER_SIZE_32 as u64);
                let layout = RecordLayout::of_shape(dimension, m, wide_label);
                let layout = layout.ok_or_else(|| {
                    Error::argument(
                        "dimension and m",
                        format!("{dimension} and {m}"),
                        "at least 1 each, and at most 2146435071 bytes of vector",
                    )
                })?;
                (None, layout)
            }
        };
        let whole = layout.whole_records(files.level0.require()?.len());
        let counted = header
            .as_ref()
            .map_or(MAX_COUNT, |header| header.cur_element_count);
        Ok(Self {
            files,
            header,
            layout,
            count: whole.min(counted).min(MAX_COUNT),
        })
    }

    /// A segment with a given layout and count. `data_level0.bin` must hold `count` records.
    #[cfg(feature = "database")]
    pub(crate) fn of_layout(
        files: SegmentFiles,
        header: Option<IndexHeader>,
        layout: RecordLayout,
        count: u64,
    ) -> Self {
        Self {
            files,
            header,
            layout,
            count,
        }
    }

    /// Opens the segment again with another access.
    #[cfg(feature = "database")]
    pub(crate) fn reopen(&self, access: impl Into<Access>) -> Result<Self> {
        Ok(Self {
            files: SegmentFiles::new(self.files.dir(), access)?,
            header: self.header.clone(),
            layout: self.layout,
            count: self.count,
        })
    }

    /// Opens the segment again with more records than the header counts, so without the header.
    #[cfg(feature = "database")]
    pub(crate) fn with_count(&self, count: u64) -> Result<Self> {
        Ok(Self {
            header: None,
            count,
            ..self.reopen(self.files.access)?
        })
    }

    pub(crate) fn files(&self) -> &SegmentFiles {
        &self.files
    }

    /// The header, if it was read.
    pub(crate) fn header(&self) -> Option<&IndexHeader> {
        self.header.as_ref()
    }

    pub(crate) fn layout(&self) -> RecordLayout {
        self.layout
    }

    /// Number of records that are read.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Number of whole records in `data_level0.bin`, used or not.
    pub(crate) fn whole_records(&self) -> Result<u64> {
        let len = self.files.level0.require()?.len();
        Ok(self.layout.whole_records(len))
    }

    /// Reads records.
    pub(crate) fn level0(&self) -> Result<Records<FileWindow<'_>>> {
        self.files.read_level0(self.layout, self.count)
    }

    /// Records in an order in which neighbours are read close in time.
    #[cfg(feature = "database")]
    pub(crate) fn level0_for_neighbours(&self) -> Result<Records<FileWindow<'_>>> {
        let window = self.files.level0.require()?.window_for_neighbours()?;
        self.files.level0_in(window, self.layout, self.count)
    }

    /// Reads norms. Fails if the file has fewer norms than there are records.
    pub(crate) fn norms(&self) -> Result<Norms<FileWindow<'_>>> {
        let file = &self.files.norms;
        let norms = Norms::new(file.require()?.window(norms::WINDOW));
        file.decoded(norms.check_count(self.count))?;
        Ok(norms)
    }
}

fn require_directory(dir: &Path) -> Result<()> {
    let found = std::fs::metadata(dir).map_err(Error::io(dir, "open the index directory"))?;
    if found.is_dir() {
        return refuse_persist_directory(dir);
    }
    Err(Error::unusable(
        dir,
        "something that is not a directory",
        "a vector segment directory",
    ))
}
