//! Reads and writes segments, Chroma's directories of hnswlib files. Knows neither Arrow nor SQLite.
//!
//! Each file has a parser that takes a [`Source`](crate::io::source::Source) of bytes and returns a
//! [`DecodeError`](decode_error::DecodeError); only [`directory`] knows files and paths.

pub(crate) mod decode_error;
pub(crate) mod directory;
pub(crate) mod evidence;
pub(crate) mod header;
pub(crate) mod labels;
pub(crate) mod layout;
pub(crate) mod link_lists;
pub(crate) mod norms;
mod persist;
pub(crate) mod pickle;
pub(crate) mod record;
pub(crate) mod vectors;
pub(crate) mod write;

pub use header::IndexHeader;
pub use labels::LabelRange;

/// Names of the files of a segment directory.
pub(crate) mod file_name {
    pub(crate) const HEADER: &str = "header.bin";
    pub(crate) const LEVEL0: &str = "data_level0.bin";
    pub(crate) const NORMS: &str = "length.bin";
    pub(crate) const LINK_LISTS: &str = "link_lists.bin";
    pub(crate) const METADATA: &str = "index_metadata.pickle";

    /// In the persist directory, above those of the segments.
    pub(crate) const DATABASE: &str = "chroma.sqlite3";

    pub(crate) const ALL: [&str; 5] = [HEADER, LEVEL0, NORMS, LINK_LISTS, METADATA];

    /// Names of files that hold what cannot be made again: no output replaces one.
    pub(crate) const PROTECTED: &[&str] = &[
        HEADER,
        LEVEL0,
        NORMS,
        LINK_LISTS,
        METADATA,
        DATABASE,
        "chroma.sqlite3-wal",
        "chroma.sqlite3-shm",
        "chroma.sqlite3-journal",
    ];
}
