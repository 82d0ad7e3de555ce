//! Field numbers and enum values of Arrow's FlatBuffers: `Message.fbs`, `Schema.fbs` and
//! `File.fbs`.

/// Values of `MetadataVersion`: the enum starts with V1 as 0.
pub(super) const VERSION_4: i16 = 3;
pub(super) const VERSION_5: i16 = 4;

/// Marker in front of each message since Arrow 0.15.
pub(super) const CONTINUATION: [u8; 4] = [0xff; 4];

/// Fields of `Message`.
pub(super) mod message {
    pub(crate) const VERSION: usize = 0;
    pub(crate) const HEADER_TYPE: usize = 1;
    pub(crate) const HEADER: usize = 2;
    pub(crate) const BODY_LENGTH: usize = 3;
}

/// Types of a message's header.
pub(super) mod header_type {
    pub(crate) const SCHEMA: u8 = 1;
    pub(crate) const DICTIONARY_BATCH: u8 = 2;
    pub(crate) const RECORD_BATCH: u8 = 3;
}

/// Fields of `Footer`.
pub(super) mod footer {
    pub(crate) const VERSION: usize = 0;
    pub(crate) const SCHEMA: usize = 1;
    pub(crate) const DICTIONARIES: usize = 2;
    pub(crate) const RECORD_BATCHES: usize = 3;
    /// Size in bytes of a `Block`: offset, metadata length, padding, body length.
    pub(crate) const BLOCK_SIZE: usize = 24;
}

/// Fields of `Schema`.
pub(super) mod schema {
    pub(crate) const ENDIANNESS: usize = 0;
    pub(crate) const FIELDS: usize = 1;
    pub(crate) const CUSTOM_METADATA: usize = 2;
    pub(crate) const LITTLE_ENDIAN: i16 = 0;
}

/// Fields of `KeyValue`.
pub(super) mod key_value {
    pub(crate) const KEY: usize = 0;
    pub(crate) const VALUE: usize = 1;
}

/// Fields of `Field`.
pub(super) mod field {
    // Field 1, `nullable`, is not read: the null counts of record batches suffice.
    pub(crate) const NAME: usize = 0;
    // A union takes two fields: the number of its member, then its table.
    pub(crate) const TYPE_CODE: usize = 2;
    pub(crate) const TYPE: usize = 3;
    pub(crate) const DICTIONARY: usize = 4;
    pub(crate) const CHILDREN: usize = 5;
    pub(crate) const CUSTOM_METADATA: usize = 6;
}

/// Fields of `DictionaryEncoding`.
pub(super) mod dictionary_encoding {
    pub(crate) const ID: usize = 0;
    pub(crate) const INDEX_TYPE: usize = 1;
}

/// Members of the union `Type`.
pub(super) mod type_code {
    pub(crate) const NULL: u8 = 1;
    pub(crate) const INT: u8 = 2;
    pub(crate) const FLOATING_POINT: u8 = 3;
    pub(crate) const BINARY: u8 = 4;
    pub(crate) const UTF8: u8 = 5;
    pub(crate) const BOOL: u8 = 6;
    pub(crate) const DECIMAL: u8 = 7;
    pub(crate) const DATE: u8 = 8;
    pub(crate) const TIME: u8 = 9;
    pub(crate) const TIMESTAMP: u8 = 10;
    pub(crate) const INTERVAL: u8 = 11;
    pub(crate) const LIST: u8 = 12;
    pub(crate) const STRUCT: u8 = 13;
    pub(crate) const UNION: u8 = 14;
    pub(crate) const FIXED_SIZE_BINARY: u8 = 15;
    pub(crate) const FIXED_SIZE_LIST: u8 = 16;
    pub(crate) const MAP: u8 = 17;
    pub(crate) const DURATION: u8 = 18;
    pub(crate) const LARGE_BINARY: u8 = 19;
    pub(crate) const LARGE_UTF8: u8 = 20;
    pub(crate) const LARGE_LIST: u8 = 21;
    pub(crate) const RUN_END_ENCODED: u8 = 22;
    pub(crate) const BINARY_VIEW: u8 = 23;
    pub(crate) const UTF8_VIEW: u8 = 24;
    pub(crate) const LIST_VIEW: u8 = 25;
    pub(crate) const LARGE_LIST_VIEW: u8 = 26;
}

/// Fields of `Int`.
pub(super) mod int {
    pub(crate) const BIT_WIDTH: usize = 0;
    pub(crate) const IS_SIGNED: usize = 1;
}

/// The field of `FloatingPoint`, and its values.
pub(super) mod floating_point {
    pub(crate) const PRECISION: usize = 0;
    pub(crate) const HALF: i16 = 0;
    pub(crate) const SINGLE: i16 = 1;
    pub(crate) const DOUBLE: i16 = 2;
}

/// The field of `FixedSizeBinary`.
pub(super) mod fixed_size_binary {
    pub(crate) const BYTE_WIDTH: usize = 0;
}

/// The field of `FixedSizeList`.
pub(super) mod fixed_size_list {
    pub(crate) const LIST_SIZE: usize = 0;
}

/// The field of `Union`.
pub(super) mod union {
    // Dense unions have a buffer of offsets; sparse ones, mode 0, have none.
    pub(crate) const MODE: usize = 0;
    pub(crate) const DENSE: i16 = 1;
}

/// Fields of `RecordBatch`.
pub(super) mod record_batch {
    pub(crate) const LENGTH: usize = 0;
    pub(crate) const NODES: usize = 1;
    pub(crate) const BUFFERS: usize = 2;
    pub(crate) const COMPRESSION: usize = 3;
    pub(crate) const VARIADIC_BUFFER_COUNTS: usize = 4;
    /// Size in bytes of a `FieldNode` and of a `Buffer`: two 64-bit numbers each.
    pub(crate) const PAIR_SIZE: usize = 16;
}

/// Fields of `DictionaryBatch`.
pub(super) mod dictionary_batch {
    pub(crate) const ID: usize = 0;
    pub(crate) const DATA: usize = 1;
    pub(crate) const IS_DELTA: usize = 2;
}

/// Fields of `BodyCompression`, and their values.
pub(super) mod body_compression {
    pub(crate) const CODEC: usize = 0;
    pub(crate) const METHOD: usize = 1;
    pub(crate) const LZ4_FRAME: u8 = 0;
    pub(crate) const ZSTD: u8 = 1;
    pub(crate) const BUFFER: u8 = 0;
}
