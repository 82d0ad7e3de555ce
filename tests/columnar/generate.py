"""Writes the columnar files that the tests of `src/build/input` read.

    python -m venv .venv && .venv/bin/pip install pyarrow duckdb polars
    .venv/bin/python tests/columnar/generate.py

Good files hold 50 rows of 4 elements: element j of row i is ((37 i + 11 j) mod 200 - 100) / 10, and
the label of row i is 1000 i + 7, unless the name says otherwise:

    no-label      there is no label column: labels are the row numbers
    u64           labels are 2^63 + i
    count         labels are i
    deleted       rows whose number is a multiple of 3 are deleted

Files in `none/` have no rows. Files in `bad/` must be refused; `refusals.txt` says with what words.
"""

import base64
import pathlib

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

ROWS, DIM = 50, 4
HERE = pathlib.Path(__file__).parent
BAD = HERE / "bad"
BAD.mkdir(exist_ok=True)
for old in [*HERE.glob("*.parquet"), *HERE.glob("*.arrow"), *BAD.iterdir()]:
    old.unlink()

vectors = [[((37 * i + 11 * j) % 200 - 100) / 10 for j in range(DIM)] for i in range(ROWS)]
labels = [1000 * i + 7 for i in range(ROWS)]
deleted = [i % 3 == 0 for i in range(ROWS)]

F32, F64 = pa.float32(), pa.float64()
KINDS = {
    "list": pa.list_,
    "large-list": pa.large_list,
    "fixed": lambda t: pa.list_(t, DIM),
}


def required(inner):
    return pa.field("element", inner, nullable=False)


def table(vector_type, label_type=pa.int64(), values=vectors, label_values=labels, **more):
    columns = {"vector": pa.array(values, vector_type)}
    if label_type is not None:
        columns["label"] = pa.array(label_values, label_type)
    columns.update(more)
    return pa.table(columns)


def parquet(name, data, **options):
    pq.write_table(data, HERE / f"{name}.parquet", **{"row_group_size": 16, **options})


def ipc(name, data, batch=16, **options):
    with pa.OSFile(str(HERE / f"{name}.arrow"), "wb") as sink:
        with pa.ipc.new_file(sink, data.schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
            out.write_table(data, max_chunksize=batch)


# Every list type and element type, in both formats.
for kind, make in KINDS.items():
    for inner, t in {"f32": F32, "f64": F64}.items():
        parquet(f"pyarrow-{kind}-{inner}", table(make(t)))
        ipc(f"pyarrow-{kind}-{inner}", table(make(t)))

# Compression, page versions, encodings.
for codec in ["none", "snappy", "zstd", "gzip", "lz4"]:
    for page in ["1.0", "2.0"]:
        parquet(
            f"pyarrow-{codec}-v{page[0]}",
            table(pa.list_(F32)),
            compression=codec,
            data_page_version=page,
        )
parquet("pyarrow-plain", table(pa.list_(F32)), use_dictionary=False)
parquet("pyarrow-small-pages", table(pa.list_(F64)), data_page_size=64, write_batch_size=8,
        row_group_size=50, use_dictionary=False)
parquet("pyarrow-small-dictionary", table(pa.list_(F32)), dictionary_pagesize_limit=64,
        data_page_size=64, write_batch_size=8, row_group_size=50)
parquet("pyarrow-delta", table(pa.list_(F32)), use_dictionary=False,
        column_encoding={"label": "DELTA_BINARY_PACKED"}, row_group_size=50)
parquet("pyarrow-delta-i32", table(pa.list_(F32), pa.int32()), use_dictionary=False,
        column_encoding={"label": "DELTA_BINARY_PACKED"}, row_group_size=50, data_page_version="2.0")
for inner, t in {"f32": F32, "f64": F64}.items():
    parquet(f"pyarrow-byte-stream-split-{inner}", table(pa.list_(t)), use_dictionary=False,
            column_encoding={"vector.list.element": "BYTE_STREAM_SPLIT",
                             "label": "BYTE_STREAM_SPLIT"})
parquet("pyarrow-item-names", table(pa.list_(F32)), use_compliant_nested_type=False)
parquet("pyarrow-one-row-groups", table(pa.list_(F32)).slice(0, 50), row_group_size=1)
parquet("pyarrow-checksums", table(pa.list_(F32)), write_page_checksum=True)

# Nothing nullable.
for name, make in {"list": pa.list_, "fixed": lambda t: pa.list_(t, DIM)}.items():
    schema = pa.schema([
        pa.field("vector", make(required(F32)), nullable=False),
        pa.field("label", pa.int64(), nullable=False),
    ])
    columns = [pa.array(vectors, schema[0].type), pa.array(labels)]
    data = pa.table(columns, schema=schema)
    parquet(f"pyarrow-required-{name}", data)
    ipc(f"pyarrow-required-{name}", data)

# Labels.
for bits in [8, 16, 32, 64]:
    for sign, t in {"i": f"int{bits}", "u": f"uint{bits}"}.items():
        data = table(pa.list_(F32), getattr(pa, t)(), label_values=list(range(ROWS)))
        parquet(f"pyarrow-count-{sign}{bits}", data)
        ipc(f"pyarrow-count-{sign}{bits}", data)
big = table(pa.list_(F32), pa.uint64(), label_values=[2**63 + i for i in range(ROWS)])
parquet("pyarrow-u64", big)
ipc("pyarrow-u64", big)
none = table(pa.list_(F32), None)
parquet("pyarrow-no-label", none)
ipc("pyarrow-no-label", none)
internal = none.append_column("internal_id", pa.array(labels, pa.uint64()))
parquet("pyarrow-internal-id", internal)
ipc("pyarrow-internal-id", internal)

# Deleted rows may hold anything.
bad_rows = [[[float("nan")], None, [], [1.0, None]][i // 3 % 4] if d else v
            for i, (v, d) in enumerate(zip(vectors, deleted))]
bad_labels = [None if d else n for n, d in zip(labels, deleted)]
for name, t in {"bool": pa.bool_(), "i8": pa.int8(), "u32": pa.uint32(), "i64": pa.int64()}.items():
    flags = pa.array([(d if name == "bool" else -int(d) if name[0] == "i" else 5 * d) for d in deleted], t)
    data = table(pa.list_(F64), pa.int64(), bad_rows, bad_labels, deleted=flags)
    parquet(f"pyarrow-deleted-{name}", data)
    ipc(f"pyarrow-deleted-{name}", data)
parquet("pyarrow-deleted-bool-v2", data.set_column(2, "deleted", pa.array(deleted)),
        data_page_version="2.0", compression="none")
fixed_rows = [None if d else v for v, d in zip(vectors, deleted)]
data = table(pa.list_(F32, DIM), pa.int64(), fixed_rows, bad_labels, deleted=pa.array(deleted))
parquet("pyarrow-deleted-fixed-nulls", data)
ipc("pyarrow-deleted-fixed-nulls", data)
ipc("pyarrow-deleted-zstd", data, compression="zstd")

# Columns that are not needed, of every type, before and after those that are.
def others(prefix):
    strings = [f"s{i}" * (i % 4) if i % 5 else None for i in range(ROWS)]
    out = {
        "null": pa.nulls(ROWS),
        "string": pa.array(strings),
        "long_view": pa.array([(s or "") + "x" * 20 for s in strings], pa.string_view()),
        "binary_view": pa.array([s and s.encode() for s in strings], pa.binary_view()),
        "large": pa.array(strings, pa.large_string()),
        "dictionary": pa.array(strings).dictionary_encode(),
        "decimal": pa.array(range(ROWS), pa.decimal128(30, 2)),
        "decimal256": pa.array(range(ROWS), pa.decimal256(60, 2)),
        "half": pa.array([1.5] * ROWS, pa.float16()),
        "map": pa.array([[("a", i)] for i in range(ROWS)], pa.map_(pa.string(), pa.int32())),
        "struct": pa.array([{"vector": [i], "label": "x"} for i in range(ROWS)],
                           pa.struct({"vector": pa.list_(pa.int8()), "label": pa.string()})),
        "nested": pa.array([[[i], None, []] for i in range(ROWS)], pa.list_(pa.list_(pa.int64()))),
        "time": pa.array(range(ROWS), pa.timestamp("ns", "Europe/Rome")),
        "duration": pa.array(range(ROWS), pa.duration("ms")),
        "fixed_binary": pa.array([b"abc"] * ROWS, pa.binary(3)),
    }
    return {f"{prefix}_{name}": values for name, values in out.items()}


def ipc_only(prefix):
    ones = [pa.array([i], pa.int64()) for i in range(ROWS)]
    ids = pa.array([i % 2 for i in range(ROWS)], pa.int8())
    places = pa.array([i // 2 for i in range(ROWS)], pa.int32())
    ints, strings = pa.array(range(ROWS)), pa.array([str(i) for i in range(ROWS)])
    lists = pa.array([[i] for i in range(ROWS)], pa.list_view(pa.int32()))
    interval = pa.array([pa.MonthDayNano([1, 2, i]) for i in range(ROWS)])
    return {
        f"{prefix}_dense": pa.UnionArray.from_dense(ids, places, [ints, strings]),
        f"{prefix}_sparse": pa.UnionArray.from_sparse(ids, [ints, strings]),
        f"{prefix}_list_view": lists,
        f"{prefix}_runs": pa.RunEndEncodedArray.from_arrays(pa.array([20, 50], pa.int32()),
                                                            pa.array(["a", "b"])),
        f"{prefix}_interval": interval,
    }


base = {"vector": pa.array(vectors, pa.list_(F32)), "label": pa.array(labels)}
parquet("pyarrow-other-columns", pa.table({**others("a"), **base, **others("b")}), row_group_size=50)
ipc("pyarrow-other-columns",
    pa.table({**others("a"), **ipc_only("a"), **base, **others("b"), **ipc_only("b")}), batch=50)

# Arrow IPC: compression, one batch, empty batches, other alignment, Feather, a slice.
for codec in ["lz4", "zstd"]:
    ipc(f"pyarrow-{codec}", table(pa.list_(F32, DIM)), compression=codec)
    ipc(f"pyarrow-{codec}-list", table(pa.large_list(F64)), compression=codec)
ipc("pyarrow-one-batch", table(pa.list_(F32)), batch=1000)
ipc("pyarrow-v4", table(pa.list_(F32)), metadata_version=pa.ipc.MetadataVersion.V4)
ipc("pyarrow-legacy", table(pa.list_(F32)), use_legacy_format=True,
    metadata_version=pa.ipc.MetadataVersion.V4)
feather.write_feather(table(pa.list_(F32)), str(HERE / "pyarrow-feather.arrow"))
data = table(pa.list_(F32))
batches = data.to_batches(max_chunksize=20)
with pa.OSFile(str(HERE / "pyarrow-empty-batches.arrow"), "wb") as sink:
    with pa.ipc.new_file(sink, data.schema) as out:
        for batch in batches:
            out.write_batch(batch.slice(0, 0))
            out.write_batch(batch.slice(0, 7))
            out.write_batch(batch.slice(7))
with pq.ParquetWriter(HERE / "pyarrow-empty-groups.parquet", data.schema) as out:
    for batch in batches:
        out.write_table(pa.Table.from_batches([batch.slice(0, 0)], data.schema))
        out.write_table(pa.Table.from_batches([batch]))

# No rows.
root, HERE = HERE, HERE / "none"
HERE.mkdir(exist_ok=True)
parquet("no-rows", data.slice(0, 0))
ipc("no-rows", data.slice(0, 0))
HERE = root

# DuckDB.
con = duckdb.connect()
con.register("src", table(pa.list_(F32)))
for codec in ["snappy", "zstd", "uncompressed", "gzip", "lz4_raw"]:
    con.execute(f"COPY (SELECT vector, label FROM src) TO '{HERE}/duckdb-list-{codec}.parquet' "
                f"(FORMAT parquet, CODEC '{codec}')")
for inner, t in {"f32": "FLOAT", "f64": "DOUBLE"}.items():
    for version in ["V1", "V2"]:
        con.execute(f"COPY (SELECT vector::{t}[{DIM}] AS vector, label FROM src) TO "
                    f"'{HERE}/duckdb-array-{inner}-{version.lower()}.parquet' "
                    f"(FORMAT parquet, PARQUET_VERSION {version})")
con.execute(f"COPY (SELECT vector, 'x' || label AS name, label::UBIGINT AS label, "
            f"label % 3000 = 7 AS deleted FROM src) TO '{HERE}/duckdb-deleted.parquet' (FORMAT parquet)")

# polars.
frame = pl.DataFrame({"vector": pl.Series(vectors, dtype=pl.List(pl.Float32)),
                      "label": pl.Series(labels, dtype=pl.Int64)})
for inner, t in {"f32": pl.Float32, "f64": pl.Float64}.items():
    for kind, dtype in {"list": pl.List(t), "array": pl.Array(t, DIM)}.items():
        typed = pl.DataFrame({"name": [f"{i}" for i in range(ROWS)],
                              "vector": pl.Series(vectors, dtype=pl.List(t)).cast(dtype),
                              "label": pl.Series(labels, dtype=pl.Int64)})
        typed.write_parquet(HERE / f"polars-{kind}-{inner}.parquet", row_group_size=20)
        typed.write_ipc(HERE / f"polars-{kind}-{inner}.arrow")
for codec in ["uncompressed", "snappy", "gzip", "lz4"]:
    frame.write_parquet(HERE / f"polars-{codec}.parquet", compression=codec)
for codec in ["lz4", "zstd"]:
    frame.write_ipc(HERE / f"polars-{codec}.arrow", compression=codec)
frame.with_columns(deleted=pl.Series(deleted)).write_parquet(HERE / "polars-deleted.parquet")
frame.with_columns(deleted=pl.Series(deleted)).write_ipc(HERE / "polars-deleted.arrow")

# What must be refused.
refusals = []


def refuse(name, words, data, ipc_too=True, **options):
    global HERE
    root, HERE = HERE, BAD
    parquet(name, data, **options)
    refusals.append((f"{name}.parquet", words))
    if ipc_too:
        ipc(name, data)
        refusals.append((f"{name}.arrow", words))
    HERE = root


def with_row(row, value):
    return [value if i == row else v for i, v in enumerate(vectors)]


nan, inf = float("nan"), float("inf")
good = table(pa.list_(F32))
for kind, make in KINDS.items():
    row = "row 17, column vector"
    refuse(f"null-vector-{kind}", f"{row}: found null, expected a vector",
           table(make(F32), values=with_row(17, None)))
    refuse(f"null-element-{kind}", f"{row}, element 3: found null, expected a number",
           table(make(F32), values=with_row(17, [1, 2, 3, None])))
    refuse(f"nan-{kind}", f"{row}, element 1: found NaN, expected a finite number",
           table(make(F32), values=with_row(17, [1, nan, 3, 4])))
    refuse(f"infinity-{kind}", f"{row}, element 2: found -inf, expected a finite number",
           table(make(F64), values=with_row(17, [1, 2, -inf, 4])))
    refuse(f"range-{kind}", f"{row}, element 0: found 1e39, expected a number in the range of float32",
           table(make(F64), values=with_row(17, [1e39, 2, 3, 4])))
    if kind != "fixed":
        refuse(f"empty-vector-{kind}", f"{row}: found an empty vector, expected 4",
               table(make(F32), values=with_row(17, [])))
        refuse(f"short-{kind}", f"{row}: found 3 elements, expected 4, as in the rows before",
               table(make(F32), values=with_row(17, [1, 2, 3])))
        refuse(f"long-{kind}", f"{row}: found 5 elements, expected 4, as in the rows before",
               table(make(F32), values=with_row(17, [1, 2, 3, 4, 5])))
refuse("first-empty", "row 0, column vector: found an empty vector, expected at least one",
       table(pa.list_(F32), values=with_row(0, [])))
refuse("negative-label", "row 33, column label: found -1, expected an integer from 0",
       table(pa.list_(F32), label_values=[-1 if i == 33 else i for i in range(ROWS)]))
refuse("null-label", "row 33, column label: found null, expected an integer from 0",
       table(pa.list_(F32), label_values=[None if i == 33 else i for i in range(ROWS)]))
refuse("null-internal-id", "row 33, column internal_id: found null, expected an integer from 0",
       none.append_column("internal_id", pa.array([None if i == 33 else i for i in range(ROWS)])))
refuse("null-deleted", "row 9, column deleted: found null, expected true or false",
       table(pa.list_(F32), deleted=pa.array([None if i == 9 else False for i in range(ROWS)])))
refuse("no-vector", "column vector: found no such column", good.drop_columns("vector"))
refuse("two-vectors", "column vector: found 2 columns of that name, expected one",
       pa.Table.from_arrays([good[0], good[1], good[0]], ["vector", "label", "vector"]))
refuse("two-labels", "column label: found 2 columns of that name, expected one",
       pa.Table.from_arrays([good[0], good[1], good[1]], ["vector", "label", "label"]))
for name, t in {"int": pa.int32(), "half": pa.float16(), "string": pa.string()}.items():
    refuse(f"list-of-{name}", "expected a list of float32 or float64",
           table(pa.list_(t), values=[[] for _ in vectors]))
for name, values in {
    "scalar": pa.array([1.0] * ROWS),
    "string": pa.array(["x"] * ROWS),
    "nested": pa.array([[v] for v in vectors], pa.list_(pa.list_(F32))),
    "struct": pa.array([{"x": 1.0}] * ROWS),
    "map": pa.array([[("a", 1.0)]] * ROWS, pa.map_(pa.string(), F32)),
    "view": pa.array(["x"] * ROWS, pa.string_view()),
}.items():
    refuse(f"vector-{name}", "column vector: found", pa.table({"vector": values, "label": good[1]}))
for name, values in {
    "string": pa.array(["1"] * ROWS),
    "float": pa.array([1.0] * ROWS),
    "bool": pa.array([True] * ROWS),
    "decimal": pa.array(range(ROWS), pa.decimal128(20, 0)),
    "timestamp": pa.array(range(ROWS), pa.timestamp("us")),
    "list": pa.array([[1]] * ROWS),
    "view": pa.array(["1"] * ROWS, pa.string_view()),
}.items():
    refuse(f"label-{name}", "expected an integer of at most 64 bits",
           pa.table({"vector": good[0], "label": values}))
refuse("deleted-string", "expected a boolean or an integer",
       pa.table({"vector": good[0], "deleted": pa.array(["no"] * ROWS)}))
refuse("brotli", "found Brotli compression, which is not supported", good, ipc_too=False,
       compression="brotli")


class Kms(pe.KmsClient):
    def __init__(self, config):
        super().__init__()

    def wrap_key(self, key, name):
        return base64.b64encode(key)

    def unwrap_key(self, key, name):
        return base64.b64decode(key)


factory = pe.CryptoFactory(Kms)


def encrypt(name, words, where=BAD, **options):
    config = pe.EncryptionConfiguration(footer_key="f", **options)
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), config)
    data = good.append_column("secret", pa.array(range(ROWS)))
    with pq.ParquetWriter(where / f"{name}.parquet", data.schema,
                          encryption_properties=properties) as out:
        out.write_table(data)
    if words:
        refusals.append((f"{name}.parquet", words))


encrypt("encrypted-footer", "found an encrypted Parquet file", column_keys={"k": ["label"]})
encrypt("encrypted-vector", "found an encrypted column", plaintext_footer=True,
        column_keys={"k": ["vector.list.element"]})
encrypt("pyarrow-encrypted-other", None, HERE, plaintext_footer=True, column_keys={"k": ["secret"]})

dictionary = pa.table({"vector": good[0], "label": pa.array(labels).dictionary_encode()})
BAD_IPC = {
    "fixed-of-none": ("row 0, column vector: found an empty vector, expected at least one",
                      table(pa.list_(F32, 0), values=[[]] * ROWS)),
    "label-dictionary": ("column label: found a dictionary-encoded column", dictionary),
    "runs-label": ("column label: found run-end encoded",
                   pa.table({"vector": good[0],
                             "label": pa.RunEndEncodedArray.from_arrays(pa.array([50], pa.int32()),
                                                                        pa.array([1]))})),
    "list-view": ("column vector: found list view of float32",
                  pa.table({"vector": pa.array(vectors, pa.list_view(F32))})),
}
root, HERE = HERE, BAD
for name, (words, data) in BAD_IPC.items():
    ipc(name, data)
    refusals.append((f"{name}.arrow", words))
HERE = root
with pa.OSFile(str(BAD / "stream.arrow"), "wb") as sink:
    with pa.ipc.new_stream(sink, good.schema) as out:
        out.write_table(good)
refusals.append(("stream.arrow", "found what looks like an Arrow IPC stream"))
feather.write_feather(pa.table({"label": labels}), str(BAD / "feather-v1.arrow"), version=1)
refusals.append(("feather-v1.arrow", "found a Feather file of version 1"))
(BAD / "parquet.arrow").write_bytes((HERE / "pyarrow-plain.parquet").read_bytes())
refusals.append(("parquet.arrow", "found a Parquet file, expected an Arrow IPC file"))
(BAD / "arrow.parquet").write_bytes((HERE / "pyarrow-list-f32.arrow").read_bytes())
refusals.append(("arrow.parquet", "found an Arrow IPC file, expected a Parquet file"))
(BAD / "nothing.parquet").write_bytes(b"")
refusals.append(("nothing.parquet", "found an empty file, expected a Parquet file"))
(BAD / "text.arrow").write_bytes(b"vector,label\n")
refusals.append(("text.arrow", "found other bytes, expected an Arrow IPC file"))

(BAD / "refusals.txt").write_text("".join(f"{name}\t{words}\n" for name, words in refusals))
