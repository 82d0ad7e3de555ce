"""Repairs stores of this chromadb release, and lets it continue with the result.

    check_repair.py PATH_OF_HNSW_TOOLBOX

Every step with a client is a process of its own, as Chroma keeps files open.
"""

import hashlib
import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import chromadb
import numpy as np

DIMENSION = 24
# More than enough for several flushes.
COUNT, SYNC, BATCH = 1500, 100, 50
# Per collection, its space and the writes between two flushes. The last one never flushes, so it
# exists only in the queue.
COLLECTIONS = {
    "space-l2": ("l2", SYNC),
    "space-cosine": ("cosine", SYNC),
    "space-ip": ("ip", SYNC),
    "log-only": ("l2", 10**6),
}


def vector(seed):
    """Deterministic: equal seeds give equal results in every process."""
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


def name_of(number):
    return ["plain-", "línea\n", "向量-", "🦀"][number % 4] + str(number)


def client(persist):
    settings = chromadb.config.Settings(anonymized_telemetry=False, is_persistent=True, persist_directory=persist)
    return chromadb.PersistentClient(path=persist, settings=settings)


def add(collection, numbers, version=0):
    for start in range(0, len(numbers), 100):
        part = numbers[start:start + 100]
        collection.add(
            ids=[name_of(n) for n in part],
            embeddings=[vector(n + 100000 * version).tolist() for n in part],
            documents=[f"document {n}" for n in part],
            metadatas=[{"number": n} for n in part],
        )


def make(persist, state):
    """Writes collections with deleted and updated records. Returns the client's view of them."""
    chroma = client(persist)
    for name, (space, sync) in COLLECTIONS.items():
        collection = chroma.create_collection(
            name,
            metadata={
                "hnsw:space": space,
                "hnsw:sync_threshold": sync,
                "hnsw:batch_size": BATCH,
                "hnsw:M": 8,
                "hnsw:search_ef": 100,
            },
        )
        add(collection, list(range(COUNT)))
        for start in range(0, 600, 100):
            collection.delete(ids=[name_of(n) for n in range(start, start + 100) if n % 3])
        for n in range(700, 750):
            collection.update(ids=[name_of(n)], embeddings=[vector(n + 100000).tolist()])
        # Slightly past the end of a flush.
        add(collection, list(range(COUNT, COUNT + 230)))
    remember(persist, state)


def held(collection):
    found = collection.get(include=["embeddings", "documents", "metadatas"])
    return {
        id: (np.asarray(embedding, np.float32), document, metadata)
        for id, embedding, document, metadata in zip(
            found["ids"], found["embeddings"], found["documents"], found["metadatas"]
        )
    }


def remember(persist, state):
    chroma = client(persist)
    with open(state, "wb") as file:
        pickle.dump({name: held(chroma.get_collection(name)) for name in COLLECTIONS}, file)


def check(persist, state):
    """Checks that the client returns the same records as before, and that queries find them."""
    chroma = client(persist)
    with open(state, "rb") as file:
        expected = pickle.load(file)
    for name, (space, _) in COLLECTIONS.items():
        collection = chroma.get_collection(name)
        before, now = expected[name], held(collection)
        assert collection.count() == len(before), (name, collection.count(), len(before))
        assert now.keys() == before.keys(), name
        for id, (embedding, document, metadata) in before.items():
            assert (document, metadata) == now[id][1:], (name, id)
            if space == "cosine":
                assert np.abs(now[id][0] - embedding).max() <= 1e-6, (name, id)
            else:
                assert now[id][0].tobytes() == embedding.tobytes(), (name, id)
        ids = list(before)
        matrix = np.stack([before[id][0] for id in ids])
        found, wanted = 0, 0
        for seed in range(50):
            query = vector(10**6 + seed)
            answer = collection.query(query_embeddings=[query.tolist()], n_results=10)["ids"][0]
            if space == "l2":
                distances = ((matrix - query) ** 2).sum(1)
            elif space == "ip":
                distances = -(matrix @ query)
            else:
                distances = -(matrix @ query) / np.linalg.norm(matrix, axis=1)
            nearest = {ids[at] for at in np.argpartition(distances, 10)[:10]}
            found += len(nearest & set(answer))
            wanted += 10
        assert found > 0.9 * wanted, (name, found, wanted)


def work_on(persist, state):
    """Adds, updates and deletes records over several flushes."""
    chroma = client(persist)
    for name in COLLECTIONS:
        collection = chroma.get_collection(name)
        add(collection, list(range(10000, 10350)))
        collection.delete(ids=[name_of(n) for n in range(900, 950)])
        for n in list(range(1000, 1020)) + list(range(10000, 10010)):
            collection.update(ids=[name_of(n)], embeddings=[vector(n + 200000).tolist()])
        collection.upsert(ids=[name_of(905)], embeddings=[vector(905 + 300000).tolist()], documents=["again"],
                          metadatas=[{"number": 905}])
        now = held(collection)
        assert name_of(901) not in now and now[name_of(905)][1] == "again", name
        for n in (1000, 1019, 10000):
            expected = vector(n + 200000)
            assert np.abs(now[name_of(n)][0] - expected).max() <= 1e-6, (name, n)
    remember(persist, state)


def ask(persist, query, *values):
    database = sqlite3.connect(f"file:{persist}/chroma.sqlite3?mode=ro", uri=True)
    found = database.execute(query, values).fetchone()
    database.close()
    return found


def segment(persist, name):
    query = "select s.id from segments s join collections c on c.id = s.collection where c.name = ? and s.scope = 'VECTOR'"
    return Path(persist) / ask(persist, query, name)[0]


def keeps_log(persist):
    """Returns true if the queue still has every write: releases before 0.5.6 never purge it."""
    return ask(persist, "select 1 from sqlite_master where name = 'embeddings_queue_config'") is None


def digest(directory):
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def repair(toolbox, *arguments):
    command = [toolbox, "repair", *arguments, "--json", "--quiet"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["summary"]


def replace_one(toolbox, persist, name, links, place):
    """Repairs from the segment directory alone."""
    old, new = segment(persist, name), place / f"new-{name}"
    before = digest(persist)
    answer = repair(toolbox, old, "-o", new, "--links", links)
    assert digest(persist) == before, "the input was written to"
    assert answer["deleted_removed"] > 0 and answer["links"] == links, answer
    assert answer["metric"] == COLLECTIONS[name][0] and answer["metric_source"] == "database", answer
    os.rename(old, place / f"old-{name}")
    os.rename(new, old)


def replace_merged(toolbox, persist, name, place):
    """Repairs with the queue's records, which are complete if the index is lost."""
    old, new = segment(persist, name), place / f"new-{name}"
    if name == "space-ip" and keeps_log(persist):
        os.rename(old, place / f"lost-{name}")
    before = digest(persist)
    answer = repair(toolbox, persist, "--collection", name, "-o", new)
    assert digest(persist) == before, "the input was written to"
    assert answer["collection"]["without_vector"] == 0, answer
    assert name != "log-only" or answer["collection"]["from_index"] == 0, answer
    if old.exists():
        os.rename(old, place / f"old-{name}")
    os.rename(new, old)


def step(name, *arguments):
    subprocess.run([sys.executable, __file__, "--step", name, *map(str, arguments)], check=True)


def main(toolbox):
    toolbox = os.path.abspath(toolbox)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        state = scratch / "state"
        step("make", scratch / "made", state)
        for way in ["keep", "build", "merge"]:
            place = scratch / way
            persist = place / "persist"
            shutil.copytree(scratch / "made", persist)
            for name, (_, sync) in COLLECTIONS.items():
                if way == "merge":
                    replace_merged(toolbox, persist, name, place)
                elif sync == SYNC:
                    replace_one(toolbox, persist, name, way, place)
            own = place / "state"
            step("check", persist, state)
            step("check", persist, state)
            step("work_on", persist, own)
            step("check", persist, own)
            print(f"chromadb {chromadb.__version__}: {way}: loaded, searched, changed, reopened", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--step":
        {"make": make, "check": check, "work_on": work_on}[sys.argv[2]](*sys.argv[3:])
    else:
        main(sys.argv[1])
