//! Reads the format of a segment, over bytes: no path, no Arrow, no SQLite.
//!
//! A *segment* is the directory in which Chroma keeps the vectors of one collection. hnswlib writes
//! four of its files, and Chroma the fifth in the format of Python's pickle. All numbers are little-endian, and `W` is the
//! `size_t` of the machine that wrote the files: 8 bytes, or 4 on a 32-bit machine.
//!
//! | file | content | reader |
//! |---|---|---|
//! | `header.bin` | sizes, counts and parameters; 100 bytes, or 60 where `W` has 4 | [`Header`] |
//! | `data_level0.bin` | a record for each vector: links, vector, label | [`Records`] |
//! | `link_lists.bin` | the links on the levels above 0 | [`LinkLists`] |
//! | `length.bin` | the norm of each vector, if the metric is cosine | [`Norms`] |
//! | `index_metadata.pickle` | Chroma's id of each label | [`Pickle`] |
//!
//! # `header.bin`
//!
//! ```text
//! persisted_version: i32      1
//! offset_level0: W            0
//! max_elements: W             capacity, in records
//! cur_element_count: W        records, deleted ones included
//! size_data_per_element: W    bytes of a record
//! label_offset: W             offset of the label in a record
//! offset_data: W              offset of the vector in a record: 4 + 4·max_m0
//! max_level: i32              highest level; −1 if empty
//! enterpoint_node: u32        internal id of the entry point
//! max_m: W                    neighbours on the levels above 0: m
//! max_m0: W                   neighbours on level 0: 2·m
//! m: W
//! mult: f64                   1/ln m
//! ef_construction: W
//! ```
//!
//! The fields repeat each other, so that a wrong one is usually found: see [`Header::read`].
//!
//! # `data_level0.bin`
//!
//! Records have no framing. Record `i` starts at byte `i · size_data_per_element`, and `i` is its
//! *internal id*, by which links refer to it:
//!
//! ```text
//! count: u16 | flags: u8 | 0 | neighbours: u32 × max_m0 | vector: f32 × dimension | label: W
//! 0                            4                          offset_data               label_offset
//! ```
//!
//! Bit 0 of `flags` marks a *deleted record*: it stays in the graph and is left out of results. The
//! first `count` neighbours are in use; the others are uninitialised memory. With the cosine metric
//! the vector is divided by its norm.
//!
//! # `link_lists.bin`
//!
//! ```text
//! for each record:  size: u32 | for each level from 1 up: count: u16 | 0: u16 | u32 × max_m
//! ```
//!
//! # `length.bin`
//!
//! One `f32` for each record. With metrics other than cosine it is uninitialised memory.
//!
//! # `index_metadata.pickle`
//!
//! A dict, or an instance of Chroma's class `PersistentData`, with the fields `id_to_label`,
//! `label_to_id`, `id_to_seq_id`, `dimensionality`, `total_elements_added` and `max_seq_id`.
//!
//! # Reading a segment from memory
//!
//! Readers take any [`Source`]: a slice, [`AlignedBytes`], or an implementation for object storage.
//! They allocate only what a source really holds, never what a number in it claims.
//!
//! ```
//! use hnsw_toolbox::segment::{AlignedBytes, Pickle, Segment};
//! use hnsw_toolbox::{Error, Monitor};
//!
//! # let read = |name: &str| std::fs::read(format!("tests/fixtures/chroma/1.5.9/cosine/segment/{name}"));
//! let header: Vec<u8> = read("header.bin")?;
//! let level0: Vec<u8> = read("data_level0.bin")?;
//! let norms: Vec<u8> = read("length.bin")?;
//! let pickle: Vec<u8> = read("index_metadata.pickle")?;
//!
//! let monitor = Monitor::default();
//! let mut segment = Segment::new(header.as_slice(), AlignedBytes::from(level0))?;
//! let mut norms = segment.norms(norms.as_slice())?;
//! let ids = Pickle::read(pickle.as_slice(), &monitor)?;
//!
//! let mut id = String::new();
//! let mut live = 0;
//! segment.records_mut().for_each(&monitor, |internal_id, record| {
//!     if record.is_deleted() {
//!         return Ok(());
//!     }
//!     if let Some(entry) = ids.find(record.label()) {
//!         let read = ids.read_id(entry, &mut pickle.as_slice(), &mut id);
//!         read.map_err(Error::callback)?;
//!     }
//!     // The vector as it was given to Chroma, whose metric here is cosine.
//!     let norm = norms.find(internal_id)?.unwrap_or(1.0);
//!     let vector: Vec<f32> = record.vector().iter().map(|x| x * norm).collect();
//!     println!("{id}: {} components", vector.len());
//!     live += 1;
//!     Ok(())
//! })?;
//! # assert_eq!(live, ids.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aligned;
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
mod view;
pub(crate) mod write;

pub use self::aligned::AlignedBytes;
pub use self::decode_error::{DecodeError, Decoded, Location};
pub use self::header::IndexHeader as Header;
pub use self::labels::LabelRange;
pub use self::link_lists::{LinkLists, SizeFlaw, SizeFlawKind, UpperNode, UpperNodes};
pub use self::norms::Norms;
pub use self::pickle::{Entry, Pickle};
pub use self::record::{Block, Record, RecordLayout, Records};
pub use self::view::Segment;
pub use crate::io::source::Source;

pub(crate) use self::header::IndexHeader;

/// Names of the files of a segment directory.
pub(crate) mod file_name {
    pub(crate) const HEADER: &str = "header.bin";
    pub(crate) const LEVEL0: &str = "data_level0.bin";
    pub(crate) const NORMS: &str = "length.bin";
    pub(crate) const LINK_LISTS: &str = "link_lists.bin";
    pub(crate) const METADATA: &str = "index_metadata.pickle";

    /// The database, which lies one directory up: in the persist directory.
    pub(crate) const DATABASE: &str = "chroma.sqlite3";

    pub(crate) const ALL: [&str; 5] = [HEADER, LEVEL0, NORMS, LINK_LISTS, METADATA];

    /// Files that may be the only copy of their data: no output replaces one.
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
