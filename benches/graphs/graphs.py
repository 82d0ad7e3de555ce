#!/usr/bin/env python3
"""hnsw-toolbox's engines compared with other graph libraries, on the same data, in one run.

    python3 benches/graphs/graphs.py [--sizes 50000x128,100000x384] [--metrics euclidean,cosine]
                                   [--threads 1,2] [--engines native,hnsw_rs,...] [--repeat 1]
                                   [--effort 50,100,...] [--latent 24] [--search] [--record]

It makes a virtual environment in benches/graphs/target/venv with numpy, faiss, usearch, VSAG and
hnswlib 0.8.0, the latter compiled on this machine, and builds the Rust program next to it. The data are points of
a smooth surface, with a little noise: latent dimensions through a random matrix with tanh. The more
latent dimensions, the harder they are to search.

Metrics are the library's five names; a library that lacks one is left out of its lines.

Columns: seconds for the graph alone (the best of the repetitions), seconds in all (ours: with
writing and syncing the file), seconds of all threads' processor time, recall@10 and microseconds a query at ef 50 and 100, peak heap
(Rust) or growth of peak resident memory (Python) in MB. native, partition and hnsw_rs are
searched by this library, fast_hnsw by fast-hnsw, the others by their own, all on one thread. VSAG's
HGraph compares bytes (sq8) and then the nearest once more, exactly.
Unreachable: nodes that no walk on level 0 from the entry point finds.

With --record the figures of each table go into benches/results.json, from which `make bench-report` makes the
documentation's tables and charts. So do the ratios of searches.

With --effort each engine is measured with each value of ef_construction, which is 200 otherwise.

With --search, searches are measured instead: this library's of the file that native has built, with a
map and loaded; fast-hnsw's of the same file, loaded; and hnswlib's of its own index. Each is tried with many
values of ef, turn by turn, and for the recall that hnswlib has at each of its own the queries a second
are interpolated. Queries a second are per processor time of a thread, which other
work on the machine changes less than the time that passes; the latter is printed too.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from report import record  # noqa: E402

TARGET = HERE / "target"
SIZES = "50000x128,100000x384"
VENV = TARGET / "venv"
M, EF_CONSTRUCTION, K, QUERIES = 16, 200, 10, 1000
EFS = [50, 100]
SEARCH_EFS = [10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320]
# Their names for our metrics.
PEERS = {
    "hnswlib": {"euclidean": "l2", "squared_euclidean": "l2", "cosine": "cosine", "dot_product": "ip"},
    "usearch": {"euclidean": "l2sq", "squared_euclidean": "l2sq", "cosine": "cos", "dot_product": "ip"},
    "faiss": {"euclidean": "l2", "squared_euclidean": "l2", "dot_product": "ip"},
    "vsag": {"euclidean": "l2", "squared_euclidean": "l2", "cosine": "cosine", "dot_product": "ip"},
}


def enter_venv():
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "numpy", "pybind11", "setuptools", "wheel", "faiss-cpu", "usearch", "pyvsag",
                        "pyarrow"], check=True)
        subprocess.run([*pip, "--no-binary", "hnswlib", "hnswlib==0.8.0"], check=True)
    if Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(python, [python, *sys.argv])


def distances(metric, queries, base):
    """Keys of each query to each vector: any numbers in the order of distances."""
    import numpy as np

    if metric == "manhattan":
        return np.stack([np.abs(base - query).sum(1) for query in queries])
    if metric == "dot_product":
        return -queries @ base.T
    if metric == "cosine":
        base = base / np.linalg.norm(base, axis=1, keepdims=True)
        return -queries @ base.T
    return (base * base).sum(1)[None, :] - 2 * queries @ base.T


def make_data(count, dimension, latents, metrics):
    import numpy as np

    folder = TARGET / f"data-{count}x{dimension}-{latents}"
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    latent = random.standard_normal((count + QUERIES, latents), dtype=np.float32)
    mixing = random.standard_normal((latents, dimension), dtype=np.float32)
    data = np.tanh(1.5 * latent @ (mixing / np.float32(latents**0.5)))
    data += 0.02 * random.standard_normal(data.shape, dtype=np.float32)
    base, queries = data[:count], data[count:]
    base.tofile(folder / "base.f32")
    queries.tofile(folder / "queries.f32")
    for metric in metrics:
        truth = folder / f"truth-{metric}.u32"
        if not truth.exists():
            nearest = [
                # A copy, so that the rest can be freed.
                np.argpartition(distances(metric, part, base), K, axis=1)[:, :K].copy()
                for part in np.array_split(queries, 20)
            ]
            np.concatenate(nearest).astype(np.uint32).tofile(truth)
    return folder


def unreachable(links, entry_point):
    """Counts nodes unreachable from the entry point on level 0. links: n × m0, −1 for none."""
    import numpy as np

    seen = np.zeros(len(links), bool)
    front = np.array([entry_point])
    while len(front):
        seen[front] = True
        front = np.unique(links[front])
        front = front[front >= 0]
        front = front[~seen[front]]
    return int((~seen).sum())


def unreachable_of_hnsw_file(path):
    import numpy as np

    file = np.memmap(path, np.uint8, "r")
    n, dimension, _, m0 = file[12:44].view("<u8").tolist()
    entry_point = int(file[52:60].view("<u8")[0])
    offsets = 256 + 4 * n * dimension + 4 * n
    starts = file[offsets:offsets + 8 * n].view("<u8")
    links = np.full((n, m0), -1, np.int64)
    for node, start in enumerate(starts.tolist()):
        count = int(file[start:start + 4].view("<u4")[0])
        links[node, :count] = file[start + 4:start + 4 + 8 * count].view("<u4")[::2]
    return unreachable(links, entry_point)


def unreachable_of_hnswlib(index):
    import numpy as np

    path = TARGET / "hnswlib.index"
    index.save_index(str(path))
    file = np.memmap(path, np.uint8, "r")
    path.unlink()
    count, record = file[16:32].view("<u8").tolist()
    entry_point = int(file[52:56].view("<u4")[0])
    records = file[96:96 + count * record].reshape(count, record)
    degrees = np.ascontiguousarray(records[:, :2]).view("<u2")[:, 0]
    links = np.ascontiguousarray(records[:, 4:4 + 8 * M]).view("<u4").astype(np.int64)
    links[np.arange(2 * M)[None, :] >= degrees[:, None]] = -1
    return unreachable(links, entry_point)


def peak_resident():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def engine_and_effort(engine):
    name, _, effort = engine.partition("@")
    return name, int(effort or EF_CONSTRUCTION)


def of_hnswlib(metric, base, threads, effort):
    """Returns functions that build and search an index. Imports are done first, so they are not measured."""
    import hnswlib

    index = hnswlib.Index(metric, base.shape[1])
    index.init_index(len(base), M=M, ef_construction=effort)

    def build():
        index.add_items(base, num_threads=threads)
        return index

    def search(queries, ef):
        index.set_ef(ef)
        return index.knn_query(queries, K, num_threads=1)[0]

    return build, search


def of_usearch(metric, base, threads, effort):
    import numpy as np
    from usearch.index import Index

    index = Index(ndim=base.shape[1], metric=metric, dtype="f32", connectivity=M, expansion_add=effort)
    keys = np.arange(len(base))

    def build():
        index.add(keys, base, threads=threads)

    def search(queries, ef):
        index.expansion_search = ef
        return index.search(queries, K, threads=1).keys

    return build, search


def of_faiss(metric, base, threads, effort):
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexHNSWFlat(base.shape[1], M, {"l2": faiss.METRIC_L2, "ip": faiss.METRIC_INNER_PRODUCT}[metric])
    index.hnsw.efConstruction = effort

    def build():
        index.add(base)

    def search(queries, ef):
        faiss.omp_set_num_threads(1)
        index.hnsw.efSearch = ef
        return index.search(queries, K)[1]

    return build, search


def of_vsag(metric, base, threads, effort):
    import numpy as np
    import pyvsag

    parameters = {
        "dtype": "float32",
        "metric_type": metric,
        "dim": base.shape[1],
        "index_param": {
            "base_quantization_type": "sq8",
            "use_reorder": True,
            "precise_quantization_type": "fp32",
            "max_degree": 2 * M,
            "ef_construction": effort,
            "build_thread_count": threads,
        },
    }
    index = pyvsag.Index("hgraph", json.dumps(parameters))
    ids = np.arange(len(base))

    def build():
        index.build(vectors=base.ravel(), ids=ids, num_elements=len(base), dim=base.shape[1])

    def search(queries, ef):
        words = json.dumps({"hgraph": {"ef_search": ef}})
        return np.stack([index.knn_search(vector=query, k=K, parameters=words)[0] for query in queries])

    return build, search


def measure_python(engine, metric, threads, count, dimension, folder):
    """Runs in a separate process, so that its peak memory is its own."""
    import time

    import numpy as np

    base = np.fromfile(folder / "base.f32", np.float32).reshape(count, dimension)
    queries = np.fromfile(folder / "queries.f32", np.float32).reshape(-1, dimension)
    truth = np.fromfile(folder / f"truth-{metric}.u32", np.uint32).reshape(-1, K)
    before = peak_resident()
    name, effort = engine_and_effort(engine)
    build, search = {"hnswlib": of_hnswlib, "usearch": of_usearch, "faiss": of_faiss, "vsag": of_vsag}[name](
        PEERS[name][metric], base, threads, effort)
    start, cpu = time.perf_counter(), time.process_time()
    index = build()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    result = {"graph": seconds, "total": seconds, "cpu": cpu, "heap": peak_resident() - before}
    for ef in EFS:
        start = time.perf_counter()
        found = search(queries, ef)
        micros = 1e6 * (time.perf_counter() - start) / len(queries)
        hits = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist()))
        result[str(ef)] = {"recall": hits / truth.size, "micros": micros}
    if name == "hnswlib":
        result["unreachable"] = unreachable_of_hnswlib(index)
    print(json.dumps(result))


def run(*command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure(engine, metric, threads, count, dimension, folder):
    if engine.partition("@")[0] in PEERS:
        arguments = [engine, metric, threads, count, dimension, folder]
        return run(sys.executable, __file__, "--measure", *map(str, arguments))
    program, _, seed = str(TARGET / "release/hnsw-toolbox-graphs"), *engine.partition("+seed")[1:]
    index = folder / "index.hnsw"
    result = run(
        program, "build", engine.removesuffix("+seed"), metric, str(threads), str(dimension),
        folder / "base.f32", index, *(["42"] if engine.endswith("+seed") else []),
    )
    # The heap is measured during the build.
    result = run(
        program, "search", "fast_hnsw" if engine == "fast_hnsw" else "toolbox", metric, "1",
        str(dimension), index, folder / "queries.f32", folder / f"truth-{metric}.u32",
        *map(str, EFS),
    ) | result
    result["unreachable"] = unreachable_of_hnsw_file(index)
    index.unlink()
    return result


def search_hnswlib(metric, threads, count, dimension, folder, efs):
    """Runs in a separate process, because it changes the contents of the caches."""
    import time

    import hnswlib
    import numpy as np

    queries = np.fromfile(folder / "queries.f32", np.float32).reshape(-1, dimension)
    truth = np.fromfile(folder / f"truth-{metric}.u32", np.uint32).reshape(-1, K)
    index = hnswlib.Index(PEERS["hnswlib"][metric], dimension)
    path = folder / f"hnswlib-{metric}.index"
    if not path.exists():
        base = np.fromfile(folder / "base.f32", np.float32).reshape(count, dimension)
        index.init_index(count, M=M, ef_construction=EF_CONSTRUCTION)
        index.add_items(base)
        index.save_index(str(path))
    else:
        index.load_index(str(path), max_elements=count)
    result = {}
    for ef in efs:
        index.set_ef(ef)
        index.knn_query(queries, K, num_threads=threads)
        start, cpu, turns = time.perf_counter(), time.process_time(), 0
        while time.process_time() - cpu < 1:
            found = index.knn_query(queries, K, num_threads=threads)[0]
            turns += 1
        wall, cpu = (time.perf_counter() - start) / turns, (time.process_time() - cpu) / turns
        hits = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist()))
        result[str(ef)] = {
            "recall": hits / truth.size,
            "micros": 1e6 * wall / len(queries),
            "cpu_micros": 1e6 * cpu / len(queries),
        }
    print(json.dumps(result))


def interpolated(curve, recall, field):
    """Interpolates a query's time at a given recall on a curve."""
    import numpy as np

    points = sorted((point["recall"], point[field]) for point in curve.values())
    recalls, times = zip(*points)
    if not recalls[0] <= recall <= recalls[-1]:
        return None
    return float(np.exp(np.interp(recall, recalls, np.log(times))))


def compare_searches(options):
    """Prints each library's curve, and the ratios at equal recall."""
    program = str(TARGET / "release/hnsw-toolbox-graphs")
    for size in options.sizes.split(","):
        count, dimension = map(int, size.split("x"))
        metrics = [metric for metric in options.metrics.split(",") if metric in PEERS["hnswlib"]]
        folder = make_data(count, dimension, options.latent, metrics)
        for metric in metrics:
            index = folder / f"native-{metric}.hnsw"
            if not index.exists():
                run(program, "build", "native", metric, "2", str(dimension), folder / "base.f32", index)
            rows = []
            for threads in map(int, options.threads.split(",")):
                efs = [str(ef) for ef in SEARCH_EFS]
                ours, others = ["toolbox", "loaded"], ["hnswlib"] + ["fast_hnsw"] * (threads == 1)
                searchers = ours + others
                curves = {searcher: {} for searcher in searchers}
                for _ in range(options.repeat):
                    for searcher in searchers:
                        if searcher == "hnswlib":
                            arguments = [metric, threads, count, dimension, folder, *efs]
                            found = run(sys.executable, __file__, "--search-hnswlib", *map(str, arguments))
                        else:
                            found = run(
                                program, "search", searcher, metric, str(threads), str(dimension),
                                index, folder / "queries.f32", folder / f"truth-{metric}.u32", *efs,
                            )
                        for ef in efs:
                            best = curves[searcher].get(ef)
                            if best is None or found[ef]["cpu_micros"] < best["cpu_micros"]:
                                curves[searcher][ef] = found[ef]
                        if searcher == "toolbox":
                            opened, heap = found["open"], found["heap"]
                print(f"{size} {metric}, {threads} threads: opened in {1e3 * opened:.2f} ms,"
                      f" {heap / 1e6:.2f} MB of heap with {threads} threads and all results")
                print("ef      " + "".join(f"{searcher:>34}" for searcher in searchers))
                print("        " + "  recall    queries/s (by the clock)" * len(searchers))
                for ef in efs:
                    print(f"{ef:>6}  " + "".join(
                        f"  {curves[searcher][ef]['recall']:.4f}"
                        f"  {1e6 / curves[searcher][ef]['cpu_micros'] * threads:>10.0f}"
                        f"  {1e6 / curves[searcher][ef]['micros']:>12.0f}"
                        for searcher in searchers))
                for other in others:
                    row = {"name": f"{other.replace('_', '-')}, {threads} thread{'s' * (threads > 1)}"}
                    for own, name in zip(ours, ["mapped", "loaded"]):
                        ratios = []
                        for point in curves[other].values():
                            time = interpolated(curves[own], point["recall"], "cpu_micros")
                            # If several values of ef give the same recall, the time at it is undefined.
                            if time is not None and 0.8 < point["recall"] < 1:
                                ratios.append((point["recall"], point["cpu_micros"] / time))
                        print(f"queries a second at equal recall, {own} : {other}  "
                              + "  ".join(f"{ratio:.2f} at {recall:.4f}" for recall, ratio in sorted(ratios)),
                              flush=True)
                        if ratios:
                            values = [round(ratio, 2) for _, ratio in ratios]
                            row |= {f"{name}_low": min(values), f"{name}_high": max(values)}
                    rows.append(row)
            if options.record:
                title = f"{count:,} × {dimension}, {metric}"
                record(f"search-{size}-{metric}", title, "make bench-search", rows)


def main():
    if sys.argv[1:2] == ["--search-hnswlib"]:
        metric, threads, count, dimension, folder, *efs = sys.argv[2:]
        search_hnswlib(metric, int(threads), int(count), int(dimension), Path(folder), list(map(int, efs)))
        return
    if sys.argv[1:2] == ["--measure"]:
        engine, metric, threads, count, dimension, folder = sys.argv[2:]
        measure_python(engine, metric, int(threads), int(count), int(dimension), Path(folder))
        return
    enter_venv()
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--metrics", default="euclidean,cosine")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--engines", default="native,partition,hnsw_rs,fast_hnsw,hnswlib,faiss,usearch,vsag")
    parser.add_argument("--effort")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--latent", type=int, default=24)
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", HERE / "Cargo.toml"],
        check=True,
    )
    print(f"m {M}, ef_construction {EF_CONSTRUCTION}, {QUERIES} queries", flush=True)
    if options.search:
        compare_searches(options)
        return
    print("size        metric            engine       threads  graph s  total s    cpu s"
          "  recall@10 ef 50 / 100   µs/query ef 50 / 100   peak MB  unreachable", flush=True)
    for size in options.sizes.split(","):
        count, dimension = map(int, size.split("x"))
        metrics = options.metrics.split(",")
        folder = make_data(count, dimension, options.latent, metrics)
        for metric in metrics:
            for threads in map(int, options.threads.split(",")):
                engines = options.engines.split(",")
                if options.effort:
                    engines = [f"{engine}@{effort}" for engine in engines for effort in options.effort.split(",")]
                rows = []
                results = {engine: [] for engine in engines}
                # Interleaved, so that other load on the machine affects all of them.
                for _ in range(options.repeat):
                    for engine in engines:
                        if engine.startswith("fast_hnsw") and threads > 1:
                            continue
                        if metric not in PEERS.get(engine.partition("@")[0], [metric]):
                            continue
                        results[engine].append(
                            measure(engine, metric, threads, count, dimension, folder)
                        )
                for engine, found in results.items():
                    if not found:
                        continue
                    best = min(found, key=lambda result: result["graph"])
                    low, high = (best[str(ef)] for ef in EFS)
                    print(
                        f"{size:11} {metric:17} {engine:12} {threads:7}  {best['graph']:7.2f}"
                        f"  {best['total']:7.2f}  {best['cpu']:7.2f}         {low['recall']:.4f} / {high['recall']:.4f}"
                        f"            {low['micros']:5.0f} / {high['micros']:5.0f}"
                        f"   {best['heap'] / 1e6:7.1f}  {best.get('unreachable', '-'):>11}",
                        flush=True,
                    )
                    name, effort = engine_and_effort(engine)
                    ours = name not in PEERS and name != "fast_hnsw"
                    rows.append({
                        "name": f"hnsw-toolbox, {name}" if ours else name,
                        "ours": ours,
                        "seconds": round(best["total"], 2),
                        "processor": round(best["cpu"], 2),
                        "recall_50": low["recall"],
                        "recall_100": high["recall"],
                        "heap_megabytes": round(best["heap"] / 1e6, 1),
                    } | ({"ef_construction": effort} if options.effort else {}))
                if options.record:
                    usual = size in SIZES.split(",") and not options.effort
                    more = f" --effort {options.effort}" if options.effort else ""
                    record(
                        f"{'effort' if options.effort else 'build'}-{size}-{metric}-{threads}",
                        f"Build {count:,} × {dimension}, {metric}, {threads} thread{'s' * (threads > 1)}",
                        "make bench-peers" if usual else f"python3 benches/graphs/graphs.py --sizes {size}{more}",
                        rows,
                    )


if __name__ == "__main__":
    main()
