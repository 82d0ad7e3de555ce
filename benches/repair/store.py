#!/usr/bin/env python3
"""Time and memory of repairing a whole store, compared with cp, with SQLite and with Chroma.

    python3 benches/repair/store.py [--count 100000] [--dimension 384] [--repeat 3] [--adds 1]
                                    [--stores sound,no-text,no-segment]
                                    [--toolbox target/release/hnsw-toolbox] [--make-only] [--record]

Chroma 1.5.9, in target/interop-chroma/1.5.9, makes a store in target/bench-store: documents of 500 bytes,
three metadata keys, cosine, defaults otherwise, batches of 5,000. Its queue is never purged, as in a
database that Chroma < 0.5.6 created. The store is kept for later runs. Three stores are derived from it:

sound       the queue is purged up to its last row, and the database vacuumed
no-text     the same without the full-text table
no-segment  the queue is complete, and the segment directory is gone

Each repair takes turns with its baseline, REPEAT times, and the fastest run of each counts:

sound       `cp -r`
no-text     SQLite's own INSERT of the same documents into a trigram table, in one transaction
no-segment  Chroma's own add of the same records, ADDS times because it takes minutes. With --adds 0
            it is the run that made the store

With --record the figures go into benches/results.json.
"""

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / "benches"), str(HERE.parent)]
from repair import run  # noqa: E402
from report import record  # noqa: E402

CHROMA = "1.5.9"
VENV = ROOT / "target" / "interop-chroma" / CHROMA
WORK = ROOT / "target" / "bench-store"
BATCH, DOCUMENT_BYTES = 5000, 500


def python():
    """Returns the interpreter with Chroma. tests/interop/chroma/run makes the same environment."""
    if not (VENV / "complete").exists():
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        packages = [f"chromadb=={CHROMA}", "numpy==1.26.4"]
        subprocess.run([VENV / "bin/python", "-m", "pip", "install", "--quiet", *packages], check=True)
        (VENV / "complete").touch()
    return VENV / "bin" / "python"


def records(count, dimension):
    """Yields batches of ids, vectors, documents and metadata. Equal arguments give equal batches."""
    import random

    import numpy as np

    # Points of a smooth surface in 24 dimensions, with a little noise: see repair.py.
    draw = np.random.default_rng(1)
    mixing = draw.standard_normal((24, dimension), dtype=np.float32) / np.float32(24**0.5)
    rng = random.Random(14)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(5000)]
    for start in range(0, count, BATCH):
        rows = range(start, min(start + BATCH, count))
        vectors = np.tanh(1.5 * draw.standard_normal((len(rows), 24), dtype=np.float32) @ mixing)
        vectors += 0.02 * draw.standard_normal(vectors.shape, dtype=np.float32)
        yield {
            "ids": [f"record-{row:08}" for row in rows],
            "embeddings": vectors,
            "documents": [" ".join(rng.choices(words, k=63))[:DOCUMENT_BYTES] for _ in rows],
            "metadatas": [
                {"page": row % 100, "score": rng.random(), "source": f"file-{row % 1000}.txt"} for row in rows
            ],
        }


def start(persist):
    """Makes an empty store that never purges its queue."""
    import chromadb

    chromadb.PersistentClient(path=persist).create_collection("bench", configuration={"hnsw": {"space": "cosine"}})
    database = sqlite3.connect(f"{persist}/chroma.sqlite3")
    never = '{"automatically_purge": false, "_type": "EmbeddingsQueueConfigurationInternal"}'
    database.execute("INSERT OR REPLACE INTO embeddings_queue_config VALUES (1, ?)", [never])
    database.commit()


def add(persist, count, dimension):
    """Adds the records, to a new store unless `start` has made one."""
    import chromadb

    client = chromadb.PersistentClient(path=persist)
    collection = client.get_or_create_collection("bench", configuration={"hnsw": {"space": "cosine"}})
    for batch in records(int(count), int(dimension)):
        collection.add(**batch)
    # Waits until the last batch is in the segment.
    collection.query(query_embeddings=batch["embeddings"][:1], n_results=1)


def step(name, *arguments):
    """Returns the command that runs a function of this file with Chroma."""
    return [python(), HERE, "--step", name, *map(str, arguments)]


def make(place, count, dimension):
    """Makes the store and its variants, unless they are there. Returns the figures of Chroma's add."""
    made = place / "made.json"
    if not made.exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        subprocess.run(step("start", place / "store"), check=True)
        load = os.getloadavg()[0]
        seconds, processor, mebibytes = run(step("add", place / "store", count, dimension))
        derive(place)
        how = f"Chroma {CHROMA}, add in batches of {BATCH:,}, the queue never purged, load {load:.1f} when it began"
        figures = {"seconds": seconds, "processor": processor, "mebibytes": mebibytes, "how": how}
        made.write_text(json.dumps(figures, indent=1))
    figures = json.loads(made.read_text())
    print(f"{place}: {figures['how']}: {figures['seconds']:.0f} s, {figures['processor']:.0f} s of processor, "
          f"{figures['mebibytes']:.0f} MiB at most")
    for store in ["store", "sound", "no-text", "no-segment"]:
        print(f"{store:<12}{size(place / store) / 2**20:8.0f} MiB")
    return figures["seconds"], figures["processor"], figures["mebibytes"]


def derive(place):
    for store in ["sound", "no-segment"]:
        shutil.copytree(place / "store", place / store)
    change(
        place / "sound",
        "DELETE FROM embeddings_queue WHERE seq_id < (SELECT max(seq_id) FROM embeddings_queue)",
        "UPDATE embeddings_queue_config SET config_json_str = replace(config_json_str, 'false', 'true')",
    )
    shutil.copytree(place / "sound", place / "no-text")
    change(place / "no-text", "DROP TABLE embedding_fulltext_search")
    database = sqlite3.connect(place / "no-segment" / "chroma.sqlite3")
    (segment,) = database.execute("SELECT id FROM segments WHERE scope = 'VECTOR'").fetchone()
    shutil.rmtree(place / "no-segment" / segment)


def change(persist, *statements):
    database = sqlite3.connect(persist / "chroma.sqlite3", isolation_level=None)
    for statement in (*statements, "VACUUM"):
        database.execute(statement)
    database.close()


def text(persist, new):
    """SQLite's own trigram table of the store's documents."""
    database = sqlite3.connect(new, isolation_level=None)
    database.execute("ATTACH ? AS store", [f"{persist}/chroma.sqlite3"])
    database.execute("BEGIN")
    database.execute("CREATE VIRTUAL TABLE t USING fts5(string_value, tokenize='trigram')")
    database.execute("INSERT INTO t (rowid, string_value) SELECT id, string_value FROM store.embedding_metadata "
                     "WHERE key = 'chroma:document' ORDER BY id")
    database.execute("COMMIT")


def size(directory):
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def clean(*paths):
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def compare(toolbox, place, count, dimension, repeat, adds, chosen, recorded):
    made = make(place, count, dimension)
    new, copy, database, added = (place / name for name in ["new", "copy", "text.sqlite3", "added"])
    repair = lambda store: [toolbox, "repair", place / store, "-o", new, "--quiet", "--json"]
    runs = {}
    for turn in range(repeat):
        for store, name, baseline, times in [
            ("sound", "cp -r", ["cp", "-r", place / "sound", copy], repeat),
            ("no-text", "SQLite's INSERT into a trigram table", step("text", place / "sound", database), repeat),
            ("no-segment", "Chroma's add", step("add", added, count, dimension), adds),
        ]:
            if store not in chosen:
                continue
            measured, repaired = runs.setdefault(store, ((name, []), ("hnsw-toolbox repair", [])))
            if turn < times:
                measured[1].append(run(baseline))
            repaired[1].append(run(repair(store)))
            clean(new, copy, database, added)
    if not adds and "no-segment" in runs:
        runs["no-segment"][0][1].append(made)
    titles = {
        "sound": "Repair a sound store of {}",
        "no-text": "Repair a store of {} without its full-text table",
        "no-segment": "Repair a store of {} from its queue, the segment lost",
    }
    for store, measured in runs.items():
        print(titles[store].format(f"{count:,} × {dimension}"))
        rows = []
        for name, usages in measured:
            seconds, processor, _ = min(usages)
            mebibytes = max(usage[2] for usage in usages)
            row = {"name": name, "seconds": round(seconds, 2), "processor": round(processor, 2),
                   "mebibytes": round(mebibytes)}
            rows.append(row | ({"ours": True} if name == "hnsw-toolbox repair" else {}))
            print(f"    {name:<38}{seconds:8.2f} s{processor:8.2f} s of processor{mebibytes:8.0f} MiB at most, "
                  f"{seconds / rows[0]['seconds']:.2f} x, {len(usages)} runs", flush=True)
        if recorded:
            title = titles[store].format(f"{count:,} × {dimension}") + ", documents of 500 bytes"
            record(f"repair-store-{store}", title, "make bench-repair", rows)


if __name__ == "__main__":
    os.environ["ANONYMIZED_TELEMETRY"] = "False"
    if sys.argv[1:2] == ["--step"]:
        {"start": start, "add": add, "text": text}[sys.argv[2]](*sys.argv[3:])
        sys.exit()
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--adds", type=int, default=1)
    parser.add_argument("--stores", default="sound,no-text,no-segment")
    parser.add_argument("--toolbox", default=ROOT / "target/release/hnsw-toolbox")
    parser.add_argument("--make-only", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    place = WORK / f"{options.count}x{options.dimension}"
    if options.make_only:
        make(place, options.count, options.dimension)
    else:
        compare(options.toolbox, place, options.count, options.dimension, options.repeat, options.adds,
                options.stores.split(","), options.record)
