"""Checks that `hnsw-toolbox export` equals the output of Chroma's own client.

    check_export.py PATH_OF_HNSW_TOOLBOX [PYTHON_WITH_CHROMADB ...]

Chroma adds, updates, upserts and deletes at random, in collections of each distance; the export of its persist
directory is compared with get(), in every value, read by pyarrow; and DuckDB reads the metadata, as JSON and as typed
columns. Each further argument is another Python whose chromadb writes: any version from 0.4.24 on.
"""

import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

WRITER = pathlib.Path(__file__).resolve().parent / "write_collections.py"
# In memory, because Chroma waits for the disk at each call.
SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
SEEDS = [1, 2]
OPERATIONS = 250


def read(path):
    if path.suffix == ".parquet":
        return pa.parquet.read_table(path)
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def check_vectors(table, records, exact, context):
    assert pa.types.is_fixed_size_list(table.schema.field("vector").type), context
    for found, record in zip(table.column("vector").to_pylist(), records):
        expected = record["vector"]
        if expected is None:
            assert found is not None, f"{context}: {record['id']}: the vector that Chroma lost is not found in the log"
        elif exact:
            assert found == expected, f"{context}: {record['id']}"
        else:
            scale = max(map(abs, expected))
            assert np.allclose(found, expected, rtol=0, atol=3e-7 * scale), f"{context}: {record['id']}"


def same(found, expected):
    if isinstance(expected, float) and math.isinf(expected):
        return found == ("Infinity" if expected > 0 else "-Infinity")
    return type(found) is type(expected) and found == expected


def check_metadata(texts, records, context):
    for text, record in zip(texts, records):
        expected = record["metadata"] or {}
        found = json.loads(text) if text is not None else {}
        assert found.keys() == expected.keys(), f"{context}: {record['id']}: {found}, {expected}"
        assert list(found) == sorted(found), f"{context}: {record['id']}: keys are not sorted"
        for key, value in expected.items():
            assert same(found[key], value), f"{context}: {record['id']}: {key}: {found[key]!r}, {value!r}"


def check_columns(table, records, json_columns, context):
    columns = {name: table.column(name).to_pylist() for name in table.column_names if name.startswith("metadata.")}
    for row, record in enumerate(records):
        expected = record["metadata"] or {}
        found = {name.removeprefix("metadata."): values[row] for name, values in columns.items()}
        found = {key: value for key, value in found.items() if value is not None}
        for key in found:
            if f"metadata.{key}" in json_columns:
                found[key] = json.loads(found[key])
        assert found.keys() == expected.keys(), f"{context}: {record['id']}: {found}, {expected}"
        for key, value in expected.items():
            assert same(found[key], value), f"{context}: {record['id']}: {key}: {found[key]!r}, {value!r}"


def check_duckdb(json_file, columns_file, records, context):
    """Checks that JSON functions over one file and typed columns of the other agree with the client."""
    rows = duckdb.sql(
        f"""SELECT a.id, a.metadata->>'$.text', CAST(a.metadata->>'$.int' AS BIGINT), b."metadata.text",
                   b."metadata.int", b."metadata.float", b."metadata.bool"
            FROM read_parquet('{json_file}') a JOIN read_parquet('{columns_file}') b USING (id)"""
    ).fetchall()
    found = {row[0]: row[1:] for row in rows}
    assert len(found) == len(records), context
    for record in records:
        values = record["metadata"] or {}
        text, number = values.get("text"), values.get("int")
        expected = (text, number, text, number, values.get("float"), values.get("bool"))
        assert found[record["id"]] == expected, f"{context}: {record['id']}: {found[record['id']]}, {expected}"


def check(toolbox, python, seed):
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        directory = pathlib.Path(directory)
        subprocess.run([python, WRITER, directory, str(seed), str(OPERATIONS)], check=True)
        truth = json.loads((directory / "truth.json").read_text())
        outputs = {}
        for metadata in ["json", "columns"]:
            for format in ["parquet", "arrow_ipc"]:
                output = directory / f"{metadata}-{format}"
                command = [toolbox, "export", directory / "persist", "-o", output, "--metadata", metadata]
                subprocess.run([*command, "--format", format], check=True, stdout=subprocess.DEVNULL)
                outputs[metadata, format] = output
        rows = 0
        for space, collection in truth["collections"].items():
            for (metadata, format), output in outputs.items():
                context = f"chromadb {truth['chromadb']}, seed {seed}, {space}, {metadata}, {format}"
                manifest = json.loads((output / "manifest.json").read_text())
                file = next(file for file in manifest["files"] if file["collection"] == f"by-{space}")
                assert file["collection_id"] == collection["id"] and file["metric"] == space, context
                assert file["without_vector"] == 0, f"{context}: {file['findings']}"
                table = read(output / file["file"])
                records = collection["records"]
                if truth["chromadb"].startswith("0.4."):
                    # There, get() sorts by the bytes of the ids.
                    by_id = {record["id"]: record for record in records}
                    assert len(by_id) == table.num_rows, context
                    records = [by_id[id] for id in table.column("id").to_pylist()]
                assert table.column("id").to_pylist() == [record["id"] for record in records], context
                documents = [record["document"] for record in records]
                assert table.column("document").to_pylist() == documents, context
                check_vectors(table, records, space != "cosine", context)
                if metadata == "json":
                    check_metadata(table.column("metadata").to_pylist(), records, context)
                else:
                    check_columns(table, records, file.get("json_columns", []), context)
                rows += table.num_rows
            files = [outputs[metadata, "parquet"] / f"by-{space}.parquet" for metadata in ["json", "columns"]]
            check_duckdb(*files, collection["records"], f"chromadb {truth['chromadb']}, {space}, DuckDB")
        print(f"chromadb {truth['chromadb']}, seed {seed}: {rows} rows as get() returns them")


def main(toolbox, *pythons):
    for python in pythons or [sys.executable]:
        for seed in SEEDS:
            check(toolbox, python, seed)


if __name__ == "__main__":
    main(*sys.argv[1:])
