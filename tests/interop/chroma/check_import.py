"""Imports a store of this chromadb release into an empty one, and lets Chroma continue with the result.

    check_import.py PATH_OF_HNSW_TOOLBOX

The collections come from the store, from its export to Parquet, and from its export to Arrow with a column for
each metadata key. Then each collection gets another metric: Chroma's distances must fit the vectors that were
given to it. Last, everything is imported once more, into what is there already.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import chromadb
import numpy as np

from check_store import check_with_chroma, demand, same, step
from stores import client


def run(toolbox, *arguments):
    done = subprocess.run([toolbox, *arguments, "--json", "--quiet"], capture_output=True, text=True)
    demand(done.returncode == 0, " ".join(map(str, arguments)), done.stderr.strip(), done.stdout.strip()[-1000:])
    return json.loads(done.stdout)


def make_empty(persist):
    client(Path(persist), "default_tenant", "default_database").heartbeat()


def check_distances(persist, state):
    """Compares distances with distances of the original vectors."""
    for entry in pickle.loads(Path(state).read_bytes()):
        records = list(entry["records"].items())
        if not records:
            continue
        collection = client(Path(persist), *entry["key"][:2]).get_collection(entry["key"][2], embedding_function=None)
        matrix = np.stack([record["vector"] for _, record in records]).astype(np.float64)
        queries = matrix[::max(1, len(matrix) // 10)] + 0.01
        found = collection.query(query_embeddings=queries.tolist(), n_results=3, include=["distances"])
        rows = {id: at for at, (id, _) in enumerate(records)}
        unit = lambda vectors: vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
        for query, ids, distances in zip(queries, found["ids"], found["distances"]):
            near = matrix[[rows[id] for id in ids]]
            if entry["metric"] == "l2":
                expected = ((near - query) ** 2).sum(1)
            elif entry["metric"] == "cosine":
                expected = 1 - unit(near) @ unit(query)
            else:
                expected = 1 - near @ query
            demand(np.allclose(distances, expected, rtol=1e-4, atol=1e-4),
                   f"{entry['key']}: distances {distances}, expected {expected.tolist()}")


def main(toolbox):
    toolbox = os.path.abspath(toolbox)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        store, empty, state = scratch / "store", scratch / "empty", scratch / "state"
        for name in ["start", "make", "drop"]:
            step("stores.py", name, store)
        step("stores.py", "remember", store, state)
        step("check_import.py", "empty", empty)
        entries = lambda: pickle.loads(state.read_bytes())
        run(toolbox, "export", store, "-o", scratch / "parquet")
        run(toolbox, "export", store, "-o", scratch / "arrow", "--format", "arrow_ipc", "--metadata", "columns")
        for source in [store, scratch / "parquet", scratch / "arrow"]:
            new = scratch / f"new-{source.name}"
            summary = run(toolbox, "import", source, "--into", empty, "-o", new)
            same("imported", summary["imported"], sum(len(entry["records"]) for entry in entries()))
            check_with_chroma(new, entries(), scratch)
            print(f"chromadb {chromadb.__version__}: import of {source.name}: as expected")
        for metric in ["l2", "cosine", "ip"]:
            new, others = scratch / metric, entries()
            run(toolbox, "import", store, "--into", empty, "-o", new, "--metric", metric)
            for entry in others:
                entry["metric"] = metric
            (scratch / "others").write_bytes(pickle.dumps(others))
            step("check_import.py", "distances", new, scratch / "others")
            print(f"chromadb {chromadb.__version__}: import with the metric {metric}: as expected")
        base = scratch / "base"
        run(toolbox, "import", store, "--into", empty, "-o", base)
        for conflict, counted in [("skip", "skipped"), ("replace", "replaced")]:
            new = scratch / conflict
            summary = run(toolbox, "import", store, "--into", base, "-o", new, "--on-conflict", conflict)
            same(counted, summary[counted], sum(len(entry["records"]) for entry in entries()))
            check_with_chroma(new, entries(), scratch)
            print(f"chromadb {chromadb.__version__}: import with --on-conflict {conflict}: as expected")


STEPS = {"empty": make_empty, "distances": check_distances}

if __name__ == "__main__":
    if sys.argv[1] in STEPS:
        STEPS[sys.argv[1]](*sys.argv[2:])
    else:
        main(sys.argv[1])
