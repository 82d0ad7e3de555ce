#!/usr/bin/env python3
"""Recall of repaired indexes, and the time and memory that a repair takes.

    python3 benches/repair/repair.py recall [--sizes 20000x64,50000x128] [--spaces l2,cosine,ip]
                                            [--deleted 0,10,50,90] [--latent 24] [--record]
    python3 benches/repair/repair.py cost [--count 1000000] [--dimension 384] [--deleted 0,10,50,90] [--record]

It makes a virtual environment in target/bench-repair/venv with numpy and chroma-hnswlib, which is
Chroma's own, and takes target/release/hnsw-toolbox.

recall: hnswlib builds an index (M 16, ef_construction 100) of points of a smooth surface with a
little noise, as benches/graphs does, marks records as deleted, and searches it; then it searches
what `repair` made of it. Both are held against the true neighbours among the records that are not
deleted. What `keep` and `build` may lose to the index itself is 0.005 and 0.002.

cost: an index of random vectors whose links lead to random records, which is the worst for reading
them, is copied by `cp -r` and repaired, each three times in turns; of each the fastest is shown.

With --record the figures, of recall the worst of the spaces, go into benches/results.json.
"""

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches"))
from report import record  # noqa: E402

WORK = ROOT / "target" / "bench-repair"
VENV = WORK / "venv"
M, EF_CONSTRUCTION, K, QUERIES = 16, 100, 10, 500
EFS = [50, 100]
ALLOWED = {"keep": 0.005, "build": 0.002}


def enter_venv():
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        packages = ["numpy==1.26.4", "chroma-hnswlib==0.7.6"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    if Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(python, [python, *sys.argv])


def points(count, dimension, latents):
    random = np.random.default_rng(1)
    latent = random.standard_normal((count + QUERIES, latents), dtype=np.float32)
    mixing = random.standard_normal((latents, dimension), dtype=np.float32)
    data = np.tanh(1.5 * latent @ (mixing / np.float32(latents**0.5)))
    data += 0.02 * random.standard_normal(data.shape, dtype=np.float32)
    return data[:count].copy(), data[count:].copy()


def true_neighbours(space, base, queries):
    if space == "l2":
        distances = (base * base).sum(1)[None] - 2 * queries @ base.T
    else:
        if space == "cosine":
            base = base / np.linalg.norm(base, axis=1, keepdims=True)
        distances = -(queries @ base.T)
    return np.argpartition(distances, K, axis=1)[:, :K]


def write_pickle(path, labels, dimension):
    """Writes the metadata in the form of Chroma 1.x."""
    import pickle

    ids = {f"id {label}": int(label) for label in labels}
    fields = {
        "dimensionality": dimension,
        "total_elements_added": int(max(labels)),
        "max_seq_id": None,
        "id_to_label": ids,
        "label_to_id": {label: id for id, label in ids.items()},
        "id_to_seq_id": {},
    }
    with open(path, "wb") as file:
        pickle.dump(fields, file, 3)


def load(path, space, dimension, count):
    import hnswlib

    index = hnswlib.Index(space=space, dim=dimension)
    index.load_index(str(path), is_persistent_index=True, max_elements=count)
    return index


def recalls(index, queries, truth, live):
    found = []
    for ef in EFS:
        index.set_ef(ef)
        index.set_num_threads(1)
        labels, _ = index.knn_query(queries, k=K)
        hits = [len(set(a.tolist()) & set(live[b].tolist())) for a, b in zip(labels, truth)]
        found.append(sum(hits) / (K * len(hits)))
    return found


def keep_lowest(row, name, values):
    for ef, value in zip(EFS, values):
        key = f"{name}_{ef}"
        row[key] = min(row.get(key, 1.0), round(value, 4))


def recall(arguments):
    import hnswlib

    failed, rows = False, []
    for size in arguments.sizes.split(","):
        count, dimension = map(int, size.split("x"))
        worst = {}
        base, queries = points(count, dimension, arguments.latent)
        for space in arguments.spaces.split(","):
            made = WORK / "made"
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir(parents=True)
            index = hnswlib.Index(space=space, dim=dimension)
            index.init_index(max_elements=count, M=M, ef_construction=EF_CONSTRUCTION, is_persistent_index=True,
                             persistence_location=str(made))
            index.add_items(base, np.arange(1, count + 1))
            order = np.random.default_rng(7).permutation(count) + 1
            done = 0
            for deleted in map(int, arguments.deleted.split(",")):
                # Deletions continue in the same order, so shares must ascend.
                for label in order[done:count * deleted // 100]:
                    index.mark_deleted(int(label))
                done = count * deleted // 100
                live = np.sort(order[done:])
                index.persist_dirty()
                write_pickle(made / "index_metadata.pickle", live, dimension)
                truth = true_neighbours(space, base[live - 1], queries)
                before = recalls(index, queries, truth, live)
                row = worst.setdefault(deleted, {"name": f"{count:,} × {dimension}", "deleted": deleted})
                keep_lowest(row, "index", before)
                line = f"{size} {space} {deleted:2} % deleted: index " + " ".join(f"{r:.4f}" for r in before)
                for links, allowed in ALLOWED.items():
                    new = WORK / "new"
                    shutil.rmtree(new, ignore_errors=True)
                    command = [arguments.toolbox, "repair", made, "-o", new, "--links", links, "--metric", space,
                               "--quiet", "--json"]
                    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                    after = recalls(load(new, space, dimension, count), queries, truth, live)
                    line += f", {links} " + " ".join(f"{r:.4f}" for r in after)
                    keep_lowest(row, links, [a - b for a, b in zip(after, before)])
                    if any(round(b - a, 6) > allowed for b, a in zip(before, after)):
                        line += " (too low)"
                        failed = True
                print(line, flush=True)
        rows += worst.values()
    if arguments.record:
        record("repair-recall", "Recall of what repair makes of an index", "make bench-repair", rows)
    return failed


def write_index(path, count, dimension, deleted):
    """Writes random unit vectors with links to random records."""
    links, random = 4 + 8 * M, np.random.default_rng(1)
    label = links + 4 * dimension
    size = label + 8
    path.mkdir(parents=True)
    levels = np.minimum((-np.log(1 - random.random(count)) / np.log(M)).astype(int), 6)
    entry = int(levels.argmax())
    header = (1, 0, count, count, size, label, links, int(levels[entry]), entry, M, 2 * M, M, 1 / np.log(M), 200)
    (path / "header.bin").write_bytes(struct.pack("<iQQQQQQiIQQQdQ", *header))
    gone = random.random(count) < deleted / 100
    with open(path / "data_level0.bin", "wb") as file:
        for start in range(0, count, 20000):
            part = min(20000, count - start)
            record = np.zeros((part, size), np.uint8)
            vectors = random.standard_normal((part, dimension), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            record[:, links:label] = vectors.view(np.uint8).reshape(part, -1)
            record[:, 0] = 2 * M
            record[:, 2] = gone[start:start + part]
            # No duplicate neighbours and no links to itself.
            step = count // (2 * M + 1)
            own = np.arange(start, start + part)[:, None]
            near = own + 1 + np.arange(2 * M) * step + random.integers(0, step - 1, (part, 2 * M))
            record[:, 4:links] = (near % count).astype(np.uint32).view(np.uint8).reshape(part, -1)
            record[:, label:] = (own + 1).astype(np.uint64).view(np.uint8).reshape(part, 8)
            file.write(record.tobytes())
    (path / "length.bin").write_bytes(np.ones(count, np.float32).tobytes())
    members = [np.flatnonzero(levels >= level) for level in range(8)]
    with open(path / "link_lists.bin", "wb") as file:
        for id in range(count):
            level = int(levels[id])
            out = struct.pack("<I", level * (4 + 4 * M))
            for at in range(1, level + 1):
                others = members[at]
                chosen = np.unique(others[random.integers(0, len(others), M)])
                chosen = chosen[chosen != id].astype(np.uint32)
                out += struct.pack("<I", len(chosen)) + chosen.tobytes().ljust(4 * M, b"\0")
            file.write(out)
    write_pickle(path / "index_metadata.pickle", np.flatnonzero(~gone) + 1, dimension)


def run(command):
    """Returns wall seconds, processor seconds and peak resident MiB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    # Read while the process runs, because wait4 reports at least the memory of this process.
    peak = 0
    while True:
        with open(f"/proc/{process.pid}/status") as file:
            peaks = [line.split()[1] for line in file if line.startswith("VmHWM:")]
        peak = max([peak, *map(int, peaks)])
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid != 0:
            break
        time.sleep(0.02)
    if status != 0:
        sys.exit(f"{command} failed")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, peak / 1024


def cost(arguments):
    count, dimension = arguments.count, arguments.dimension
    # Metadata take 48 bytes per id of this.
    limit = 32 + count * (32 + 48) / 2**20
    rows = []
    for deleted in map(int, arguments.deleted.split(",")):
        made, new = WORK / "cost", WORK / "cost-new"
        shutil.rmtree(made, ignore_errors=True)
        write_index(made, count, dimension, deleted)
        copies, repairs = [], []
        for _ in range(arguments.repeat):
            shutil.rmtree(new, ignore_errors=True)
            copies.append(run(["cp", "-r", made, new]))
            shutil.rmtree(new, ignore_errors=True)
            command = [arguments.toolbox, "repair", made, "-o", new, "--links", "keep", "--metric", "cosine", "--quiet"]
            repairs.append(run(command))
        copy, repair = min(copies), min(repairs)
        peak = max(usage[2] for usage in repairs)
        print(
            f"{count} x {dimension}, {deleted:2} % deleted: cp -r {copy[0]:.1f} s ({copy[1]:.1f} s of processor), "
            f"keep {repair[0]:.1f} s ({repair[1]:.1f} s), {repair[0] / copy[0]:.1f} x; "
            f"peak {peak:.0f} MiB of {limit:.0f}",
            flush=True,
        )
        rows.append({
            "deleted": deleted,
            "copy": round(copy[0], 2),
            "seconds": round(repair[0], 2),
            "processor": round(repair[1], 2),
            "mebibytes": round(peak),
        })
    if arguments.record:
        title = f"Repair {count:,} × {dimension} whose links lead to random records"
        record("repair-cost", title, "make bench-repair", rows)
    return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["recall", "cost"])
    parser.add_argument("--toolbox", default=ROOT / "target/release/hnsw-toolbox")
    parser.add_argument("--sizes", default="20000x64,50000x128")
    parser.add_argument("--spaces", default="l2,cosine,ip")
    parser.add_argument("--deleted", default="0,10,50,90")
    parser.add_argument("--latent", type=int, default=24)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--record", action="store_true")
    enter_venv()
    import numpy as np

    parsed = parser.parse_args()
    sys.exit({"recall": recall, "cost": cost}[parsed.what](parsed))
