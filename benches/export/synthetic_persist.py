"""Writes a persist directory of any size in the form of Chroma 1.5, without building its graph.

    synthetic_persist.py DIRECTORY RECORDS DIMENSION

One collection, cosine, with documents of 500 bytes and three metadata keys. The index has records and ids, but no
links, which an export does not read; all but the last 1000 records are in it.
"""

import pathlib
import pickle
import random
import sqlite3
import struct
import sys
import uuid

import numpy as np

M = 16
TAIL = 1000
COLLECTION, VECTOR, METADATA = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
SCHEMA = """
CREATE TABLE migrations (dir TEXT, version INTEGER, filename TEXT, sql TEXT, hash TEXT, PRIMARY KEY (dir, version));
CREATE TABLE databases (id TEXT PRIMARY KEY, name TEXT, tenant_id TEXT);
CREATE TABLE collections (id TEXT PRIMARY KEY, name TEXT, dimension INTEGER, database_id TEXT, config_json_str TEXT,
    schema_str TEXT);
CREATE TABLE segments (id TEXT PRIMARY KEY, type TEXT, scope TEXT, collection TEXT);
CREATE TABLE max_seq_id (segment_id TEXT PRIMARY KEY, seq_id INTEGER);
CREATE TABLE embeddings (id INTEGER PRIMARY KEY, segment_id TEXT NOT NULL, embedding_id TEXT NOT NULL, seq_id BLOB NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, UNIQUE (segment_id, embedding_id));
CREATE TABLE embedding_metadata (id INTEGER, key TEXT NOT NULL, string_value TEXT, int_value INTEGER, float_value REAL,
    bool_value INTEGER, PRIMARY KEY (id, key));
CREATE INDEX embedding_metadata_string_value ON embedding_metadata (key, string_value) WHERE string_value IS NOT NULL;
CREATE INDEX embedding_metadata_int_value ON embedding_metadata (key, int_value) WHERE int_value IS NOT NULL;
CREATE INDEX embedding_metadata_float_value ON embedding_metadata (key, float_value) WHERE float_value IS NOT NULL;
CREATE TABLE embedding_fulltext_search_content (id INTEGER PRIMARY KEY, c0);
CREATE TABLE embeddings_queue (seq_id INTEGER PRIMARY KEY, created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    operation INTEGER NOT NULL, topic TEXT NOT NULL, id TEXT NOT NULL, vector BLOB, encoding TEXT, metadata TEXT);
"""


def write_index(directory, vectors, ids):
    directory.mkdir()
    count, dimension = vectors.shape
    offset = 4 + 8 * M
    size = offset + 4 * dimension + 8
    header = struct.pack(
        "<i6QiI3QdQ", 1, 0, count, count, size, offset + 4 * dimension, offset, 0, 0, M, 2 * M, M, 1 / np.log(M), 100
    )
    (directory / "header.bin").write_bytes(header)
    record = np.dtype([("links", f"V{offset}"), ("vector", "<f4", (dimension,)), ("label", "<u8")])
    norms = np.linalg.norm(vectors, axis=1).astype("<f4")
    with open(directory / "data_level0.bin", "wb") as file:
        for start in range(0, count, 10_000):
            part = vectors[start : start + 10_000]
            records = np.zeros(len(part), record)
            records["vector"] = part / norms[start : start + 10_000, None]
            records["label"] = np.arange(start + 1, start + 1 + len(part))
            records.tofile(file)
    norms.tofile(directory / "length.bin")
    (directory / "link_lists.bin").write_bytes(bytes(4 * count))
    labels = {id: label for label, id in enumerate(ids, 1)}
    state = {
        "dimensionality": None,
        "total_elements_added": count,
        "max_seq_id": None,
        "id_to_label": labels,
        "label_to_id": {label: id for id, label in labels.items()},
        "id_to_seq_id": {},
    }
    with open(directory / "index_metadata.pickle", "wb") as file:
        pickle.dump(state, file, protocol=3)


def main(directory, records, dimension):
    directory = pathlib.Path(directory)
    directory.mkdir()
    records, dimension = int(records), int(dimension)
    rng = random.Random(14)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(5000)]
    ids = [str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(records)]
    vectors = np.random.default_rng(14).standard_normal((records, dimension), dtype=np.float32)
    flushed = max(records - TAIL, 0)
    write_index(directory / VECTOR, vectors[:flushed], ids[:flushed])

    database = sqlite3.connect(directory / "chroma.sqlite3")
    database.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;" + SCHEMA)
    schema = (
        '{"defaults":{"float_list":{"vector_index":{"config":{"space":"l2"}}}},'
        '"keys":{"#embedding":{"float_list":{"vector_index":{"config":{"space":"cosine"}}}}}}'
    )
    database.execute("INSERT INTO databases VALUES ('0', 'default_database', 'default_tenant')")
    database.execute("INSERT INTO collections VALUES (?, 'synthetic', ?, '0', '{}', ?)", (COLLECTION, dimension, schema))
    local = "urn:chroma:segment/vector/hnsw-local-persisted"
    database.execute("INSERT INTO segments VALUES (?, ?, 'VECTOR', ?)", (VECTOR, local, COLLECTION))
    sqlite = "urn:chroma:segment/metadata/sqlite"
    database.execute("INSERT INTO segments VALUES (?, ?, 'METADATA', ?)", (METADATA, sqlite, COLLECTION))
    database.execute("INSERT INTO max_seq_id VALUES (?, ?), (?, ?)", (VECTOR, flushed, METADATA, records))

    def document():
        return " ".join(rng.choices(words, k=63))[:500]

    def rows():
        for row, id in enumerate(ids, 1):
            text = document()
            yield row, id, text

    for row, id, text in rows():
        database.execute(
            "INSERT INTO embeddings (id, segment_id, embedding_id, seq_id) VALUES (?, ?, ?, ?)", (row, METADATA, id, row)
        )
        database.executemany(
            "INSERT INTO embedding_metadata VALUES (?, ?, ?, ?, ?, ?)",
            [
                (row, "chroma:document", text, None, None, None),
                (row, "page", None, row % 100, None, None),
                (row, "score", None, None, rng.random(), None),
                (row, "source", f"file-{row % 1000}.txt", None, None, None),
            ],
        )
        database.execute("INSERT INTO embedding_fulltext_search_content VALUES (?, ?)", (row, text))
        if row > flushed:
            database.execute(
                "INSERT INTO embeddings_queue (seq_id, operation, topic, id, vector, encoding, metadata) "
                "VALUES (?, 0, ?, ?, ?, 'FLOAT32', '{}')",
                (row, f"persistent://default/default/{COLLECTION}", id, vectors[row - 1].astype("<f4").tobytes()),
            )
    database.commit()
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
