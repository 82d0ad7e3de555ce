"""Generates the seeds in this folder from the files in tests/. Needs only Python 3.

    python3 fuzz/seeds/generate.py
"""

import pathlib
import pickle
import random
import shutil
import sqlite3
import struct
import sys
import tempfile
import types

HERE = pathlib.Path(__file__).parent
TESTS = HERE.parent.parent / "tests"
INDEXES = TESTS / "fixtures/chroma"
ELEMENTS = 5
NAMES = "label_to_id", "id_to_label", "id_to_seq_id"


class PersistentData:
    pass


MODULE = "chromadb.segment.impl.vector.local_persistent_hnsw"
for part in range(1, MODULE.count(".") + 2):
    name = ".".join(MODULE.split(".")[:part])
    sys.modules[name] = types.ModuleType(name)
PersistentData.__module__ = MODULE
sys.modules[MODULE].PersistentData = PersistentData


HEADER = {
    "version": "i",
    "offset_level0": "Q",
    "max_elements": "Q",
    "count": "Q",
    "record_size": "Q",
    "label_offset": "Q",
    "offset_data": "Q",
    "max_level": "i",
    "entry_point": "I",
    "max_m": "Q",
    "max_m0": "Q",
    "m": "Q",
    "mult": "d",
    "ef_construction": "Q",
}


def write(target, name, content):
    assert len(content) < 1 << 16
    (HERE / target).mkdir(exist_ok=True)
    (HERE / target / name).write_bytes(content)


def cut_pickle(path, labels):
    """Returns a metadata file of the same shape, with these labels only."""
    metadata = pickle.loads(path.read_bytes())
    fields = metadata if isinstance(metadata, dict) else vars(metadata)
    kept = {label: id for label, id in fields["label_to_id"].items() if label in labels}
    fields["label_to_id"] = kept
    for name in NAMES[1:]:
        fields[name] = {id: n for id, n in fields[name].items() if id in kept.values()}
    return pickle.dumps(metadata, protocol=3 if metadata is fields else 5)


def narrow_header(header):
    """Returns the header of the same index on a 32-bit machine."""
    version, *words, level, entry = struct.unpack_from("<i6QiI", header)
    *more, mult, ef = struct.unpack_from("<3QdQ", header, 60)
    words[3] -= 4  # the label is shorter
    return struct.pack("<i6IiI3IdI", version, *words, level, entry, *more, mult, ef)


def off_by_one(header):
    """Yields headers with one field too low or too high; max_elements is minimal."""
    format = "<" + "".join(HEADER.values())
    values = dict(zip(HEADER, struct.unpack(format, header)))
    values["max_elements"] = values["count"]
    for field, value in values.items():
        for name, changed in ("lower", value - 1), ("higher", value + 1):
            if changed >= 0 or HEADER[field] in "id":
                yield f"{field}-{name}", struct.pack(format, *{**values, field: changed}.values())


def cut(segment):
    """Returns the first records of an index as the contents of its files."""
    files = {path.name: path.read_bytes() for path in segment.iterdir()}
    header, level0 = bytearray(files["header.bin"]), files["data_level0.bin"]
    _, _, count, size, label_offset, _ = struct.unpack_from("<6Q", header, 4)
    kept = min(count, ELEMENTS)
    records, links, links_at = [], b"", 0
    for at in range(kept):
        record = bytearray(level0[at * size : (at + 1) * size])
        neighbours = [id for id in range(kept) if id != at]
        struct.pack_into("<H", record, 0, len(neighbours))
        struct.pack_into(f"<{len(neighbours)}I", record, 4, *neighbours)
        records.append(bytes(record))
        links += bytes(4)  # on level 0 only
    if kept:
        struct.pack_into("<Q", header, 20, kept)
        struct.pack_into("<iI", header, 52, 0, 0)
    labels = {struct.unpack_from("<Q", record, label_offset)[0] for record in records}
    metadata = b""
    if "index_metadata.pickle" in files:
        metadata = cut_pickle(segment / "index_metadata.pickle", labels)
    # A few junk bytes follow the records, like in the real file.
    return bytes(header), records, bytes(range(40)), files["length.bin"][: 4 * kept], links, metadata


def io_modes(flags, header, level0, norms, links, metadata):
    sizes = struct.pack("<BBHHH", flags, len(header), len(metadata), len(norms), len(links))
    return sizes + header + metadata + norms + links + level0


for target in "level0", "io_modes", "pickle", "build_index", "c_abi", "round_trip", "search":
    shutil.rmtree(HERE / target, ignore_errors=True)

for segment in sorted(INDEXES.glob("*/*/segment")):
    name = "-".join(segment.parts[-3:-1])
    header, records, junk, norms, links, metadata = cut(segment)
    level0 = b"".join(records) + junk
    write("level0", name, bytes([len(header)]) + header + level0)
    if name == "1.5.9-l2":
        for change, changed in off_by_one(header):
            write("level0", f"{name}-{change}", bytes([len(changed)]) + changed + level0)
    flags = {"cosine": 128 + 15, "churn": 64 + 7}.get(segment.parts[-2], 31)
    write("io_modes", name, io_modes(flags, header, level0, norms, links, metadata))
    if metadata:
        write("pickle", name, metadata)
    if "churn" in name:
        narrow = narrow_header(header)
        level0 = b"".join(record[:-4] for record in records) + junk
        write("level0", name + "-32-bit", bytes([len(narrow)]) + narrow + level0)
        write("io_modes", name + "-32-bit", io_modes(5, narrow, level0, norms, links, metadata))
        torn = b"".join(records)[:-20]
        write("io_modes", name + "-torn", io_modes(9, header, torn, norms, links, metadata[:-9]))

for path in (TESTS / "fixtures/pickles").glob("*.pickle"):
    if path.stat().st_size < 4096:
        write("pickle", path.stem, path.read_bytes())

COLUMNAR = TESTS / "fixtures/columnar"
for folder, limit in (COLUMNAR, 3200), (COLUMNAR / "none", 3200), (COLUMNAR / "table", 6200):
    for path in folder.iterdir():
        if path.suffix in (".parquet", ".arrow", ".arrows") and path.stat().st_size < limit:
            format = path.suffix != ".parquet"
            name = f"table-{path.name}" if folder.name == "table" else path.name
            write("build_index", name, bytes([format]) + path.read_bytes())

EXTRACT = [
    '{"index_dir":"DIR/index","output_path":"DIR/out"}',
    '{"index_dir":"DIR/index","output_path":"DIR/a/b","output_format":"arrow_ipc",'
    '"metadata_path":"DIR/index/index_metadata.pickle","include_deleted":true,"batch_size":2,'
    '"vectors":"original","salvage":false,"dimension":null,"m":null,"compression":"none",'
    '"row_group_bytes":100,"io":"read","token":TOKEN}',
    '{"index_dir":"DIR/index","output_path":"DIR/out","salvage":true,"dimension":3,"m":2,'
    '"compression":"zstd","io":"mmap"}',
    '{"index_dir":"DIR/index","output_path":"DIR/index/header.bin","compression":"snappy"}',
    '{"index_dir":"DIR","output_path":"DIR"}',
    '{"index_dir":[["DIR"]],"output_path":3.5e300}',
]
BUILD = [
    '{"input_path":"DIR/in.parquet","output_path":"DIR/out"}',
    '{"input_path":"DIR/in.arrow","output_path":"DIR/out","input_format":"arrow_ipc",'
    '"metric":"squared_euclidean","include_deleted":true,"m":4,"m0":8,"ef_construction":16,'
    '"batch_size":3,"capacity":100,"seed":1,"threads":2,"engine":"native","io":"read",'
    '"token":TOKEN}',
    '{"input_path":"DIR/in.parquet","output_path":"DIR/out","engine":"hnsw_rs","seed":1,"m":2}',
    '{"input_path":"DIR/in.parquet","output_path":"DIR/in.parquet","metric":"dot_product"}',
    '{"input_path":"DIR/in.arrow","output_path":"DIR/out","metric":"cosine","threads":1}',
    '{"input_path":"DIR/in.parquet","output_path":"DIR/out","metric":"manhattan","threads":1}',
]
READ = [
    '{"index_dir":"DIR/index"}',
    '{"index_dir":"DIR/index","io":"read","token":TOKEN}',
    '{"index_dir":"DIR/in.parquet","io":"mmap","token":null}',
]
CALLS = {"extract": EXTRACT, "build": BUILD, "inspect": READ, "verify": READ}
for call, (name, requests) in enumerate(CALLS.items()):
    for at, request in enumerate(requests):
        write("c_abi", f"{name}-{at}", bytes([call]) + request.encode())



def hnsw_file(count, dimension, m, metric, labels):
    """Returns a .hnsw file of random vectors, with each node linked to adjacent nodes."""
    vectors = [[random.uniform(-1, 1) for _ in range(dimension)] for _ in range(count)]
    levels = [2 if node == 3 else int(node % 4 == 0) for node in range(count)]
    entry = max(range(count), key=levels.__getitem__, default=-1)
    lists = []
    for node in range(count):
        layers = b""
        for layer in range(levels[node] + 1):
            most = m if layer else 2 * m
            others = [other for other in range(count) if other != node and levels[other] >= layer]
            others.sort(key=lambda other: min((other - node) % count, (node - other) % count))
            layers += struct.pack("<I", len(others[:most]))
            for other in others[:most]:
                distance = sum((a - b) ** 2 for a, b in zip(vectors[node], vectors[other]))
                layers += struct.pack("<If", other, distance)
        lists.append(layers)
    header = struct.pack(
        "<8sI7Q4B", b"HNSWNDX\0", 1, count, dimension, m, 2 * m, 9, entry % 2**64,
        levels[entry] if count else 0, 1, 0, 1, 1,
    )
    header += struct.pack("<8sIB", b"hnswtool", 1, metric) if metric else b""
    content = header.ljust(256, b"\0")
    content += b"".join(struct.pack(f"<{dimension}f", *vector) for vector in vectors)
    content += struct.pack(f"<{count}I", *levels)
    at = len(content) + 8 * count
    for layers in lists:
        content += struct.pack("<Q", at)
        at += len(layers)
    content += b"".join(lists)
    if not labels:
        return content + struct.pack("<2Q", 0, 0)
    return content + struct.pack(f"<2Q{count}Q", count, 8, *range(7, 7 + count))


random.seed(2)
for metric in range(6):
    for count, dimension, m in (0, 0, 4), (1, 1, 2), (9, 3, 2), (30, 20, 4):
        file = hnsw_file(count, dimension, m, metric, labels=metric % 3 != 1)
        if metric == 5:
            file += b"trailing"
        name = f"metric-{metric}-{count}x{dimension}"
        write("search", name, bytes([1 + metric, 4 * metric, 16 * metric]) + file)

# Databases with small pages, so that many tables fit into a few KiB. Labels 4 and 2 of the index have the ids a and b.
LOCAL = "urn:chroma:segment/vector/hnsw-local-persisted"
SEGMENTS = [f"00000000-0000-4000-8000-00000000000{digit}" for digit in "abcd"]
COLLECTIONS = "1", "2"


def database(old):
    """One of Chroma 0.6, or of 1.5."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "chroma.sqlite3"
        db = sqlite3.connect(path)
        values = "string_value TEXT, int_value INTEGER, float_value REAL, bool_value INTEGER"
        db.executescript(
            f"""PRAGMA page_size = 512;
            CREATE TABLE databases (id TEXT, name TEXT, tenant_id TEXT);
            CREATE TABLE collections (id TEXT, name TEXT, dimension INTEGER, database_id TEXT, config_json_str TEXT,
                schema_str TEXT);
            CREATE TABLE collection_metadata (collection_id TEXT, key TEXT, str_value TEXT, int_value INTEGER,
                float_value REAL);
            CREATE TABLE segment_metadata (segment_id TEXT, key TEXT, str_value TEXT, int_value INTEGER,
                float_value REAL);
            CREATE TABLE segments (id TEXT, type TEXT, scope TEXT, collection TEXT);
            CREATE TABLE max_seq_id (segment_id TEXT, seq_id);
            CREATE TABLE embeddings (id INTEGER PRIMARY KEY, segment_id TEXT, embedding_id TEXT, seq_id,
                UNIQUE (segment_id, embedding_id));
            CREATE TABLE embedding_metadata (id INTEGER, key TEXT, {values}, PRIMARY KEY (id, key));
            CREATE TABLE embedding_metadata_array (id INTEGER, key TEXT, {values});
            CREATE TABLE embeddings_queue (seq_id INTEGER PRIMARY KEY, operation INTEGER, topic TEXT, id TEXT, vector BLOB,
                encoding TEXT, metadata TEXT);"""
        )
        seq_id = (lambda number: number.to_bytes(8, "big")) if old else (lambda number: number)
        db.execute("INSERT INTO databases VALUES ('d', 'default_database', 'default_tenant')")
        for number, collection in enumerate(COLLECTIONS):
            vector, metadata = SEGMENTS[number], SEGMENTS[2 + number]
            schema = '{"defaults":{"float_list":{"vector_index":{"config":{"space":"cosine"}}}}}'
            config = ('{"hnsw_configuration":{"space":"l2"}}', None) if old else ("{}", schema)
            db.execute("INSERT INTO collections VALUES (?, ?, 3, 'd', ?, ?)", (collection, f"c{collection}", *config))
            db.execute("INSERT INTO segments VALUES (?, ?, 'VECTOR', ?)", (vector, LOCAL, collection))
            db.execute("INSERT INTO segments VALUES (?, 'sqlite', 'METADATA', ?)", (metadata, collection))
            db.execute("INSERT INTO max_seq_id VALUES (?, ?), (?, ?)", (vector, seq_id(2), metadata, seq_id(4)))
            if old:
                db.execute("INSERT INTO segment_metadata VALUES (?, 'hnsw:space', 'cosine', NULL, NULL)", (vector,))
                db.execute("INSERT INTO collection_metadata VALUES (?, 'n', NULL, 1, NULL)", (collection,))
            for at, id in enumerate("abc"):
                row = 1 + at + 10 * number
                db.execute("INSERT INTO embeddings VALUES (?, ?, ?, ?)", (row, metadata, id, seq_id(row)))
                for key, *typed in [
                    ("chroma:document", "text", None, None, None),
                    ("f", None, None, 0.5, None),
                    ("i", None, at, None, None),
                ][at:]:
                    db.execute("INSERT INTO embedding_metadata VALUES (?, ?, ?, ?, ?, ?)", (row, key, *typed))
                if not old:
                    db.execute("INSERT INTO embedding_metadata_array VALUES (?, 'l', 'x', NULL, NULL, NULL)", (row,))
        vector = struct.pack("<3f", 1, 2, 3)
        for seq, (operation, id, metadata) in enumerate(
            [(0, "c", '{"k":1}'), (1, "a", '{"k":null}'), (2, "d", '{"l":["x",1.5]}'), (3, "b", None)], 3
        ):
            collection = COLLECTIONS[seq % 2]
            encoded = (None, None) if operation == 3 else (vector, "FLOAT32")
            row = (seq, operation, f"persistent://default/default/{collection}", id, *encoded, metadata)
            db.execute("INSERT INTO embeddings_queue VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        db.commit()
        db.close()
        return path.read_bytes()


for name, old in [("0.6", True), ("1.5", False)]:
    content = database(old)
    write("persist", name, content)
    write("persist", f"{name}-cut", content[: len(content) // 2])
    write("persist", f"{name}-flipped", bytes(byte ^ (at % 700 == 300) for at, byte in enumerate(content)))

# Page size, length, the modified page and the page it points to.
for name, numbers in [
    ("itself", (0, 300, 2, 2)),
    ("back", (2, 3000, 3, 1)),
    ("skips", (1, 900, 1, 4)),
    ("ends", (0, 500, 1, 60000)),
]:
    write("persist", f"chain-{name}", b"c" + struct.pack(">4H", *numbers))

# Any bytes form a case; more bytes form a larger one.
random.seed(1)
for at, size in enumerate([16, 100, 400, 1600, 4000, 4000, 8000, 8000]):
    write("round_trip", f"random-{at}", random.randbytes(size))

total = sum(path.stat().st_size for path in HERE.glob("*/*"))
assert total < 1 << 20, total
print(total, "bytes")

# Journals beside a database of such pages: `src/fuzzing/hostile.rs`.
JOURNAL = bytes.fromhex("d9d505f920a163d7")
header = (JOURNAL + struct.pack(">5I", 1, 0, 30, 512, 512)).ljust(512, b"\0")
page = bytes(range(256)) * 2
record = struct.pack(">I", 30) + page + struct.pack(">I", page[312] + page[112])
name = b"super-mj0000009AB"
write("persist", "journal", header + record)
write("persist", "journal-cut", header + record[:100])
write("persist", "journal-named", header + record + bytes(4) + name + struct.pack(">2I", len(name), sum(name)) + JOURNAL)

# Schemas: four bytes per modification.
for change in range(12):
    write("persist", f"schema-{change}", b"!" + bytes([change, change, 255 - change, change]))
