"""Checks that other programs read the output of `hnsw-toolbox extract`, and that it equals Chroma's data.

    check_extract.py PATH_OF_HNSW_TOOLBOX

Every fixture is extracted to each format, compression and choice of records. pyarrow, pandas, DuckDB and polars
read each file, and every value is compared with the truth: ids, labels and vectors with expected.json (made by
Chroma and CPython's unpickler), and everything in the segment files with a reading of them by numpy.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import traceback

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "chroma"
OUTPUTS = [("parquet", "none"), ("parquet", "snappy"), ("parquet", "zstd"), ("arrow", "none")]
COLUMNS = ["internal_id", "label", "deleted", "user_id", "seq_id", "vector"]


class Index:
    """A fixture: its level-0 records, and Chroma's own view of them."""

    def __init__(self, case):
        self.name = str(case.relative_to(FIXTURES))
        self.segment = case / "segment"
        self.expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
        header = self.expected["header"]
        self.dimension = self.expected["dim"]
        self.count = header["cur_element_count"]
        record = np.dtype(
            {
                "names": ["flags", "vector", "label"],
                "formats": ["u1", ("<f4", (self.dimension,)), "<u8"],
                "offsets": [header["offsetLevel0"] + 2, header["offsetData"], header["label_offset"]],
                "itemsize": header["size_data_per_element"],
            }
        )
        self.records = np.fromfile(self.segment / "data_level0.bin", record, self.count)
        self.lengths = np.fromfile(self.segment / "length.bin", "<f4", self.count)
        self.deleted = self.records["flags"] & 1 == 1
        assert np.count_nonzero(self.deleted) == self.expected["deleted_records"]

    def rows(self, include_deleted, metadata):
        """Returns the expected columns of an extraction."""
        chosen = np.arange(self.count) if include_deleted else np.flatnonzero(~self.deleted)
        labels = self.records["label"][chosen].tolist()
        deleted = self.deleted[chosen].tolist()
        user_ids = seq_ids = [None] * len(labels)
        if metadata:
            id_of_label = {label: id for id, label in self.expected["labels"].items()}
            # A deleted record keeps its label, which no longer has an id.
            user_ids = [None if dead else id_of_label[label] for label, dead in zip(labels, deleted)]
            seq_ids = [self.expected["seq_ids"].get(id) for id in user_ids]
        return {
            "internal_id": chosen.tolist(),
            "label": labels,
            "deleted": deleted,
            "user_id": user_ids,
            "seq_id": seq_ids,
            "vector": self.records["vector"][chosen],
        }

    def check_against_chroma(self, rows):
        """Compares live rows, from any reader, with the user's input to Chroma."""
        expected = self.expected
        live = [i for i, dead in enumerate(rows["deleted"]) if not dead]
        row_of_label = {rows["label"][i]: i for i in live}
        assert len(row_of_label) == len(live), "live records share a label"
        assert set(row_of_label) == set(expected["labels"].values()), "other labels than Chroma's"
        not_stored = set(expected["stale_in_index_ids"]) | set(expected["index_only_ids"])
        for id, label in expected["labels"].items():
            if id in not_stored:
                continue
            row = row_of_label[label]
            stored = rows["vector"][row]
            given = np.array(expected["embeddings"][id], np.float32)
            if expected["space"] == "cosine":
                length = np.linalg.norm(given.astype(np.float64))
                assert np.abs(stored - given / length).max() <= 1.2e-7, f"{id}: direction"
                restored = stored * self.lengths[rows["internal_id"][row]]
                assert np.abs(restored - given).max() <= 5e-7 * np.abs(given).max(), f"{id}: length"
            else:
                assert_same_bits(stored, given, id)


def assert_same_bits(found, expected, what):
    found, expected = (np.ascontiguousarray(a, np.float32).view(np.uint32) for a in (found, expected))
    np.testing.assert_array_equal(found, expected, err_msg=str(what))


def assert_same_rows(found, expected):
    for name in COLUMNS[:-1]:
        assert found[name] == expected[name], f"{name} differs"
    assert found["vector"].dtype == np.float32, f"vector: {found['vector'].dtype}"
    assert found["vector"].shape == expected["vector"].shape, f"vector: {found['vector'].shape}"
    assert_same_bits(found["vector"], expected["vector"], "vector")


def vectors(values, dimension):
    """Returns rows of numbers as a matrix, which keeps its width even without rows."""
    values = list(values)
    assert all(len(row) == dimension for row in values), "a vector of another length"
    return np.array(values, np.float32).reshape(len(values), dimension)


# Readers: each returns a file's columns as lists, and the vectors as a matrix.


def check_arrow_schema(schema, dimension):
    element = pa.field("item", pa.float32(), nullable=False)
    expected = [
        pa.field("internal_id", pa.uint64(), nullable=False),
        pa.field("label", pa.uint64(), nullable=False),
        pa.field("deleted", pa.bool_(), nullable=False),
        pa.field("user_id", pa.utf8()),
        pa.field("seq_id", pa.uint64()),
        pa.field("vector", pa.list_(element, dimension), nullable=False),
    ]
    assert schema.names == COLUMNS, schema.names
    for found, wanted in zip(schema, expected):
        # The name of a list's element is unspecified.
        if wanted.name == "vector":
            assert found.type.value_field.with_name("item") == element, found.type.value_field
            assert found.type.list_size == dimension, found.type
            assert found.nullable is False
        else:
            assert found == wanted, f"{found} nullable={found.nullable}"


def check_parquet_schema(path, index, compression):
    file = pa.parquet.ParquetFile(path)
    columns = [file.schema.column(i) for i in range(len(file.schema))]
    levels = [(c.path, c.physical_type, c.max_definition_level, c.max_repetition_level) for c in columns]
    assert levels == [
        ("internal_id", "INT64", 0, 0),
        ("label", "INT64", 0, 0),
        ("deleted", "BOOLEAN", 0, 0),
        ("user_id", "BYTE_ARRAY", 1, 0),
        ("seq_id", "INT64", 1, 0),
        ("vector.list.element", "FLOAT", 1, 1),
    ], levels
    logical = [c.logical_type.type for c in columns]
    assert logical == ["INT", "INT", "NONE", "STRING", "INT", "NONE"], logical
    expected_codec = {"none": "UNCOMPRESSED"}.get(compression, compression.upper())
    for group in range(file.metadata.num_row_groups):
        for column in range(len(columns)):
            chunk = file.metadata.row_group(group).column(column)
            assert chunk.compression == expected_codec, chunk.compression
    said = {key.decode(): value.decode() for key, value in file.metadata.metadata.items()}
    check_key_values(said, index)


def check_key_values(said, index):
    header = index.expected["header"]
    wanted = {
        "dimension": index.dimension,
        "m": header["M"],
        "ef_construction": header["ef_construction"],
        "cur_element_count": header["cur_element_count"],
        "max_elements": header["max_elements"],
    }
    found = {key: said.get(f"hnsw_toolbox.{key}") for key in wanted}
    assert found == {key: str(value) for key, value in wanted.items()}, found
    assert said.get("hnsw_toolbox.version"), "no hnsw_toolbox.version"


def arrow_table_rows(table, dimension):
    check_arrow_schema(table.schema, dimension)
    table.validate(full=True)
    rows = {name: table[name].to_pylist() for name in COLUMNS[:-1]}
    rows["vector"] = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), dimension)
    return rows


def read_pyarrow(path, index):
    if path.suffix == ".parquet":
        table = pa.parquet.read_table(path)
    else:
        with pa.ipc.open_file(path) as reader:
            check_key_values({k.decode(): v.decode() for k, v in reader.schema.metadata.items()}, index)
            table = reader.read_all()
    return arrow_table_rows(table, index.dimension)


def read_pandas(path, index):
    # Nullable types: otherwise a column with a null becomes floats, which hold only 53 bits of a seq_id.
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path, dtype_backend="numpy_nullable")
    else:
        frame = pd.read_feather(path, dtype_backend="numpy_nullable")
    assert list(frame.columns) == COLUMNS, list(frame.columns)
    types = [str(frame[name].dtype) for name in ("internal_id", "label", "deleted", "seq_id")]
    assert types == ["UInt64", "UInt64", "boolean", "UInt64"], types
    rows = {n: [None if v is pd.NA else v for v in frame[n].astype(object)] for n in COLUMNS[:-1]}
    assert all(vector.dtype == np.float32 for vector in frame["vector"])
    rows["vector"] = vectors(frame["vector"], index.dimension)
    return rows


def read_polars(path, index):
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_ipc(path)
    assert frame.schema == {
        "internal_id": pl.UInt64,
        "label": pl.UInt64,
        "deleted": pl.Boolean,
        "user_id": pl.String,
        "seq_id": pl.UInt64,
        "vector": pl.Array(pl.Float32, index.dimension),
    }, frame.schema
    rows = {name: frame[name].to_list() for name in COLUMNS[:-1]}
    rows["vector"] = frame["vector"].to_numpy().reshape(len(frame), index.dimension)
    return rows


def read_duckdb(path, index):
    with duckdb.connect() as connection:
        if path.suffix == ".parquet":
            relation = connection.read_parquet(str(path))
        else:
            # DuckDB reads Arrow IPC through Arrow's own memory.
            with pa.ipc.open_file(path) as reader:
                relation = connection.from_arrow(reader.read_all())
        assert relation.columns == COLUMNS, relation.columns
        types = [str(type) for type in relation.types]
        # DuckDB reads Parquet's standard list and ignores the Arrow schema.
        vector = "FLOAT[]" if path.suffix == ".parquet" else f"FLOAT[{index.dimension}]"
        assert types == ["UBIGINT", "UBIGINT", "BOOLEAN", "VARCHAR", "UBIGINT", vector], types
        fetched = relation.fetchall()
    rows = {name: [row[i] for row in fetched] for i, name in enumerate(COLUMNS[:-1])}
    rows["vector"] = vectors((row[-1] for row in fetched), index.dimension)
    return rows


def query_duckdb(path, index, expected):
    """Checks that a filter finds the same rows as a scan: DuckDB skips row groups by their statistics."""
    with duckdb.connect() as connection:
        for label in sorted(expected["label"])[:: max(1, len(expected["label"]) // 20)]:
            query = "SELECT internal_id FROM read_parquet(?) WHERE label = ?"
            found = [id for (id,) in connection.execute(query, [str(path), label]).fetchall()]
            wanted = [id for id, l in zip(expected["internal_id"], expected["label"]) if l == label]
            assert sorted(found) == wanted, f"label {label}: {found}, not {wanted}"


READERS = {"pyarrow": read_pyarrow, "pandas": read_pandas, "polars": read_polars, "DuckDB": read_duckdb}


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, test):
        try:
            test()
        # A panic inside polars is not an Exception.
        except (Exception, pl.exceptions.PanicException) as error:
            self.failed += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"FAILED {name}: {type(error).__name__}: {error} (line {where.lineno})")
        else:
            self.passed += 1


def extract(toolbox, index, out, compression, include_deleted, metadata, batch_size):
    command = [toolbox, "extract", index.segment, "--output", out, "--json", "--quiet"]
    command += ["--batch-size", str(batch_size)]
    if compression != "none":
        command += ["--compression", compression]
    if include_deleted:
        command.append("--include-deleted")
    if not metadata:
        command.append("--no-metadata")
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr}"
    assert done.stderr == "", f"standard error: {done.stderr}"
    return json.loads(done.stdout)


def check_summary(response, index, out, expected, metadata):
    """Returns the fields that the contract names; a summary can have more."""
    header = index.expected["header"]
    emitted = len(expected["label"])
    summary = response.pop("summary")
    output_format = "parquet" if out.suffix == ".parquet" else "arrow_ipc"
    assert response == {"output_path": str(out), "output_format": output_format, "complete": True}, response
    wanted = {
        "scanned": index.count,
        "emitted": emitted,
        "deleted_skipped": index.count - emitted,
        "dimension": index.dimension,
        "index_properties": {
            "m": header["M"],
            "ef_construction": header["ef_construction"],
            "cur_element_count": header["cur_element_count"],
            "max_elements": header["max_elements"],
            "persisted_version": header["version"],
            "word_size_bytes": 8,
        },
    }
    assert {key: summary.get(key) for key in wanted} == wanted, summary
    if metadata and (index.segment / "index_metadata.pickle").exists():
        rows_with_user_id = sum(id is not None for id in expected["user_id"])
        wanted = {"rows_with_user_id": rows_with_user_id, "labels_without_record": 0}
        found = summary.get("metadata") or {}
        assert {key: found.get(key) for key in wanted} == wanted, summary
    else:
        assert summary.get("metadata") is None, summary


def check_fixture(report, toolbox, index, scratch):
    runs = [
        (format, compression, include_deleted, metadata, batch_size)
        for format, compression in OUTPUTS
        for include_deleted in (False, True)
        for metadata in (True, False)
        # Many small pages and record batches, and the default.
        for batch_size in (7, 1024)
    ]
    for number, (format, compression, include_deleted, metadata, batch_size) in enumerate(runs):
        name = f"{index.name} {format} {compression} batch_size={batch_size}"
        name += " include_deleted" if include_deleted else ""
        name += "" if metadata else " no_metadata"
        out = scratch / f"{number}.{format}"
        expected = index.rows(include_deleted, metadata)

        def run():
            response = extract(toolbox, index, out, compression, include_deleted, metadata, batch_size)
            check_summary(response, index, out, expected, metadata)

        report.check(f"{name}: extract", run)
        if not out.exists():
            continue
        if format == "parquet":
            report.check(f"{name}: Parquet schema", lambda: check_parquet_schema(out, index, compression))
            report.check(f"{name}: DuckDB filter", lambda: query_duckdb(out, index, expected))
        for reader, read in READERS.items():

            def compare():
                rows = read(out, index)
                assert_same_rows(rows, expected)
                index.check_against_chroma(rows)

            report.check(f"{name}: {reader}", compare)
        out.unlink()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    toolbox = pathlib.Path(sys.argv[1]).resolve()
    report = Report()
    cases = sorted(path.parent for path in FIXTURES.glob("*/*/expected.json"))
    assert cases, f"no fixtures in {FIXTURES}"
    with tempfile.TemporaryDirectory() as scratch:
        for case in cases:
            check_fixture(report, toolbox, Index(case), pathlib.Path(scratch))
    print(f"{report.passed} passed, {report.failed} failed")
    sys.exit(report.failed > 0)


if __name__ == "__main__":
    main()
