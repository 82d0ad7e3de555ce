"""Time and memory of an export, compared with Chroma's own `get()` and with `cp -r`.

    bench_export.py PATH_OF_HNSW_TOOLBOX [--record]

Chroma 1.5 makes a persist directory of 100,000 × 384 with documents of 500 bytes and metadata.
Then, five times in turn: `cp -r` of it; the export of it; and `get(include=[embeddings, documents, metadatas])`, paged
through, each in a process of its own. The median of each is shown, and the peak of resident memory. A larger directory
is synthetic, of 1,000,000 × 384, and shows memory only; HNSW_TOOLBOX_BENCH_LARGE=0 leaves it out. With --record the
figures go into benches/results.json.
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from report import record  # noqa: E402

PAGE = 5000
RECORDS, DIMENSION = 100_000, 384
ROUNDS = 5

WRITE = """
import sys, random, os
os.environ["ANONYMIZED_TELEMETRY"] = "False"
import chromadb, numpy as np
path, records, dimension = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(14)
words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(5000)]
client = chromadb.PersistentClient(path=path)
configuration = {"hnsw": {"space": "cosine", "ef_construction": 20, "max_neighbors": 16}}
collection = client.create_collection("bench", configuration=configuration)
vectors = np.random.default_rng(14).standard_normal((records, dimension), dtype=np.float32)
for start in range(0, records, 5000):
    rows = range(start, min(start + 5000, records))
    collection.add(
        ids=[f"record-{row:08}" for row in rows],
        embeddings=vectors[start : start + 5000],
        documents=[" ".join(rng.choices(words, k=63))[:500] for row in rows],
        metadatas=[{"page": row % 100, "score": rng.random(), "source": f"file-{row % 1000}.txt"} for row in rows],
    )
"""

GET = """
import sys, os
os.environ["ANONYMIZED_TELEMETRY"] = "False"
import chromadb
collection = chromadb.PersistentClient(path=sys.argv[1]).get_collection("bench")
rows = 0
while True:
    page = collection.get(include=["embeddings", "documents", "metadatas"], limit=int(sys.argv[2]), offset=rows)
    if not page["ids"]:
        break
    rows += len(page["ids"])
print(rows)
"""


def timed(command):
    """Returns wall seconds, processor seconds and peak MiB."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def size(directory):
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def show(name, runs, base=None):
    wall, processor, memory = (statistics.median(values) for values in zip(*runs))
    ratio = f", {wall / base:.2f} x cp -r" if base else ""
    print(f"{name:<22}{wall:8.2f} s{processor:8.2f} s of processor{memory:8.0f} MiB{ratio}")
    return {"seconds": round(wall, 2), "processor": round(processor, 2), "mebibytes": round(memory)}


def compare(toolbox, directory, recorded):
    persist = directory / "persist"
    subprocess.run([sys.executable, "-c", WRITE, persist, str(RECORDS), str(DIMENSION)], check=True)
    mebibytes = round(size(persist) / 2**20)
    print(f"{RECORDS} x {DIMENSION}, {mebibytes} MiB")
    copies, exports, gets = [], [], []
    for _ in range(ROUNDS):
        copies.append(timed(["cp", "-r", persist, directory / "copy"]))
        shutil.rmtree(directory / "copy")
        exports.append(timed([toolbox, "export", persist, "-o", directory / "out", "--quiet"]))
        shutil.rmtree(directory / "out")
        gets.append(timed([sys.executable, "-c", GET, persist, str(PAGE)]))
    copy = show("cp -r", copies)
    export = show("export", exports, copy["seconds"])
    get = show("get(), paged", gets, copy["seconds"])
    print(f"the export takes 1/{get['seconds'] / export['seconds']:.1f} of the time of get()")
    if recorded:
        read = [{"name": "the persist directory", "value": mebibytes, "unit": "MiB"}]
        record("export-input", "What an export reads", "make bench-export", read)
        record(
            "export",
            f"Export a collection of {RECORDS:,} × {DIMENSION} with documents and metadata: wall time",
            "make bench-export",
            [
                {"name": "hnsw-toolbox export", "ours": True, **export},
                {"name": "Chroma's get(), paged", **get},
                {"name": "cp -r", **copy},
            ],
        )


def large(toolbox, directory, recorded):
    records, dimension = 1_000_000, 384
    persist = directory / "large"
    subprocess.run([sys.executable, HERE / "synthetic_persist.py", persist, str(records), str(dimension)], check=True)
    pickle = max(path.stat().st_size for path in persist.rglob("index_metadata.pickle"))
    _, _, memory = timed([toolbox, "export", persist, "-o", directory / "out", "--quiet"])
    limit = 64 + (48 * records + pickle) / 2**20
    print(f"{records} x {dimension}, {size(persist) / 2**20:.0f} MiB: {memory:.0f} MiB at most, of {limit:.0f} that it may take")
    if recorded:
        record(
            "export-memory",
            f"Peak resident memory of an export of {records:,} records",
            "make bench-export",
            [
                {
                    "name": f"peak memory, {records:,} × {dimension}, documents of 500 bytes, ids of 36",
                    "value": round(memory),
                    "unit": "MiB",
                },
                {"name": "of which is the mapped pickle", "value": round(pickle / 2**20), "unit": "MiB"},
            ],
        )


def main(toolbox, *options):
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        recorded = "--record" in options
        compare(toolbox, directory, recorded)
        if os.environ.get("HNSW_TOOLBOX_BENCH_LARGE") != "0":
            large(toolbox, directory, recorded)


if __name__ == "__main__":
    main(*sys.argv[1:])
