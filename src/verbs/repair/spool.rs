//! Parts of a new segment that are written before their place is known: ids, and vectors that are not
//! in the old segment. They wait in temporary files of the new directory, so that a collection is read
//! once, and memory stays at 12 bytes per id.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;

use zerocopy::IntoBytes;

use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::io::atomic::{AtomicDirectory, DirectoryFile};
use crate::segment::pickle::write::Ids;
use crate::segment::write::Shape;
use crate::store::collection::{divide_by_norm, normalize};

const IDS: &str = "ids.tmp";
const VECTORS: &str = "vectors.tmp";

/// Purpose of the allocations, for error messages.
const LABELS: &str = "hold the labels of a collection";

/// A temporary file that is written once, and then read once.
struct Spool<'d> {
    output: &'d AtomicDirectory,
    name: &'static str,
    out: BufWriter<DirectoryFile>,
}

impl<'d> Spool<'d> {
    fn create(output: &'d AtomicDirectory, name: &'static str) -> Result<Self> {
        Ok(Self {
            out: BufWriter::new(output.create_file(name)?),
            output,
            name,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.out.write_all(bytes);
        written.map_err(|error| self.out.get_ref().error("write")(error))
    }

    fn finish(mut self) -> Result<SpoolReader<'d>> {
        let flushed = self.out.flush();
        flushed.map_err(|error| self.out.get_ref().error("write")(error))?;
        let path = self.output.temporary().join(self.name);
        let file = File::open(&path).map_err(Error::io(&path, "open"))?;
        Ok(SpoolReader {
            output: self.output,
            name: self.name,
            file: BufReader::new(file),
        })
    }
}

struct SpoolReader<'d> {
    output: &'d AtomicDirectory,
    name: &'static str,
    file: BufReader<File>,
}

impl SpoolReader<'_> {
    fn path(&self) -> PathBuf {
        self.output.temporary().join(self.name)
    }

    fn read(&mut self, read: impl FnOnce(&mut BufReader<File>) -> io::Result<()>) -> Result<()> {
        read(&mut self.file).map_err(|error| Error::io(&self.path(), "read")(error))
    }

    /// Removes the file.
    fn remove(self) -> Result<()> {
        let path = self.path();
        drop(self.file);
        std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))
    }
}

/// Stands for an id without a sequence number.
const NO_SEQ_ID: u64 = u64::MAX;

/// Takes the ids of a collection, with their labels and sequence numbers.
pub(super) struct IdSpool<'d> {
    spool: Spool<'d>,
    pub(super) labels: Vec<u32>,
    seq_ids: Vec<u64>,
}

impl<'d> IdSpool<'d> {
    pub(super) fn create(output: &'d AtomicDirectory) -> Result<Self> {
        Ok(Self {
            spool: Spool::create(output, IDS)?,
            labels: Vec::new(),
            seq_ids: Vec::new(),
        })
    }

    pub(super) fn push(&mut self, id: &str, label: u32, seq_id: Option<u64>) -> Result<()> {
        // Length-prefixed: ids may contain any character.
        let length = u32::try_from(id.len()).map_err(Error::internal)?;
        self.spool.write(&length.to_le_bytes())?;
        self.spool.write(id.as_bytes())?;
        memory::reserve(&mut self.labels, 1, LABELS)?;
        memory::reserve(&mut self.seq_ids, 1, LABELS)?;
        self.labels.push(label);
        self.seq_ids.push(seq_id.unwrap_or(NO_SEQ_ID));
        Ok(())
    }

    pub(super) fn finish(self) -> Result<SpooledIds<'d>> {
        Ok(SpooledIds {
            spool: self.spool.finish()?,
            labels: self.labels,
            seq_ids: self.seq_ids,
            id: String::new(),
        })
    }
}

/// Reads the ids back in order.
pub(super) struct SpooledIds<'d> {
    spool: SpoolReader<'d>,
    labels: Vec<u32>,
    seq_ids: Vec<u64>,
    id: String,
}

impl SpooledIds<'_> {
    /// Removes the file.
    pub(super) fn remove(self) -> Result<()> {
        self.spool.remove()
    }
}

impl Ids for SpooledIds<'_> {
    fn len(&self) -> u32 {
        u32::try_from(self.labels.len()).unwrap_or(u32::MAX)
    }

    fn label(&self, number: u32) -> u32 {
        self.labels
            .get(number as usize)
            .copied()
            .unwrap_or_default()
    }

    fn seq_id(&self, number: u32) -> Option<u64> {
        let seq_id = self.seq_ids.get(number as usize).copied();
        seq_id.filter(|seq_id| *seq_id != NO_SEQ_ID)
    }

    fn user_id(&mut self, _: u32) -> Result<&str> {
        let id = &mut self.id;
        id.clear();
        self.spool.read(|file| {
            let mut length = [0; 4];
            file.read_exact(&mut length)?;
            let length = u64::from(u32::from_le_bytes(length));
            file.take(length).read_to_string(id).map(drop)
        })?;
        Ok(&self.id)
    }
}

/// Takes the vectors of a collection that its old segment does not have. The file is created with the
/// first one.
pub(super) struct VectorSpool<'d> {
    output: &'d AtomicDirectory,
    spool: Option<Spool<'d>>,
    normalizes: bool,
    vector: Vec<f32>,
    count: u32,
}

impl<'d> VectorSpool<'d> {
    /// With `normalizes`, vectors are divided by their norm, as the cosine metric requires.
    pub(super) fn create(output: &'d AtomicDirectory, normalizes: bool) -> Self {
        Self {
            output,
            spool: None,
            normalizes,
            vector: Vec::new(),
            count: 0,
        }
    }

    /// Returns the vector in the form in which a segment stores it, or `None` if no segment can hold
    /// it: a component is not finite, or the norm to divide by. A vector of another store or file
    /// keeps its bits where f32 allows that; others get the bits that hnswlib gives them.
    pub(super) fn stored_form(
        &mut self,
        given: &[f32],
        is_added: bool,
    ) -> Option<Prepared<'_, 'd>> {
        let squares = given.iter().map(|component| component * component);
        let is_storable = given.iter().all(|component| component.is_finite())
            && (!self.normalizes || squares.sum::<f32>().is_finite());
        if !is_storable {
            return None;
        }
        let norm = if self.normalizes && is_added {
            divide_by_norm(given, &mut self.vector)
        } else {
            self.vector.clear();
            self.vector.extend_from_slice(given);
            match self.normalizes {
                true => normalize(&mut self.vector),
                false => 0.0,
            }
        };
        Some(Prepared { of: self, norm })
    }

    pub(super) fn finish(self) -> Result<SpooledVectors<'d>> {
        Ok(SpooledVectors {
            spool: self.spool.map(Spool::finish).transpose()?,
            count: self.count,
        })
    }
}

/// A vector in the form in which a segment stores it.
pub(super) struct Prepared<'v, 'd> {
    of: &'v mut VectorSpool<'d>,
    norm: f32,
}

impl Prepared<'_, '_> {
    pub(super) fn vector(&self) -> &[f32] {
        &self.of.vector
    }

    /// Appends the vector to the file.
    pub(super) fn keep(self) -> Result<()> {
        let VectorSpool {
            output,
            spool,
            vector,
            count,
            ..
        } = self.of;
        let spool = match spool {
            Some(spool) => spool,
            None => spool.insert(Spool::create(output, VECTORS)?),
        };
        spool.write(self.norm.as_bytes())?;
        spool.write(vector.as_bytes())?;
        *count = count
            .checked_add(1)
            .ok_or_else(|| Error::internal("more than 2³² records"))?;
        Ok(())
    }
}

/// Reads the vectors back in order.
pub(super) struct SpooledVectors<'d> {
    spool: Option<SpoolReader<'d>>,
    count: u32,
}

impl SpooledVectors<'_> {
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Appends a record without links for each vector, from internal id `first` on, with consecutive
    /// labels from `first_label` on. Removes the file, and returns the norms.
    pub(super) fn append(
        self,
        (first, first_label): (u32, u64),
        shape: Shape,
        out: &DirectoryFile,
        monitor: &Monitor<'_>,
    ) -> Result<Vec<f32>> {
        let mut norms =
            memory::with_capacity(self.count as usize, "hold the norms of new records")?;
        let Some(mut spool) = self.spool else {
            return Ok(norms);
        };
        let (mut bytes, mut norm) = (Vec::new(), 0_f32);
        let mut vector = memory::filled(shape.dimension(), 0_f32, "hold a vector")?;
        let size = shape.record_size() as u64;
        for number in 0..u64::from(self.count) {
            monitor.check()?;
            spool.read(|file| {
                file.read_exact(norm.as_mut_bytes())?;
                file.read_exact(vector.as_mut_bytes())
            })?;
            let label = first_label.saturating_add(number);
            let label = u32::try_from(label).map_err(Error::internal)?;
            // An empty list; `insert` or `build` links the record.
            bytes.clear();
            shape.push_record(&mut bytes, &[], &vector, label)?;
            let offset = u64::from(first).saturating_add(number).saturating_mul(size);
            out.write_at(&bytes, offset)?;
            norms.push(norm);
        }
        spool.remove()?;
        Ok(norms)
    }
}
