#!/usr/bin/env python3
"""Effects of row order, duplicate rows and hard-to-group rows on a graph.

    python3 benches/graphs/order.py [--hard] [--sets line,walk,...] [--orders "in order,shuffled,reversed"]
                                  [--engines native,partition,hnswlib] [--record]

Each data set is built by two engines of hnsw-toolbox and by hnswlib 0.8.0, m 16 and ef_construction 200, from the
same rows in the same order, and searched with 500 queries near its rows. Recall is by distance: a
neighbour counts when it is no farther than the tenth nearest, so that equal rows stand for each
other. Columns: recall@10 at ef 50 / 100 of each, and the nodes that no walk on level 0 finds. With --hard the sets are
those whose order does not matter, with rows of the same kind as queries. With --record the worst of the orders and
metrics go into benches/results.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from graphs import EF_CONSTRUCTION, EFS, K, M, enter_venv, record, unreachable_of_hnsw_file, unreachable_of_hnswlib

ROOT = Path(__file__).resolve().parents[2]
TOOLBOX = ROOT / "target/release/hnsw-toolbox"
QUERIES = 500


def smooth(random, count, dimension, latents=8):
    """Returns points of a smooth surface with a little noise."""
    latent = random.standard_normal((count, latents))
    rows = (1.5 * latent @ random.standard_normal((latents, dimension)) / latents**0.5)
    return np.tanh(rows) + 0.02 * random.standard_normal(rows.shape)


def line(random):
    return np.arange(20000)[:, None] * random.standard_normal(16) / 100, 0.001


def walk(random):
    return random.standard_normal((20000, 32)).cumsum(0), 0.3


def documents(random):
    return np.repeat(random.standard_normal((200, 64)), 100, 0) + 0.3 * random.standard_normal((20000, 64)), 0.1


def sines(random):
    return np.sin(np.arange(20000)[:, None] * 0.002 * (1 + np.arange(16) / 10)), 0.005


def by_element(random):
    rows = smooth(random, 20000, 32)
    return rows[np.argsort(rows[:, 0])], 0.02


def by_norm(random):
    rows = smooth(random, 20000, 32)
    return rows[np.argsort(np.linalg.norm(rows, axis=1))], 0.02


def clusters(random):
    centres = random.standard_normal((100, 64))
    return np.repeat(centres, 100, 0) + 0.01 * random.standard_normal((10000, 64)), 0.005


def zeros(random):
    return with_copies(random, 10000, 1000, np.zeros(32))


def copies(random):
    return with_copies(random, 10000, 1000, None)


def quarter(random):
    return with_copies(random, 12000, 3000, None)


def scaled_copies(random):
    """Returns rows that are equal under cosine only."""
    rows, noise = with_copies(random, 12000, 3000, None)
    return rows * random.uniform(0.5, 2, (len(rows), 1)), noise


def with_copies(random, count, equal, row):
    rows = smooth(random, count, 32)
    chosen = random.permutation(count)[:equal]
    rows[chosen] = rows[chosen[0]] if row is None else row
    return rows, 0.02


def twice(random):
    rows = smooth(random, 5000, 32)
    return np.concatenate([rows, rows]), 0.02


def groups(random):
    return np.repeat(smooth(random, 100, 32), 100, 0), 0.02


def seventh(random):
    rows = smooth(random, 10000, 32)
    rows[::7] = rows[0]
    return rows, 0.02


def all_equal(random):
    return np.repeat(smooth(random, 1, 32), 5000, 0), 0.02


SETS = {
    "line": (line, "points along a line, 20,000 × 16"),
    "walk": (walk, "random walk, 20,000 × 32"),
    "documents": (documents, "200 documents × 100 chunks, 64"),
    "sines": (sines, "time series of sines, 20,000 × 16"),
    "element": (by_element, "sorted by the first element, 20,000 × 32"),
    "norm": (by_norm, "sorted by norm, 20,000 × 32"),
    "clusters": (clusters, "100 tight clusters × 100, 64"),
    "zeros": (zeros, "1,000 zero vectors in 10,000 × 32"),
    "copies": (copies, "1,000 copies of one in 10,000 × 32"),
    "quarter": (quarter, "3,000 copies of one in 12,000 × 32"),
    "scaled": (scaled_copies, "the same, each row of another length"),
    "twice": (twice, "every vector twice, 10,000 × 32"),
    "groups": (groups, "100 vectors × 100 times, 32"),
    "seventh": (seventh, "every seventh row equal, 10,000 × 32"),
    "equal": (all_equal, "all equal, 5,000 × 32"),
}


def uniform(count, dimension):
    return lambda random: (random.random((count + QUERIES, dimension)), None)


def gaussian(count, dimension):
    return lambda random: (random.standard_normal((count + QUERIES, dimension)), None)


def many_clusters(deviation, count, dimension):
    def generate(random):
        centres = random.standard_normal((1000, dimension))[random.integers(0, 1000, count + QUERIES)]
        return centres + deviation * random.standard_normal(centres.shape), None

    return generate


def integers(random):
    return random.integers(0, 4, (20000 + QUERIES, 16)), None


def lognormal(random):
    return np.exp(random.standard_normal((20000 + QUERIES, 32))), None


def wide(random):
    return smooth(random, 10000 + QUERIES, 4096, 24), None


# The rows are in random order; the last ones are the queries.
HARD_SETS = {
    "uniform": (uniform(100000, 64), "uniform, 100,000 × 64"),
    "two": (uniform(30000, 2), "uniform, 30,000 × 2"),
    "three": (uniform(30000, 3), "uniform, 30,000 × 3"),
    "gaussian": (gaussian(10000, 4096), "Gaussian, 10,000 × 4096"),
    "gaussian32": (gaussian(50000, 32), "Gaussian, 50,000 × 32"),
    "wide": (wide, "a smooth surface, 10,000 × 4096"),
    "tight": (many_clusters(0.01, 20000, 64), "1,000 clusters, σ 0.01, 20,000 × 64"),
    "loose": (many_clusters(0.3, 20000, 32), "1,000 clusters, σ 0.3, 20,000 × 32"),
    "integers": (integers, "integers from 0 to 3, 20,000 × 16"),
    "lognormal": (lognormal, "log-normal, 20,000 × 32"),
}


def exact(metric, queries, rows):
    """Returns the distance of each query from each row, in float64."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return 1 - queries @ (rows / np.where(lengths == 0, 1, lengths)).T
    return ((rows * rows).sum(1)[None, :] - 2 * queries @ rows.T) + (queries * queries).sum(1)[:, None]


def recall(found, distances):
    farthest = np.partition(distances, K - 1, axis=1)[:, K - 1]
    reached = np.take_along_axis(distances, found, 1)
    return float((reached <= farthest[:, None] + 1e-6 * (1 + np.abs(farthest[:, None]))).mean())


def measure_toolbox(engine, metric, rows, queries, distances, folder):
    for name, vectors in [("rows", rows), ("queries", queries)]:
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        pq.write_table(pa.table({"vector": column}), folder / f"{name}.parquet")
    index, answers = folder / "index.hnsw", folder / "answers.parquet"
    command = [TOOLBOX, "build", folder / "rows.parquet", "-o", index, "--metric", metric, "--engine", engine,
               "--quiet"]
    subprocess.run([*command, "--m", str(M), "--ef-construction", str(EF_CONSTRUCTION)],
                   check=True, stdout=subprocess.DEVNULL)
    recalls = []
    for ef in EFS:
        subprocess.run([TOOLBOX, "search", index, "--queries", folder / "queries.parquet", "-o", answers,
                        "--k", str(K), "--ef", str(ef), "--quiet"], check=True, stdout=subprocess.DEVNULL)
        found = pq.read_table(answers)["labels"].to_pylist()
        assert all(len(labels) == K for labels in found)
        recalls.append(recall(np.array(found, dtype=np.int64), distances))
    return recalls, unreachable_of_hnsw_file(index)


def measure_hnswlib(metric, rows, queries, distances):
    index = hnswlib.Index("cosine" if metric == "cosine" else "l2", rows.shape[1])
    index.init_index(len(rows), M=M, ef_construction=EF_CONSTRUCTION)
    index.add_items(rows, num_threads=1)
    recalls = []
    for ef in EFS:
        index.set_ef(ef)
        try:
            found = index.knn_query(queries, K, num_threads=1)[0].astype(np.int64)
            recalls.append(recall(found, distances))
        except RuntimeError:  # fewer than k were found for some query
            recalls.append(0.0)
    return recalls, unreachable_of_hnswlib(index)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hard", action="store_true")
    parser.add_argument("--sets")
    parser.add_argument("--orders")
    parser.add_argument("--metrics", default="euclidean,cosine")
    parser.add_argument("--engines", default="native,partition,hnswlib")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    sets = HARD_SETS if options.hard else SETS
    orders = options.orders or ("in order" if options.hard else "in order,reversed,shuffled")
    worsts = []
    engines = options.engines.split(",")
    columns = "".join(f"  {engine:<16} unreachable" for engine in engines)
    print(f"{'data':<41} {'metric':<10} {'order':<9}{columns}", flush=True)
    for name in options.sets.split(",") if options.sets else sets:
        generate, title = sets[name]
        worst = {"name": title}
        for metric in options.metrics.split(","):
            random = np.random.default_rng(5)
            rows, noise = generate(random)
            rows = rows.astype(np.float32)
            if noise is None:
                rows, queries = rows[:-QUERIES], rows[-QUERIES:]
            else:
                queries = rows[random.integers(0, len(rows), QUERIES)]
                queries = (queries + noise * random.standard_normal(queries.shape)).astype(np.float32)
            for order in orders.split(","):
                arranged = {
                    "in order": rows,
                    "reversed": rows[::-1],
                    "shuffled": rows[np.random.default_rng(6).permutation(len(rows))],
                }[order]
                arranged = np.ascontiguousarray(arranged)
                distances = exact(metric, queries, arranged)
                line = f"{title:<41} {metric:<10} {order:<9}"
                for engine in engines:
                    if engine == "hnswlib":
                        recalls, unreachable = measure_hnswlib(metric, arranged, queries, distances)
                    else:
                        with tempfile.TemporaryDirectory() as folder:
                            recalls, unreachable = measure_toolbox(
                                engine, metric, arranged, queries, distances, Path(folder))
                    line += f"  {recalls[0]:.4f} / {recalls[1]:.4f}  {unreachable:11}"
                    for ef, found in zip(EFS, recalls):
                        key = f"{engine}_{ef}"
                        worst[key] = min(worst.get(key, 1.0), round(found, 4))
                    key = f"{engine}_unreachable"
                    worst[key] = max(worst.get(key, 0), unreachable)
                print(line, flush=True)
        worsts.append(worst)
    if options.record:
        title = "Rows that are hard to group" if options.hard else "The order of rows, and equal rows"
        record("hard" if options.hard else "order", title, "make bench-order", worsts)


if __name__ == "__main__":
    enter_venv()
    import hnswlib
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    main()
