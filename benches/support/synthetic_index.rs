//! Synthetic segments of any size in Chroma's layout.
//!
//! Vectors are random directions and links are random neighbours, so such a directory is useful for
//! reading only. `length.bin`, `link_lists.bin` and the pickle are omitted, because extraction needs
//! none of them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

const M: u64 = 16;
const MAX_M0: u64 = 2 * M;

/// Size of a synthetic index.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of records, all of them live.
    pub count: u64,
    /// Components per vector.
    pub dimension: u64,
}

impl Shape {
    /// Offset of the vector in a level-0 record.
    pub fn offset_data(self) -> u64 {
        4 + 4 * MAX_M0
    }

    /// Offset of the label in a level-0 record.
    pub fn label_offset(self) -> u64 {
        self.offset_data() + 4 * self.dimension
    }

    /// Size of a level-0 record in bytes.
    pub fn record_size(self) -> u64 {
        self.label_offset() + 8
    }

    /// Size of `data_level0.bin` in bytes.
    pub fn data_size(self) -> u64 {
        self.count * self.record_size()
    }

    fn header(self) -> Vec<u8> {
        let mut header = Vec::with_capacity(100);
        let words = |header: &mut Vec<u8>, words: &[u64]| {
            for word in words {
                header.extend_from_slice(&word.to_le_bytes());
            }
        };
        header.extend_from_slice(&1_i32.to_le_bytes());
        words(
            &mut header,
            &[
                0,
                self.count,
                self.count,
                self.record_size(),
                self.label_offset(),
                self.offset_data(),
            ],
        );
        header.extend_from_slice(&0_i32.to_le_bytes()); // max_level
        header.extend_from_slice(&0_u32.to_le_bytes()); // enterpoint_node
        words(&mut header, &[M, MAX_M0, M]);
        header.extend_from_slice(&(1.0 / (M as f64).ln()).to_le_bytes());
        words(&mut header, &[200]);
        header
    }

    /// Returns true if `dir` holds a complete index of this shape.
    pub fn is_at(self, dir: &Path) -> bool {
        let same_header = fs::read(dir.join("header.bin")).is_ok_and(|read| read == self.header());
        let data = fs::metadata(dir.join("data_level0.bin"));
        same_header && data.is_ok_and(|data| data.len() == self.data_size())
    }

    /// Writes an index of this shape into `dir`, with the same bytes each time.
    ///
    /// The header comes last, so that an incomplete directory is not taken for a complete one.
    pub fn write(self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        let mut data =
            BufWriter::with_capacity(1 << 20, File::create(dir.join("data_level0.bin"))?);
        let mut random = Random(1);
        let mut vector = vec![0_f32; self.dimension as usize];
        let mut record = Vec::with_capacity(self.record_size() as usize);
        for internal_id in 0..self.count {
            random.fill_unit_vector(&mut vector);
            record.clear();
            record.extend_from_slice(&[MAX_M0 as u8, 0, 0, 0]);
            for _ in 0..MAX_M0 {
                let neighbour = (random.next() % self.count) as u32;
                record.extend_from_slice(&neighbour.to_le_bytes());
            }
            for component in &vector {
                record.extend_from_slice(&component.to_le_bytes());
            }
            record.extend_from_slice(&(internal_id + 1).to_le_bytes());
            data.write_all(&record)?;
        }
        data.flush()?;
        fs::write(dir.join("header.bin"), self.header())
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1].
    fn uniform(&mut self) -> f32 {
        ((self.next() >> 40) + 1) as f32 / (1_u64 << 24) as f32
    }

    /// A random direction: normal components (Box-Muller), scaled to norm 1.
    fn fill_unit_vector(&mut self, vector: &mut [f32]) {
        for pair in vector.chunks_mut(2) {
            let radius = (-2.0 * self.uniform().ln()).sqrt();
            let (sin, cos) = (std::f32::consts::TAU * self.uniform()).sin_cos();
            for (component, factor) in pair.iter_mut().zip([cos, sin]) {
                *component = radius * factor;
            }
        }
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        for component in vector {
            *component /= length;
        }
    }
}
