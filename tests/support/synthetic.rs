//! Synthetic segments.
#![allow(dead_code, reason = "each user needs a part")]

use std::fmt;
use std::path::Path;

/// `size_t` of the machine that wrote an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    U32,
    U64,
}

impl Word {
    pub fn size(self) -> u64 {
        match self {
            Self::U32 => 4,
            Self::U64 => 8,
        }
    }

    fn push(self, bytes: &mut Vec<u8>, value: u64) {
        match self {
            Self::U32 => bytes.extend(u32::try_from(value).unwrap().to_le_bytes()),
            Self::U64 => bytes.extend(value.to_le_bytes()),
        }
    }
}

/// The fields of `header.bin`, which can be invalid.
#[derive(Clone, Debug)]
pub struct Header {
    pub word: Word,
    pub persisted_version: i32,
    pub offset_level0: u64,
    pub max_elements: u64,
    pub cur_element_count: u64,
    pub size_data_per_element: u64,
    pub label_offset: u64,
    pub offset_data: u64,
    pub max_level: i32,
    pub enterpoint_node: u32,
    pub max_m: u64,
    pub max_m0: u64,
    pub m: u64,
    pub mult: f64,
    pub ef_construction: u64,
}

impl Header {
    /// As written by Chroma.
    pub fn new(word: Word, m: u64, dimension: u64, count: u64) -> Self {
        let offset_data = 4 + 8 * m;
        let label_offset = offset_data + 4 * dimension;
        Self {
            word,
            persisted_version: 1,
            offset_level0: 0,
            max_elements: count + 17,
            cur_element_count: count,
            size_data_per_element: label_offset + word.size(),
            label_offset,
            offset_data,
            max_level: if count == 0 { -1 } else { 2 },
            enterpoint_node: match count {
                0 => u32::MAX,
                count => u32::try_from(count / 2).unwrap(),
            },
            max_m: m,
            max_m0: 2 * m,
            m,
            mult: 1.0 / (m as f64).ln(),
            ef_construction: 100,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.persisted_version.to_le_bytes());
        for value in [
            self.offset_level0,
            self.max_elements,
            self.cur_element_count,
            self.size_data_per_element,
            self.label_offset,
            self.offset_data,
        ] {
            self.word.push(&mut bytes, value);
        }
        bytes.extend(self.max_level.to_le_bytes());
        bytes.extend(self.enterpoint_node.to_le_bytes());
        for value in [self.max_m, self.max_m0, self.m] {
            self.word.push(&mut bytes, value);
        }
        bytes.extend(self.mult.to_le_bytes());
        self.word.push(&mut bytes, self.ef_construction);
        bytes
    }
}

#[derive(Clone)]
pub struct Element {
    pub label: u64,
    pub deleted: bool,
    /// The bits of each component.
    pub vector: Vec<u32>,
}

impl fmt::Debug for Element {
    // On one line, because hundreds can be printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            label,
            deleted,
            vector,
        } = self;
        write!(f, "label {label}, deleted {deleted}, vector {vector:x?}")
    }
}

/// A synthetic segment.
#[derive(Clone, Debug)]
pub struct Synthetic {
    pub header: Header,
    pub elements: Vec<Element>,
    /// Bytes of `data_level0.bin` after the records.
    pub trailing: Vec<u8>,
}

impl Synthetic {
    /// Ordinary vectors; every third record deleted; labels descending from `count`.
    pub fn new(word: Word, m: u64, dimension: usize, count: usize) -> Self {
        let mut random = Random(42);
        let elements = (0..count)
            .map(|at| Element {
                label: (count - at) as u64,
                deleted: at % 3 == 1,
                vector: (0..dimension).map(|_| random.float().to_bits()).collect(),
            })
            .collect();
        Self::of(word, m, dimension, elements)
    }

    pub fn of(word: Word, m: u64, dimension: usize, elements: Vec<Element>) -> Self {
        Self {
            header: Header::new(word, m, dimension as u64, elements.len() as u64),
            elements,
            trailing: Vec::new(),
        }
    }

    pub fn level0_bytes(&self) -> Vec<u8> {
        let mut random = Random(7);
        let mut bytes = Vec::new();
        for element in &self.elements {
            // Extraction must not depend on the links, so they hold arbitrary bytes.
            bytes.extend(u16::try_from(2 * self.header.m).unwrap().to_le_bytes());
            bytes.push(u8::from(element.deleted));
            bytes.push(0);
            for _ in 0..2 * self.header.m {
                bytes.extend((random.next() as u32).to_le_bytes());
            }
            for bits in &element.vector {
                bytes.extend(bits.to_le_bytes());
            }
            self.header.word.push(&mut bytes, element.label);
        }
        bytes.extend(&self.trailing);
        bytes
    }

    /// The four files that Chroma always writes.
    pub fn write(&self, dir: &Path) {
        let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
        write("header.bin", &self.header.bytes());
        write("data_level0.bin", &self.level0_bytes());
        write("length.bin", &vec![0xFF; self.elements.len() * 4]);
        write("link_lists.bin", &vec![0; self.elements.len() * 4]);
    }

    /// Writes it to a new directory.
    pub fn directory(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        self.write(dir.path());
        dir
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From −1 to 1.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}
