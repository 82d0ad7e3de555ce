//! Reading a persisted index directory. Nothing here knows of Arrow.

pub(crate) mod header;
mod inspect;
mod layout;
pub(crate) mod level0;
pub(crate) mod metadata;
pub(crate) mod norms;
pub(crate) mod source;

use std::path::{Path, PathBuf};

pub use header::IndexHeader;
pub use inspect::{inspect_index, FileSize, IndexReport, LabelRange};
pub use source::IoMode;

use crate::error::{Error, Result};
use level0::Level0;
use source::Source;

/// Names of the files of an index directory.
pub(crate) mod file_name {
    pub(crate) const HEADER: &str = "header.bin";
    pub(crate) const LEVEL0: &str = "data_level0.bin";
    pub(crate) const LENGTH: &str = "length.bin";
    pub(crate) const LINK_LISTS: &str = "link_lists.bin";
    pub(crate) const METADATA: &str = "index_metadata.pickle";

    pub(crate) const ALL: [&str; 5] = [HEADER, LEVEL0, LENGTH, LINK_LISTS, METADATA];
}

/// An open index directory with a valid header.
#[derive(Debug)]
pub(crate) struct Index {
    dir: PathBuf,
    header_file: Source,
    level0_file: Source,
    header: IndexHeader,
}

impl Index {
    pub(crate) fn open(dir: &Path, io: IoMode) -> Result<Self> {
        let found = std::fs::metadata(dir).map_err(Error::io(dir, "open the index directory"))?;
        if !found.is_dir() {
            return Err(Error::UnusablePath {
                path: dir.to_path_buf(),
                found: "something that is not a directory".into(),
                expected: "a vector segment directory".into(),
            });
        }
        let header_file = Source::open(&dir.join(file_name::HEADER), io)?;
        let header = IndexHeader::read(&header_file)?;
        let level0_file = Source::open(&dir.join(file_name::LEVEL0), io)?;
        Ok(Self {
            dir: dir.to_path_buf(),
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

    pub(crate) fn level0(&self) -> Result<Level0<'_>> {
        Level0::new(&self.level0_file, &self.header)
    }

    /// Fails when the header or the data changed since they were opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.header_file.check_unchanged()?;
        self.level0_file.check_unchanged()
    }
}
