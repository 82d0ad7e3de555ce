//! Vectors of records that neither the segment nor the queue holds, from other directories.
//!
//! Chroma and its tools move a segment that they cannot load to a directory beside it, such as
//! `UUID.drift-20260101` or `UUID.corrupt-…`. A vector from there may be older than its record's
//! text: each directory that is used gets a finding. A directory of another name may belong to a
//! deleted collection with the same ids, so it is never used.

use std::path::PathBuf;
use std::time::SystemTime;

use super::base::{self, Base, Extent, Found};
use super::fingerprint::Fingerprints;
use super::shape::Stated;
use super::{Packed, Planner, Sink};
use crate::base::path::display_path;
use crate::error::{Error, Result};
use crate::io::file::is_directory;
use crate::segment::evidence::Verdict;
use crate::segment::file_name;
use crate::store::catalog::Space;

/// Directories that are searched for one collection.
const MAX_DIRECTORIES: usize = 64;

impl Planner<'_> {
    /// Searches other directories for the vectors of records that have none.
    pub(super) fn search_elsewhere(&mut self, space: Space, sink: &mut Sink<'_>) -> Result<()> {
        for directory in self.candidates()? {
            let lacks = |vector: &Packed| *vector == Packed::NOWHERE;
            let of_rows = sink.rows.iter().map(|row| &row.vector);
            let of_appended = sink.appended.iter().map(|row| &row.vector);
            if !of_rows.chain(of_appended).any(lacks) {
                break;
            }
            let Some(base) = self.open_elsewhere(&directory, space)? else {
                continue;
            };
            let source = u32::try_from(self.elsewhere.len()).map_err(Error::internal)?;
            let mut found = Fingerprints::default();
            for (fingerprint, internal_id) in base.ids.internal_ids.entries() {
                if sink.missing.binary_search(fingerprint).is_ok() {
                    found.reserve()?;
                    found.push(*fingerprint, Packed::elsewhere(source, *internal_id));
                }
            }
            // Sorted by fingerprint already, as the ids of the base are.
            let count = self.fill(sink, &found, |vector| vector == Packed::NOWHERE)?;
            if count > 0 {
                self.elsewhere.push(base.records);
                self.findings.note(
                    "vector-elsewhere",
                    count,
                    format!(
                        "records whose vector is only in {}; it may be older than their text",
                        display_path(&directory)
                    ),
                );
            }
        }
        Ok(())
    }

    /// Returns the directories whose name says that they hold a copy of the segment, the newest
    /// first.
    fn candidates(&self) -> Result<Vec<PathBuf>> {
        let Some(segment) = &self.origin.collection.vector_segment else {
            return Ok(Vec::new());
        };
        let own = format!("{}.", segment.id);
        let persist_dir = self.origin.persist_dir;
        let mut found = Vec::new();
        let entries = std::fs::read_dir(persist_dir).map_err(Error::io(persist_dir, "list"))?;
        for entry in entries {
            let entry = entry.map_err(Error::io(persist_dir, "list"))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let directory = entry.path();
            let files = [file_name::LEVEL0, file_name::METADATA];
            if !name.starts_with(&own)
                || !is_directory(&directory)?
                || !files.iter().all(|file| directory.join(file).is_file())
            {
                continue;
            }
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let modified = modified.unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((modified, directory));
        }
        found.sort_by(|one, other| other.cmp(one));
        found.truncate(MAX_DIRECTORIES);
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// Opens a directory, if it holds vectors of the collection's dimension and metric.
    fn open_elsewhere(&self, directory: &std::path::Path, space: Space) -> Result<Option<Base>> {
        let stated = Stated {
            dimension: self.dimension,
            m: self.origin.collection.m,
            ef_construction: self.origin.collection.ef_construction,
        };
        let key = Some(&self.fingerprinter);
        let opened = base::open(directory, self.origin.io, (stated, None), key, self.monitor);
        let mut base = match opened {
            Ok((Found::Base(base), _)) => base,
            Ok(_) => return Ok(None),
            Err(error) => return base::recoverable(error).map(|_| None),
        };
        if self
            .dimension
            .is_some_and(|own| own != base.records.dimension())
        {
            return Ok(None);
        }
        let is_cosine = space == Space::Cosine;
        let evidence = base.records.evidence(Extent::Few, self.monitor)?;
        let contradicts = match is_cosine {
            true => evidence.refutes_cosine(),
            false => evidence.verdict() == Verdict::Cosine,
        };
        if contradicts {
            return Ok(None);
        }
        base.drop_damaged(is_cosine);
        Ok(Some(base))
    }
}
