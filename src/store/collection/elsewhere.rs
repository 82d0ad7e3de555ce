//! Vectors of records that neither the segment nor the queue holds, from other directories.
//!
//! Chroma and its tools move a segment that they cannot load to a directory beside it, such as
//! `UUID.drift-20260101` or `UUID.corrupt-…`. A vector from there may be older than its record's
//! text: each directory that is used gets a finding.

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

/// A directory of another segment's name needs this share of its ids in the collection: one half.
const MIN_SHARE: usize = 2;

impl Planner<'_> {
    /// Searches other directories for the vectors of records that have none.
    pub(super) fn search_elsewhere(&mut self, space: Space, sink: &mut Sink<'_>) -> Result<()> {
        for (directory, is_own) in self.candidates()? {
            let lacks = |vector: &Packed| *vector == Packed::NOWHERE;
            let of_rows = sink.rows.iter().map(|row| &row.vector);
            let of_appended = sink.appended.iter().map(|row| &row.vector);
            if !of_rows.chain(of_appended).any(lacks) {
                break;
            }
            let Some(base) = self.open_elsewhere(&directory, space)? else {
                continue;
            };
            if !is_own && !self.is_of_collection(&base)? {
                continue;
            }
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

    /// Returns the directories that may hold other copies of the segment, and whether their name
    /// says so: those first, and the newest first.
    fn candidates(&self) -> Result<Vec<(PathBuf, bool)>> {
        let segment = self.origin.collection.vector_segment.as_ref();
        let own = segment.map(|segment| format!("{}.", segment.id));
        let persist_dir = self.origin.persist_dir;
        let mut found = Vec::new();
        let entries = std::fs::read_dir(persist_dir).map_err(Error::io(persist_dir, "list"))?;
        for entry in entries {
            let entry = entry.map_err(Error::io(persist_dir, "list"))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let directory = entry.path();
            let is_live = self.origin.segment_ids.iter().any(|id| *id == name);
            let files = [file_name::LEVEL0, file_name::METADATA];
            if is_live
                || !is_directory(&directory)?
                || !files.iter().all(|file| directory.join(file).is_file())
            {
                continue;
            }
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let modified = modified.unwrap_or(SystemTime::UNIX_EPOCH);
            let is_own = own.as_ref().is_some_and(|own| name.starts_with(own));
            found.push((is_own, modified, directory));
        }
        found.sort_by(|one, other| other.cmp(one));
        found.truncate(MAX_DIRECTORIES);
        let found = found.into_iter();
        Ok(found.map(|(is_own, _, path)| (path, is_own)).collect())
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

    /// Returns true if at least half of the ids of a segment are ids of the collection.
    fn is_of_collection(&self, base: &Base) -> Result<bool> {
        let Some(segment) = &self.origin.collection.metadata_segment else {
            return Ok(false);
        };
        let ids = &base.ids.internal_ids;
        let mut known = 0_usize;
        self.origin
            .database
            .record_ids(&segment.id, self.monitor, |_, id| {
                known += usize::from(ids.position(self.fingerprinter.of(id)).is_some());
                Ok(())
            })?;
        Ok(known > 0 && known.saturating_mul(MIN_SHARE) >= ids.len())
    }
}
