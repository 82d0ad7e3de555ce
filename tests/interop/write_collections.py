"""Writes random collections with Chroma, and records its client's final output.

    write_collections.py DIRECTORY SEED OPERATIONS

Makes DIRECTORY/persist, a persist directory with a collection for each distance, and DIRECTORY/truth.json. Runs with
any chromadb from 0.4.24 to 1.5, in a process of its own, which ends without closing the client.
"""

import json
import os
import pathlib
import random
import sys

os.environ["ANONYMIZED_TELEMETRY"] = "False"

import chromadb  # noqa: E402
import numpy as np  # noqa: E402

DIMENSION = 24
VERSION = tuple(int(part) for part in chromadb.__version__.split(".")[:2])
WORDS = ["", "plain", "ünïcödé", "emoji 🦀🚀", 'quote " and \\ slash', "line\nbreak\ttab", "日本語", "\u0001control"]


def metadata(rng):
    values = {
        "text": lambda: rng.choice(WORDS),
        "int": lambda: rng.choice([0, -1, 2**53 + 1, 2**63 - 1, -(2**63), rng.randrange(1000)]),
        "float": lambda: rng.choice([0.1, 1.0, 1e300, 5e-324, -2.5, rng.random()]),
        "bool": lambda: rng.random() < 0.5,
        "mixed": lambda: rng.choice(["a", 1, 1.5, True]),
        "Key é": lambda: rng.randrange(3),
    }
    if VERSION >= (1, 5):
        values["list"] = lambda: rng.choice([["a", "b"], ["é"]])
        values["ints"] = lambda: [rng.randrange(10) for _ in range(rng.randrange(1, 4))]
    keys = rng.sample(sorted(values), rng.randrange(1, len(values)))
    return {key: values[key]() for key in keys}


def vector(rng):
    return np.array([rng.gauss(0, 1) for _ in range(DIMENSION)], dtype=np.float32).tolist()


def operate(collection, rng, ids, known):
    """Makes one call, which must not reject anything."""
    kind = rng.choice(["add", "add", "update", "upsert", "upsert", "delete"])
    if kind == "delete":
        chosen = rng.sample(sorted(known), min(len(known), rng.randrange(1, 4)))
        if chosen:
            collection.delete(ids=chosen)
            known.difference_update(chosen)
        return
    count = rng.randrange(1, 12)
    if kind == "update":
        chosen = rng.sample(sorted(known), min(len(known), count))
    elif kind == "upsert":
        chosen = rng.sample(ids, count)
    else:
        absent = [id for id in ids if id not in known]
        chosen = rng.sample(absent, min(len(absent), count))
    if not chosen:
        return
    fields = {"ids": chosen}
    if kind != "update" or rng.random() < 0.6:
        fields["embeddings"] = [vector(rng) for _ in chosen]
        if rng.random() < 0.7:
            fields["documents"] = [rng.choice(WORDS) * rng.randrange(4) for _ in chosen]
    if rng.random() < 0.7 or len(fields) == 1:
        fields["metadatas"] = [metadata(rng) for _ in chosen]
        if kind == "update" and VERSION >= (1, 0):
            for values in fields["metadatas"]:
                values.update({key: None for key in ("text", "int", "bool") if rng.random() < 0.2})
    getattr(collection, kind)(**fields)
    known.update(chosen)


def plain(vector):
    return [float(component) for component in vector]


def main(directory, seed, operations):
    rng = random.Random(int(seed))
    client = chromadb.PersistentClient(path=str(directory / "persist"))
    truth = {"chromadb": chromadb.__version__, "collections": {}}
    for space in ["l2", "cosine", "ip"]:
        settings = {"hnsw:space": space, "hnsw:sync_threshold": 60, "hnsw:batch_size": 20}
        collection = client.create_collection(f"by-{space}", metadata=settings)
        ids = [f"{space} {number} {rng.choice(WORDS)}" for number in range(400)]
        known = set()
        for _ in range(int(operations)):
            operate(collection, rng, ids, known)
        got = collection.get(include=["documents", "metadatas"])
        # 0.4 can lose vectors, and then fails on a request for all of them.
        vectors = {}
        for id in got["ids"]:
            try:
                vectors[id] = plain(collection.get(ids=[id], include=["embeddings"])["embeddings"][0])
            except IndexError:
                assert VERSION < (0, 5)
        truth["collections"][space] = {
            "id": str(collection.id),
            "records": [
                {"id": id, "document": document, "metadata": values, "vector": vectors.get(id)}
                for id, document, values in zip(got["ids"], got["documents"], got["metadatas"])
            ],
        }
    (directory / "truth.json").write_text(json.dumps(truth))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *sys.argv[2:])
