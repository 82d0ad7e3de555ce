"""Makes stores with this chromadb release for check_store.py, and reads their expected contents.

    stores.py STEP PERSIST_DIR [STATE]

Every step with a client is a process of its own, because Chroma keeps files open.
"""

import functools
import json
import logging
import os
import pickle
import signal
import sqlite3
import sys
from pathlib import Path

import chromadb
import numpy as np
from chromadb.config import Settings

# Releases before 1.0 log failures of their telemetry.
logging.disable(logging.CRITICAL)
RELEASE = tuple(map(int, chromadb.__version__.split(".")))
TENANT, DATABASE = "default_tenant", "default_database"
# Collections by tenant, database and name.
IP, L2, COSINE, TAIL, EMPTY, SMALL, GONE = (
    ("tenant-b", "db-b", "articles"),
    (TENANT, DATABASE, "articles"),
    (TENANT, DATABASE, "cosine.names"),
    (TENANT, DATABASE, "added-only"),
    (TENANT, "db-2", "empty"),
    (TENANT, "db-2", "articles"),
    (TENANT, DATABASE, "gone"),
)

# Metric, m, dimension, writes between two flushes, records.
COLLECTIONS = {
    IP: ("ip", 12, 16, 100, 360),
    L2: ("l2", 8, 24, 100, 540),
    COSINE: ("cosine", 16, 33, 100, 360),
    TAIL: ("l2", 16, 8, 200, 450),
    GONE: ("l2", 16, 8, 100, 150),
    EMPTY: ("l2", 16, 8, 1000, 0),
    # Never flushed.
    SMALL: ("cosine", 16, 8, 1000, 60),
}
PARTS = ["embeddings", "documents", "metadatas", "uris"]


def vectors(seed, count, dimension):
    """Deterministic: equal arguments give equal results in every process."""
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def settings(persist):
    return Settings(anonymized_telemetry=False, is_persistent=True, persist_directory=str(persist))


@functools.lru_cache(maxsize=None)
def client(persist, tenant, database):
    return chromadb.PersistentClient(str(persist), settings(persist), tenant=tenant, database=database)


def names(chroma):
    """Releases 0.6 return names, others collections."""
    return {found if isinstance(found, str) else found.name for found in chroma.list_collections()}


def create(chroma, name, metric, m, sync):
    """Configures the collection in the release's newest way if the metric is cosine, else with metadata."""
    if RELEASE >= (1, 0) and metric == "cosine":
        hnsw = {"space": metric, "max_neighbors": m, "sync_threshold": sync}
        return chroma.create_collection(name, configuration={"hnsw": hnsw}, embedding_function=None)
    hnsw = {"space": metric, "M": m, "sync_threshold": sync, "batch_size": min(sync, 50), "search_ef": 100}
    metadata = {f"hnsw:{key}": value for key, value in hnsw.items()} | {"owner": "me"}
    return chroma.create_collection(name, metadata=metadata, embedding_function=None)


def start(persist):
    """Makes the tenants and the databases."""
    admin = chromadb.AdminClient(settings(persist))
    for tenant in {tenant for tenant, _, _ in COLLECTIONS} - {"default_tenant"}:
        admin.create_tenant(tenant)
    for tenant, database in sorted({key[:2] for key in COLLECTIONS} - {L2[:2]}):
        admin.create_database(database, tenant)


def add(collection, dimension, numbers, name):
    """Adds records with and without documents, URIs and metadata."""
    # The deleted collection has ids of others, and vectors of its own: a repair must not confuse them.
    matrix = vectors(9 if collection.name == GONE[2] else 1, max(numbers) + 1, dimension)
    for start_at in range(0, len(numbers), 100):
        for kind in range(3):
            part = [n for n in numbers[start_at:start_at + 100] if min(n % 5, 2) == kind]
            texts = {} if kind == 1 else {
                "documents": ["" if n % 20 == 0 else f"Straße {n}: text № {n % 7} of {name(n)[:30]}" for n in part]
            }
            uris = {} if kind == 0 else {"uris": [f"file:///{n}.png" for n in part]}
            metadata = {} if kind == 1 and name(0) == "id-0" else {"metadatas": [metadata_of(n) for n in part]}
            if part:
                collection.add(ids=list(map(name, part)), embeddings=matrix[part].tolist(), **texts, **uris, **metadata)


def metadata_of(n):
    found = {"number": n, "text": ["naïve", "", "日本語"][n % 3], "score": n / 7, "flag": n % 2 == 0}
    if RELEASE >= (1, 5):
        found.update(tags=[f"t{n % 5}", "all"], levels=[n, -n], weights=[0.5, n / 3], marks=[True, n % 2 == 0])
    return found


def make(persist):
    for key, (metric, m, dimension, sync, count) in COLLECTIONS.items():
        collection = create(client(persist, *key[:2]), key[2], metric, m, sync)
        unusual = lambda n: ["plain-", "línea\n", "向量-", "🦀"][n % 4] + (str(n) if n % 50 else str(n).rjust(290, "x"))
        name = unusual if key == COSINE else "id-{}".format
        if count:
            add(collection, dimension, range(count), name)
        if key in (IP, L2, COSINE):
            collection.delete(ids=[name(n) for n in range(count // 3) if n % 3 == 1])
            changed = list(range(count // 2, count // 2 + 40))
            matrix = vectors(2, 80, dimension).tolist()
            collection.update(
                ids=[name(n) for n in changed], embeddings=matrix[:40], documents=[f"updated {n}" for n in changed]
            )
            upserted = list(range(count - 20, count + 20))
            collection.upsert(
                ids=[name(n) for n in upserted], embeddings=matrix[40:], metadatas=[{"upserted": n} for n in upserted]
            )
            # Slightly past the last flush.
            add(collection, dimension, range(count + 20, count + 57), name)


def drop(persist):
    client(persist, *GONE[:2]).delete_collection(GONE[2])


def remember(persist, state):
    """Saves the client's view of the store."""
    entries = []
    for key, (metric, m, dimension, _, _) in COLLECTIONS.items():
        if key != GONE:
            collection = client(persist, *key[:2]).get_collection(key[2], embedding_function=None)
            found = collection.get(include=PARTS)
            columns = [found["ids"], *(found[part] if found[part] is not None else [] for part in PARTS)]
            records = {
                id: {"vector": np.asarray(vector, np.float32), "document": document, "metadata": [metadata], "uri": uri}
                for id, vector, document, metadata, uri in zip(*columns)
            }
            entries.append({"key": key, "id": str(collection.id), "metric": metric, "m": m, "dimension": dimension,
                            "metadata": collection.metadata, "records": records})
    Path(state).write_bytes(pickle.dumps(entries))


def write_ahead(persist, state):
    """Writes in WAL mode, and dies without closing the database."""
    sql(persist, "PRAGMA journal_mode = WAL")
    collection = client(persist, *L2[:2]).get_collection(L2[2], embedding_function=None)
    add(collection, COLLECTIONS[L2][2], range(5000, 5020), "id-{}".format)
    remember(persist, state)
    os.kill(os.getpid(), signal.SIGKILL)


def sql(store, *statements, values=()):
    """Runs statements. Returns the rows of the last one."""
    database = sqlite3.connect(f"{store}/chroma.sqlite3")
    for statement in statements:
        rows = database.execute(statement, values).fetchall()
    database.commit()
    database.close()
    return rows


def ids_of(store, collection):
    """Returns the ids of a collection, of its VECTOR and of its METADATA segment."""
    query = """SELECT c.id, v.id, m.id FROM collections c JOIN databases d ON d.id = c.database_id
        JOIN segments v ON v.collection = c.id AND v.scope = 'VECTOR'
        JOIN segments m ON m.collection = c.id AND m.scope = 'METADATA'
        WHERE d.tenant_id = ? AND d.name = ? AND c.name = ?"""
    return sql(store, query, values=collection)[0]


def segment(store, collection):
    return Path(store) / ids_of(store, collection)[1]


def number(value):
    """Reads a component: fixtures state NaN and infinities by their bits, or in words."""
    if isinstance(value, dict) and "bits" in value:
        return np.uint32(int(value["bits"], 16)).view(np.float32)
    return np.float32(value["$f32"] if isinstance(value, dict) else value)


def typed(pair):
    kind, value = pair
    of = {"str": str, "int": int, "float": float, "bool": bool}[kind.removeprefix("list[").removesuffix("]")]
    return [of(item) for item in value] if kind.startswith("list") else of(value)


def expected_of(path):
    """Yields the collections of a fixture. Its metadata may come back as given, or as its Chroma returned it."""
    metadata = lambda found, key: {name: typed(pair) for name, pair in (found.get(key) or {}).items()}
    for found in json.loads(Path(path).read_text())["collections"]:
        records = {
            record["id"]: {
                "vector": np.array([number(value) for value in record["given"]], np.float32),
                "document": record["document"],
                "metadata": [metadata(record, "metadata"), metadata(record, "metadata_given")],
                "uri": record["uri"],
            }
            for record in found["records"]
        }
        key = (found["tenant"], found["database"], found["name"])
        yield {"key": key, "id": found["id"], "metric": found["space"], "records": records, "fixture": True,
               "dimension": found["dimension"] or 8, "metadata": metadata(found, "metadata")}


def equal(a, b):
    """Compares values and types."""
    if isinstance(b, list):
        return isinstance(a, list) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def equal_metadata(found, alternatives):
    found, alternatives = found or {}, [one or {} for one in alternatives]
    fits = lambda key, value: any(key in one and equal(value, one[key]) for one in alternatives)
    return any(found.keys() == one.keys() for one in alternatives) and all(map(fits, found, found.values()))


STEPS = [start, make, drop, remember, write_ahead]

if __name__ == "__main__":
    {step.__name__: step for step in STEPS}[sys.argv[1]](*sys.argv[2:])
