//! What Chroma persists for a vector segment. Nothing here knows of Arrow.

pub(crate) mod header;
pub(crate) mod labels;
pub(crate) mod layout;
pub(crate) mod norms;
pub(crate) mod pickle;
pub(crate) mod record;

use std::path::{Path, PathBuf};

pub use header::IndexHeader;
pub use labels::LabelRange;

use crate::error::{Error, Result};
use crate::io::file::{IoMode, Source};
use record::Level0;

/// Names of the files of an index directory.
pub(crate) mod file_name {
    pub(crate) const HEADER: &str = "header.bin";
    pub(crate) const LEVEL0: &str = "data_level0.bin";
    pub(crate) const LENGTH: &str = "length.bin";
    pub(crate) const LINK_LISTS: &str = "link_lists.bin";
    pub(crate) const METADATA: &str = "index_metadata.pickle";

    pub(crate) const ALL: [&str; 5] = [HEADER, LEVEL0, LENGTH, LINK_LISTS, METADATA];
}

/// The metadata of an index directory, if there is any.
pub(crate) fn metadata_in(dir: &Path) -> Option<PathBuf> {
    let path = dir.join(file_name::METADATA);
    // A dangling link is no reason to leave the ids out in silence.
    path.symlink_metadata().is_ok().then_some(path)
}

/// An open index directory whose records can be cut.
#[derive(Debug)]
pub(crate) struct Index {
    dir: PathBuf,
    /// Absent when the layout of a record was given instead.
    header_file: Option<Source>,
    level0_file: Source,
    header: IndexHeader,
    /// Records to read.
    count: u64,
}

impl Index {
    /// Fails when the header does not hold in every relation, or counts more records than there
    /// are.
    pub(crate) fn open(dir: &Path, io: IoMode) -> Result<Self> {
        require_directory(dir)?;
        let header_file = Source::open(&dir.join(file_name::HEADER), io)?;
        let header = IndexHeader::read(&header_file)?;
        let level0_file = Source::open(&dir.join(file_name::LEVEL0), io)?;
        Level0::new(&level0_file, &header)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            count: header.cur_element_count,
            header_file: Some(header_file),
            level0_file,
            header,
        })
    }

    /// Opens a directory of which only the layout of a record must be known: from the header, or
    /// from `shape`, the dimension and m, and then there need not be a header.
    pub(crate) fn open_torn(dir: &Path, io: IoMode, shape: Option<(usize, usize)>) -> Result<Self> {
        require_directory(dir)?;
        let header_path = dir.join(file_name::HEADER);
        let (header_file, header) = match shape {
            None => {
                let file = Source::open(&header_path, io)?;
                let header = IndexHeader::parse(&file)?;
                header.check_version(&header_path)?;
                (Some(file), header)
            }
            Some((dimension, m)) => {
                let word_size_bytes = match std::fs::metadata(&header_path) {
                    Ok(found) if found.len() == layout::HEADER_SIZE_32 as u64 => 4,
                    _ => 8,
                };
                let header = IndexHeader::of_layout(dimension, m, word_size_bytes);
                let header = header
                    .filter(|header| m > 0 && header.check_record_layout(&header_path).is_ok());
                let header = header.ok_or_else(|| {
                    Error::argument(
                        "dimension and m",
                        format!("{dimension} and {m}"),
                        "at least 1 each, and less than 2 GiB of vector",
                    )
                })?;
                (None, header)
            }
        };
        header.check_record_layout(&header_path)?;
        let level0_file = Source::open(&dir.join(file_name::LEVEL0), io)?;
        let whole = Level0::whole_records(&level0_file, &header).min(header::MAX_COUNT);
        Ok(Self {
            dir: dir.to_path_buf(),
            count: match header_file {
                Some(_) => whole.min(header.cur_element_count),
                None => whole,
            },
            header_file,
            level0_file,
            header,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// Whether the header is that of `header.bin`.
    pub(crate) fn has_header_file(&self) -> bool {
        self.header_file.is_some()
    }

    /// Whole records that `data_level0.bin` has room for.
    pub(crate) fn whole_records(&self) -> u64 {
        Level0::whole_records(&self.level0_file, &self.header)
    }

    pub(crate) fn level0(&self) -> Result<Level0<'_>> {
        Level0::over(self.level0_file.cursor(), &self.header, self.count)
    }

    /// Fails when the header or the data changed since they were opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.header_file
            .iter()
            .try_for_each(Source::check_unchanged)?;
        self.level0_file.check_unchanged()
    }
}

pub(crate) fn require_directory(dir: &Path) -> Result<()> {
    let found = std::fs::metadata(dir).map_err(Error::io(dir, "open the index directory"))?;
    if found.is_dir() {
        return Ok(());
    }
    Err(Error::UnusablePath {
        path: dir.to_path_buf(),
        found: "something that is not a directory".into(),
        expected: "a vector segment directory".into(),
    })
}
