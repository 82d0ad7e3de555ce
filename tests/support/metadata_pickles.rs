//! Large metadata pickles in the shapes that Chroma writes, with ids of 36 characters.
#![allow(dead_code, reason = "each user needs a part")]

use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A shape of pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Chroma 1.x: a plain dict of protocol 3; no memo, no sequence numbers, maps in random order.
    Rust,
    /// The same after an upgrade: with a sequence number per id.
    RustWithSeqIds,
    /// Chroma 0.4 to 0.6: an instance of protocol 5 in which all maps share each id's string.
    PythonShared,
    /// The same, but `id_to_seq_id` has separate strings.
    PythonDistinctSeqIds,
    /// The same, but each map has separate strings.
    PythonDistinct,
}

impl Shape {
    pub const ALL: [Self; 5] = [
        Self::Rust,
        Self::RustWithSeqIds,
        Self::PythonShared,
        Self::PythonDistinctSeqIds,
        Self::PythonDistinct,
    ];

    fn is_python(self) -> bool {
        !matches!(self, Self::Rust | Self::RustWithSeqIds)
    }
}

/// The id of the record with this label, in the form of a version 4 UUID.
pub fn id(label: u32) -> String {
    let mixed = u64::from(label)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(23);
    let tail = mixed.wrapping_mul(0xd1b5_4a32_d192_ed03) >> 16;
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{tail:012x}",
        label.wrapping_mul(0x85eb_ca6b),
        mixed & 0xffff,
        mixed >> 16 & 0xfff,
        mixed >> 28 & 0xfff
    )
}

pub fn seq_id(label: u32) -> u64 {
    u64::from(label) * 3
}

struct Pickler<W> {
    out: W,
    shape: Shape,
    memoised: u32,
    /// The memo entry of the first label's id, if ids are memoised.
    first_id: Option<u32>,
    count: u32,
}

impl<W: Write> Pickler<W> {
    fn memoise(&mut self) -> io::Result<()> {
        if self.shape.is_python() {
            self.memoised += 1;
            self.out.write_all(b"\x94")?;
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        let length = u32::try_from(text.len()).unwrap();
        if self.shape.is_python() {
            self.out.write_all(&[0x8c, u8::try_from(length).unwrap()])?;
        } else {
            self.out.write_all(b"X")?;
            self.out.write_all(&length.to_le_bytes())?;
        }
        self.out.write_all(text.as_bytes())?;
        self.memoise()
    }

    fn number(&mut self, value: u32) -> io::Result<()> {
        self.out.write_all(b"J")?;
        self.out.write_all(&value.to_le_bytes())
    }

    /// The `at`th label of a map. Python keeps the insertion order.
    fn label(&self, at: u32, step: u32) -> u32 {
        if self.shape.is_python() {
            return at + 1;
        }
        let label = u64::from(at) * u64::from(step) % u64::from(self.count);
        u32::try_from(label).unwrap() + 1
    }

    fn id(&mut self, label: u32, share: bool) -> io::Result<()> {
        match self.first_id {
            Some(first) if share => {
                self.out.write_all(b"j")?;
                self.out.write_all(&(first + label - 1).to_le_bytes())
            }
            _ => self.text(&id(label)),
        }
    }

    fn map(&mut self, name: &str, step: u32, is_empty: bool, share: bool) -> io::Result<()> {
        self.text(name)?;
        self.out.write_all(b"}")?;
        self.memoise()?;
        if is_empty {
            return Ok(());
        }
        if name == "id_to_label" && self.shape.is_python() {
            self.first_id = Some(self.memoised);
        }
        self.out.write_all(b"(")?;
        for at in 0..self.count {
            if at % 1000 == 0 && at > 0 {
                self.out.write_all(b"u(")?;
            }
            let label = self.label(at, step);
            match name {
                "label_to_id" => {
                    self.number(label)?;
                    self.id(label, share)?;
                }
                "id_to_label" => {
                    self.id(label, false)?;
                    self.number(label)?;
                }
                _ => {
                    self.id(label, share)?;
                    self.number(u32::try_from(seq_id(label)).unwrap())?;
                }
            }
        }
        self.out.write_all(b"u")
    }
}

/// Writes a pickle of `count` ids with the labels 1 to `count`.
pub fn write(path: &Path, shape: Shape, count: u32) -> io::Result<()> {
    let mut pickler = Pickler {
        out: BufWriter::new(std::fs::File::create(path)?),
        shape,
        memoised: 0,
        first_id: None,
        count,
    };
    if shape.is_python() {
        pickler.out.write_all(b"\x80\x05")?;
        pickler.text("chromadb.segment.impl.vector.local_persistent_hnsw")?;
        pickler.text("PersistentData")?;
        pickler.out.write_all(b"\x93")?;
        pickler.memoise()?;
        pickler.out.write_all(b")\x81")?;
        pickler.memoise()?;
    } else {
        pickler.out.write_all(b"\x80\x03")?;
    }
    pickler.out.write_all(b"}")?;
    pickler.memoise()?;
    pickler.out.write_all(b"(")?;
    pickler.text("dimensionality")?;
    pickler.out.write_all(b"N")?;
    pickler.text("total_elements_added")?;
    pickler.number(count)?;
    // Prime steps, which visit each label once.
    pickler.map("id_to_label", 1_000_003, false, false)?;
    let share = matches!(shape, Shape::PythonShared | Shape::PythonDistinctSeqIds);
    pickler.map("label_to_id", 7_368_787, false, share)?;
    let share = shape == Shape::PythonShared;
    pickler.map("id_to_seq_id", 15_485_863, shape == Shape::Rust, share)?;
    pickler
        .out
        .write_all(if shape.is_python() { b"ub." } else { b"u." })?;
    pickler.out.flush()
}
