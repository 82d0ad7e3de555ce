#!/usr/bin/env python3
"""Time, memory and recall of importing a Parquet file, compared with Chroma's own add.

    python3 benches/import/import.py [--count 100000] [--dimension 384] [--repeat 3] [--adds 1]
                                     [--toolbox target/release/hnsw-toolbox] [--alone] [--record]

benches/repair/store.py makes the records: documents of 500 bytes, three metadata keys, cosine. Chroma
1.5.9 adds them in batches of 5,000. The file has the same records, exported from a store of Chroma's. Imports
take turns with adds, which take minutes: ADDS of them. The fastest run of each counts, and the largest memory.

Chroma then searches both stores: the recall is the share of the 10 nearest of 500 records that it finds, by
exact comparison.

With --alone the file is written by this script, and nothing is compared: for counts that Chroma would take
hours to add. With --record the figures go into benches/results.json.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / "benches"), str(ROOT / "benches" / "repair")]
from repair import run  # noqa: E402
from report import record  # noqa: E402
import store  # noqa: E402

QUERIES, NEIGHBOURS = 500, 10


def empty(persist):
    import chromadb

    chromadb.PersistentClient(path=persist)


def recall(persist, count, dimension):
    """Prints the recall of Chroma's searches."""
    import chromadb
    import numpy as np

    matrix = np.concatenate([batch["embeddings"] for batch in store.records(int(count), int(dimension))])
    ids = [f"record-{row:08}" for row in range(len(matrix))]
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    rows = np.arange(0, len(matrix), max(1, len(matrix) // QUERIES))[:QUERIES]
    # Between two records: a record's own vector would be too easy to find.
    queries = matrix[rows] + matrix[rows[::-1]] / 4
    exact = np.argpartition(-(queries @ matrix.T), NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    client = chromadb.PersistentClient(path=persist)
    (name,) = [getattr(found, "name", found) for found in client.list_collections()]
    collection = client.get_collection(name)
    found = collection.query(query_embeddings=queries, n_results=NEIGHBOURS, include=[])["ids"]
    hits = sum(len({ids[row] for row in wanted} & set(answer)) for wanted, answer in zip(exact, found))
    print(hits / (len(rows) * NEIGHBOURS))


def write(path, count, dimension):
    """Writes the records to a Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    writer = None
    for batch in store.records(int(count), int(dimension)):
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(batch["embeddings"].ravel()), int(dimension))
        columns = {"id": batch["ids"], "embedding": vectors, "document": batch["documents"]}
        columns |= {f"metadata.{key}": [one[key] for one in batch["metadatas"]] for key in batch["metadatas"][0]}
        table = pa.table(columns)
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def step(name, *arguments):
    return [store.python(), HERE, "--step", name, *map(str, arguments)]


def measure_recall(persist, count, dimension):
    done = subprocess.run(step("recall", persist, count, dimension), capture_output=True, text=True)
    return round(float(done.stdout.split()[-1]), 4) if done.returncode == 0 else sys.exit(done.stderr)


def compare(options):
    count, dimension = options.count, options.dimension
    place = store.WORK / f"{count}x{dimension}"
    new, added, empty_store = (place / name for name in ["imported", "added", "empty"])
    store.clean(new, added)
    if options.alone:
        place.mkdir(parents=True, exist_ok=True)
        file = place / "records.parquet"
        if not file.exists():
            venv = ROOT / "target" / "interop-venv" / "bin" / "python"
            subprocess.run([venv, HERE, "--step", "write", file, str(count), str(dimension)], check=True)
    else:
        store.make(place, count, dimension)
        file = place / "records"
        if not file.exists():
            subprocess.run([options.toolbox, "export", place / "sound", "-o", file, "--metadata", "columns", "--quiet"],
                           check=True)
    if not empty_store.exists():
        subprocess.run(step("empty", empty_store), check=True)
    imports, adds = [], []
    for turn in range(options.repeat):
        if not options.alone and turn < options.adds:
            adds.append(run(store.step("add", added, count, dimension)))
            theirs = measure_recall(added, count, dimension)
            store.clean(added)
        extra = ["--collection", "bench", "--metric", "cosine"] if options.alone else []
        imports.append(run([options.toolbox, "import", file, "--into", empty_store, "-o", new, "--quiet", "--json",
                            *extra]))
        if turn + 1 < options.repeat:
            store.clean(new)
    ours = measure_recall(new, count, dimension)
    size = store.size(new)
    rows = []
    runs = [("Chroma's add", adds, theirs)] if adds else []
    for name, usages, found in [*runs, ("hnsw-toolbox import", imports, ours)]:
        seconds, processor, _ = min(usages)
        row = {"name": name, "seconds": round(seconds, 2), "processor": round(processor, 2),
               "mebibytes": round(max(usage[2] for usage in usages)), "recall": found}
        rows.append(row | ({"ours": True} if name == "hnsw-toolbox import" else {}))
        print(f"{name:<22}{seconds:8.2f} s{processor:8.2f} s of processor{row['mebibytes']:6} MiB at most, "
              f"recall {found}, {len(usages)} runs")
    print(f"new store: {size / 2**20:.0f} MiB")
    store.clean(new)
    if options.record:
        title = f"Import {count:,} × {dimension} from Parquet into an empty store, documents of 500 bytes"
        record(f"import-{count}", title, "make bench-import", rows)


if __name__ == "__main__":
    os.environ["ANONYMIZED_TELEMETRY"] = "False"
    if sys.argv[1:2] == ["--step"]:
        {"empty": empty, "recall": recall, "write": write}[sys.argv[2]](*sys.argv[3:])
        sys.exit()
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--adds", type=int, default=1)
    parser.add_argument("--toolbox", default=ROOT / "target/release/hnsw-toolbox")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--record", action="store_true")
    compare(parser.parse_args())
