"""Checks that an Arrow C stream and the command line's `-o -` give the content of the file.

    check_stream.py PATH_OF_HNSW_TOOLBOX LIBRARY

For every segment and collection of the fixtures, by examples/stream.py: the schema, the key-value metadata and every
value equal an Arrow IPC file with the same batches. DuckDB and polars read the reader as it is. A reader that is
dropped half way and errors leave the process alive.
"""

import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.ipc

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))
from stream import open_stream  # noqa: E402

FIXTURES = ROOT / "tests" / "fixtures"


def read(path):
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        return reader.schema, [reader.get_batch(i) for i in range(reader.num_record_batches)]


def same(reader, path, in_c=True):
    schema, batches = read(path)
    # Names in C end with a NUL, so inner NULs are escaped.
    names = [name.replace("\0", "\\0") if in_c else name for name in schema.names]
    schema = pa.schema([field.with_name(name) for field, name in zip(schema, names)], schema.metadata)
    batches = [batch.rename_columns(names).replace_schema_metadata(schema.metadata) for batch in batches]
    assert reader.schema.equals(schema, check_metadata=True), (reader.schema, schema)
    streamed = list(reader)
    for batch in streamed:
        batch.validate(full=True)

    # As bytes, because NaN is not equal to NaN.
    def content(batches):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return sink.getvalue()

    assert content(streamed).equals(content(batches)), path
    return sum(batch.num_rows for batch in streamed)


def run(toolbox, *arguments):
    result = subprocess.run([toolbox, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def same_piped(path, toolbox, *arguments):
    """The same for a stream on standard output, read while it is written."""
    command = [toolbox, *map(str, arguments), "-o", "-", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        with pa.ipc.open_stream(process.stdout) as reader:
            rows = same(reader, path, in_c=False)
    assert process.returncode == 0, process.returncode
    return rows


def main(toolbox, library):
    rows = streams = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for segment in sorted((FIXTURES / "chroma").glob("*/*/segment")):
            file = scratch / "index.arrow"
            arguments = ["extract", segment, "--include-deleted", "--batch-size", 100]
            run(toolbox, *arguments, "-o", file, "--quiet")
            rows += same_piped(file, toolbox, *arguments)
            request = {"index_dir": str(segment), "include_deleted": True, "batch_size": 100}
            if (segment / "index_metadata.pickle").exists():
                request["metadata_path"] = str(segment / "index_metadata.pickle")
            rows += same(open_stream(library, **request), file)
            table = open_stream(library, **request).read_all()
            reader = open_stream(library, **request)
            count, total = duckdb.sql("SELECT count(*), sum(list_sum(vector::DOUBLE[])) FROM reader").fetchall()[0]
            assert count == table.num_rows, segment
            assert total is None or abs(total - sum(map(sum, table.column("vector").to_pylist()))) <= 1e-6 * (1 + abs(total))
            frame = pl.from_arrow(open_stream(library, **request).read_all())
            assert frame["label"].to_list() == table.column("label").to_pylist()
            streams += 5
        for archive in sorted((FIXTURES / "persist").glob("*.tar.gz")):
            directory = scratch / archive.name
            with tarfile.open(archive) as tar:
                tar.extractall(directory, filter="data")
            (persist,) = [path.parent for path in directory.rglob("chroma.sqlite3")]
            listed = json.loads(run(toolbox, "collections", persist, "--json"))["collections"]
            for number, collection in enumerate(listed):
                place = {key: collection[key] for key in ("database", "tenant")}
                file = scratch / "collection.arrow"
                form = ["json", "columns"][number % 2]
                arguments = ["export", persist, "--collection", collection["name"]]
                arguments += ["--database", place["database"], "--tenant", place["tenant"]]
                arguments += ["--metadata", form, "--index-columns"]
                run(toolbox, *arguments, "-o", file, "--quiet")
                rows += same_piped(file, toolbox, *arguments)
                request = {"collections": [collection["name"]], "metadata": form, "index_columns": True, **place}
                rows += same(open_stream(library, persist_dir=str(persist), **request), file)
                streams += 2
        for request in [{"index_dir": "/nowhere"}, {"persist_dir": str(persist)}, {"index_dir": 1}, {}]:
            try:
                open_stream(library, **request)
            except OSError as error:
                assert str(error).startswith("[E"), error
            else:
                raise AssertionError(request)
        for _ in range(200):
            # Dropped before its end, sometimes immediately.
            reader = open_stream(library, index_dir=str(FIXTURES / "chroma" / "1.5.9" / "churn" / "segment"), batch_size=1)
            kept = reader.read_next_batch()
            del reader
            kept.validate(full=True)
    print(f"{streams} streams of {rows} rows are what the files hold")


main(*sys.argv[1:])
