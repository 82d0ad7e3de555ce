//! The one handle of a segment directory's five files.
//!
//! Parsers know no path. [`SegmentFiles`] opens each file once, on first use, gives the parsers
//! their windows, adds the path to what they find wrong, and checks at the end that none of the
//! files that were used has changed, appeared or gone. A [`Segment`] adds what is known of the
//! records: how one divides, and how many are read.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::decode_error::DecodeError;
use super::header::MAX_COUNT;
use super::layout::HEADER_SIZE_32;
use super::link_lists::{self, LinkLists};
use super::norms::{self, Norms};
use super::persist::refuse_persist_directory;
use super::pickle::{self, Entry, Metadata};
use super::record::{Level0, RecordLayout, BLOCK_BYTES};
use super::{file_name, IndexHeader};
use crate::base::progress::Monitor;
use crate::error::{is_absent, Error, Result};
use crate::io::file::{exists, Access, FileWindow, InputFile, WINDOW};
use crate::io::protected::Protected;
use crate::io::source::Source;

/// A file that is opened on first use.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    path: PathBuf,
    access: Access,
    /// Holds `None` when there was no such file on first use.
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

    /// The file, or `None` when there is no such file.
    pub(crate) fn get(&self) -> Result<Option<&InputFile>> {
        if let Some(file) = self.file.get() {
            return Ok(file.as_ref());
        }
        let file = InputFile::open_if_present(&self.path, self.access)?;
        Ok(self.file.get_or_init(|| file).as_ref())
    }

    /// The file. Fails when there is no such file.
    pub(crate) fn require(&self) -> Result<&InputFile> {
        match self.get()? {
            Some(file) => Ok(file),
            // Opened again for the operating system's own words.
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

    /// Whether the directory has an entry of that name, be it a dangling link.
    pub(crate) fn is_listed(&self) -> bool {
        let found = self.path.symlink_metadata();
        // A directory that cannot be searched may list it.
        !found.is_err_and(|error| is_absent(&error))
    }

    fn appeared(&self) -> Error {
        Error::InputChanged {
            path: self.path.clone(),
            found: "a file".into(),
            expected: "none".into(),
        }
    }

    fn check_unchanged(&self) -> Result<()> {
        match self.file.get() {
            None => Ok(()),
            Some(Some(file)) => file.check_unchanged(),
            Some(None) if exists(&self.path)? => Err(self.appeared()),
            Some(None) => Ok(()),
        }
    }

    /// Adds the path to what a parser found wrong.
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
    /// Fails when `dir` is not a directory. No file is opened yet.
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

    /// Opens all files that are there, so that one state of the directory is read.
    pub(crate) fn open_all(&self) -> Result<()> {
        self.all()
            .into_iter()
            .try_for_each(|file| file.get().map(drop))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What an output must not replace: these files, and Chroma's files in any directory.
    pub(crate) fn protected(&self) -> Protected {
        let protected = self
            .all()
            .into_iter()
            .fold(Protected::names(file_name::PROTECTED), |files, file| {
                files.and_input(&file.path)
            })
            .and_sharing_of(&self.dir);
        // A persist directory that others may not enter hides its segments.
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
    ) -> Result<Level0<FileWindow<'_>>> {
        self.read_level0_in(WINDOW, layout, count)
    }

    /// The same, with at most `bytes` of them in memory at a time.
    pub(crate) fn read_level0_in(
        &self,
        bytes: usize,
        layout: RecordLayout,
        count: u64,
    ) -> Result<Level0<FileWindow<'_>>> {
        let window = self.level0.require()?.window(bytes);
        let level0 = self.level0_in(window, layout, count)?;
        let block = bytes.saturating_sub(WINDOW - BLOCK_BYTES);
        Ok(level0.with_blocks_of(self.access.window(block)))
    }

    /// The same for records in no order: holds little more than one of them.
    pub(crate) fn read_level0_for_lookups(
        &self,
        layout: RecordLayout,
        count: u64,
    ) -> Result<Level0<FileWindow<'_>>> {
        self.level0_in(self.level0.require()?.window_of_reads(), layout, count)
    }

    fn level0_in<'f>(
        &self,
        window: FileWindow<'f>,
        layout: RecordLayout,
        count: u64,
    ) -> Result<Level0<FileWindow<'f>>> {
        self.level0.decoded(layout.check_len(window.len(), count))?;
        Ok(Level0::new(window, layout, count).with_blocks_of(self.access.window(BLOCK_BYTES)))
    }

    /// The norms, if there are any.
    pub(crate) fn read_norms(&self) -> Result<Option<Norms<FileWindow<'_>>>> {
        let file = self.norms.get()?;
        Ok(file.map(|file| Norms::new(file.window(norms::WINDOW))))
    }

    /// The same for norms in any order, as long as neighbours are asked for close in time.
    #[cfg(feature = "database")]
    pub(crate) fn read_norms_for_neighbours(&self) -> Result<Option<Norms<FileWindow<'_>>>> {
        let file = self.norms.get()?;
        file.map(|file| Ok(Norms::new(file.window_for_neighbours()?)))
            .transpose()
    }

    /// The links of the upper levels, if there are any.
    pub(crate) fn read_link_lists(
        &self,
        header: &IndexHeader,
    ) -> Result<Option<LinkLists<FileWindow<'_>>>> {
        let file = self.link_lists.get()?;
        file.map(|file| LinkLists::new(file.window(link_lists::WINDOW), header))
            .transpose()
    }

    /// The same for lists in no order: holds little more than one of them.
    pub(crate) fn read_link_lists_for_lookups(
        &self,
        header: &IndexHeader,
    ) -> Result<Option<LinkLists<FileWindow<'_>>>> {
        let file = self.link_lists.get()?;
        file.map(|file| LinkLists::new(file.window_of_reads(), header))
            .transpose()
    }

    /// Reads the metadata, which must be there.
    pub(crate) fn read_metadata(&self, monitor: &Monitor<'_>) -> Result<SegmentMetadata<'_>> {
        let file = self.metadata.require()?;
        let window = self.access.window(pickle::WINDOW);
        let metadata = Metadata::read_in_windows(file.window(window), monitor, window);
        let metadata = self.metadata.decoded(metadata)?;
        // What several passes agree on was in the file throughout.
        file.check_unchanged()?;
        Ok(SegmentMetadata {
            metadata,
            window: file.window_for_lookups(),
            file: &self.metadata,
            id: String::new(),
        })
    }

    /// The files that the disk cannot read all of, as far as is known, with the number of sectors.
    pub(crate) fn bad_sectors(&self) -> impl Iterator<Item = (&SegmentFile, u64)> {
        let counted = |file: &InputFile| file.bad_sectors().count();
        let files = self.all().into_iter();
        files
            .filter_map(move |file| Some((file, file.opened().map(counted)?)))
            .filter(|(_, sectors)| *sectors > 0)
    }

    /// Fails when a file that was used is not what it was when it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.all()
            .into_iter()
            .try_for_each(SegmentFile::check_unchanged)
    }
}

/// The metadata of a segment, and the file that its ids are in.
#[derive(Debug)]
pub(crate) struct SegmentMetadata<'f> {
    metadata: Metadata,
    window: FileWindow<'f>,
    file: &'f SegmentFile,
    /// The last id that was looked up.
    id: String,
}

impl SegmentMetadata<'_> {
    pub(crate) fn table(&self) -> &Metadata {
        &self.metadata
    }

    pub(crate) fn into_table(self) -> Metadata {
        self.metadata
    }

    /// The id of an entry of the [table](Self::table).
    pub(crate) fn user_id(&mut self, entry: Entry) -> Result<&str> {
        let found = self
            .metadata
            .read_user_id(entry, &mut self.window, &mut self.id);
        self.file.decoded(found)?;
        Ok(&self.id)
    }
}

/// A segment directory whose records can be read.
#[derive(Debug)]
pub(crate) struct Segment {
    files: SegmentFiles,
    /// Absent when the layout of a record was given instead.
    header: Option<IndexHeader>,
    layout: RecordLayout,
    /// Records to read.
    count: u64,
}

impl Segment {
    /// Opens `header.bin` and `data_level0.bin`, and the other files when they are asked for. Fails
    /// when the header is not valid in every relation between its fields, or counts more records
    /// than there are.
    pub(crate) fn open(dir: &Path, access: impl Into<Access>) -> Result<Self> {
        Self::of(SegmentFiles::new(dir, access)?)
    }

    /// The same with the given files.
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

    /// The same for a damaged segment. Only the layout of a record must be known: from the header,
    /// or from `shape`, the dimension and m, and then there need not be a header.
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
                // A directory in place of the header counts as a missing header.
                let header_len = match files.header.get() {
                    Ok(header) => header.map(InputFile::len),
                    Err(Error::UnusablePath { .. }) => None,
                    Err(error) => return Err(error),
                };
                let wide_label = header_len != Some(HEADER_SIZE_32 as u64);
                let layout = RecordLayout::of_shape(dimension, m, wide_label);
                let layout = layout.ok_or_else(|| {
                    Error::argument(
                        "dimension and m",
                        format!("{dimension} and {m}"),
                        "at least 1 each, and less than 2 GiB of vector",
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

    /// A segment whose layout and count were found out elsewhere. `data_level0.bin` must hold `count`
    /// records.
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

    /// The same segment, opened again with another access.
    #[cfg(feature = "database")]
    pub(crate) fn reopen(&self, access: impl Into<Access>) -> Result<Self> {
        Ok(Self {
            files: SegmentFiles::new(self.files.dir(), access)?,
            header: self.header.clone(),
            layout: self.layout,
            count: self.count,
        })
    }

    /// The same records and some that follow, without the header, which counts fewer.
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

    /// Number of whole records, of whatever content, that `data_level0.bin` holds.
    pub(crate) fn whole_records(&self) -> Result<u64> {
        let len = self.files.level0.require()?.len();
        Ok(self.layout.whole_records(len))
    }

    /// Reads records.
    pub(crate) fn level0(&self) -> Result<Level0<FileWindow<'_>>> {
        self.files.read_level0(self.layout, self.count)
    }

    /// Reads records in any order, as long as neighbours are asked for close in time.
    #[cfg(feature = "database")]
    pub(crate) fn level0_for_neighbours(&self) -> Result<Level0<FileWindow<'_>>> {
        let window = self.files.level0.require()?.window_for_neighbours()?;
        self.files.level0_in(window, self.layout, self.count)
    }

    /// Reads norms. Fails when there is not one for each record.
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
    Err(Error::UnusablePath {
        path: dir.to_path_buf(),
        found: "something that is not a directory".into(),
        expected: "a vector segment directory".into(),
    })
}
