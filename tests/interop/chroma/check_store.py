"""Damages whole stores of this chromadb release, repairs them, and lets Chroma continue with the results.

    check_store.py PATH_OF_HNSW_TOOLBOX [FAULT...]    every fault of faults.py, or these
    check_store.py --store DIR --expected FILE        a store against an expected.json of tests/fixtures/persist

Chroma makes two stores, and its own API states their contents. Each fault is applied to a copy, which is
repaired. Then Chroma opens the result, must return every record in order, answer filters and searches, take
1,200 records and other changes, and find all of that again in another process. The stores of
tests/fixtures/persist go through the same checks with the releases that open them. Every step with a client is
a process of its own, because Chroma keeps files open. A failure names release, fault, collection and record.
"""

import hashlib
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import chromadb
import numpy as np

from faults import faults, queued
from stores import L2, PARTS, RELEASE, client, create, ids_of, names, segment, sql, vectors
from stores import equal, equal_metadata, expected_of

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parents[1] / "fixtures" / "persist"
ADDED = 1200


def demand(condition, *words):
    if not condition:
        raise AssertionError(": ".join(map(str, words)))


def same(what, found, expected):
    if found != expected:
        found, expected = (text if len(text) < 150 else f"{text[:150]}…" for text in (repr(found), repr(expected)))
        raise AssertionError(f"{what}: found {found}, expected {expected}")


def check_vectors(ids, found, expected, entry):
    found, expected = np.asarray(found, np.float32), np.stack(expected)
    same("dimensions of the vectors", found.shape, expected.shape)
    if entry.get("directions"):
        found, expected = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in (found, expected))
    # Chroma multiplies the vectors of a cosine collection by their norms.
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if entry["metric"] == "cosine" else {"rtol": 0, "atol": 0}
    wrong = np.flatnonzero(~np.isclose(found, expected, equal_nan=True, **tolerance).all(1))
    for at in wrong[:1]:
        demand(False, f"{ids[at]!r}: vector: found {found[at]}, expected {expected[at]} ({len(wrong)} are wrong)")


def check_records(collection, entry):
    want = entry["records"]
    same("count", collection.count(), len(want))
    same("metadata of the collection", collection.metadata or {}, entry["metadata"] or {})
    found = collection.get(include=PARTS)
    ids = found["ids"]
    # Releases 0.4 sort by id, as bytes.
    order = list(want) if RELEASE >= (0, 5) else sorted(want, key=str.encode)
    same("first missing ids", sorted(want.keys() - set(ids))[:5], [])
    same("first ids in excess", sorted(set(ids) - want.keys())[:5], [])
    same("first ids out of order", [pair for pair in zip(ids, order) if pair[0] != pair[1]][:2], [])
    for id, document, uri, metadata in zip(ids, found["documents"], found["uris"], found["metadatas"]):
        record = want[id]
        same(f"{id!r}: document", document, record["document"])
        same(f"{id!r}: uri", uri, record["uri"])
        if not equal_metadata(metadata, record["metadata"]):
            same(f"{id!r}: metadata", metadata, record["metadata"][0])
    if ids:
        check_vectors(ids, found["embeddings"], [want[id]["vector"] for id in ids], entry)


def check_filters(collection, entry):
    want = entry["records"]
    pairs = [(key, value) for record in want.values() for key, value in (record["metadata"][0] or {}).items()
             if type(value) in (str, int, bool)]
    for key, value in pairs[::max(1, len(pairs) // 6)]:
        try:
            found = collection.get(where={key: value}, include=[])["ids"]
        except ValueError:
            # Fixtures have keys that the client does not accept in filters.
            demand(entry.get("fixture"), f"where {key!r} = {value!r} is refused")
            continue
        fits = [id for id, record in want.items() if equal((record["metadata"][0] or {}).get(key), value)]
        same(f"where {key!r} = {value!r}", sorted(found), sorted(fits))
    texts = [record["document"] for record in want.values() if len(record["document"] or "") > 12]
    for text in texts[::max(1, len(texts) // 4)]:
        found = set(collection.get(where_document={"$contains": text[2:12]}, include=[])["ids"])
        # Some releases distinguish case.
        exact = {id for id, record in want.items() if text[2:12] in (record["document"] or "")}
        fits = {id for id, record in want.items() if text[2:12].lower() in (record["document"] or "").lower()}
        expected = f"expected {sorted(exact)}, at most {sorted(fits)}"
        demand(exact <= found <= fits, f"documents that contain {text[2:12]!r}: found {sorted(found)}, {expected}")


def check_searches(collection, entry):
    records = [item for item in entry["records"].items()
               if np.isfinite(item[1]["vector"]).all() and 0 < np.linalg.norm(item[1]["vector"]) < 1e15]
    if len(records) < 15:
        return
    matrix = np.stack([record["vector"] for _, record in records])
    chosen = range(0, len(records), max(1, len(records) // 40))
    queries = matrix[chosen]
    if entry["metric"] == "l2":
        distances = (matrix**2).sum(1) - 2 * queries @ matrix.T
    else:
        distances = -(queries @ matrix.T) / (np.linalg.norm(matrix, axis=1) if entry["metric"] == "cosine" else 1)
    answers = collection.query(query_embeddings=queries.tolist(), n_results=5)["ids"]
    hits = sum(records[at][0] in answer for at, answer in zip(distances.argmin(1), answers))
    demand(hits >= 0.95 * len(answers), f"searches that find the nearest record: {hits} of {len(answers)}")
    # hnswlib's filtered searches end too early in 0.4, and fail before 1.0 if they meet few records that fit.
    if RELEASE < (0, 5) or (RELEASE < (1, 0) and entry["metric"] == "ip"):
        return
    key = "number" if RELEASE >= (1, 0) else "flag"
    filtered = [(id, record) for id, record in records if key in (record["metadata"][0] or {})][::50]
    hits = 0
    for id, record in filtered:
        where = {key: record["metadata"][0][key]}
        hits += collection.query(query_embeddings=[record["vector"].tolist()], n_results=1, where=where)["ids"] == [[id]]
    demand(hits >= 0.9 * len(filtered), f"filtered searches: {hits} of {len(filtered)}")


def work_on(collection, entry):
    """Adds, updates, upserts and deletes records, and changes the expectation accordingly."""
    records, added = entry["records"], entry.get("added", ADDED)
    matrix = vectors(4, added + 3, entry["dimension"])
    record = lambda row, document, **metadata: {"vector": matrix[row], "document": document, "metadata": [metadata],
                                                "uri": None}
    for at in range(0, added, 400):
        new = {f"new-{n}": record(n, f"A new text {n}", new=n) for n in range(at, min(at + 400, added))}
        collection.add(ids=list(new), embeddings=[one["vector"].tolist() for one in new.values()],
                       documents=[one["document"] for one in new.values()],
                       metadatas=[one["metadata"][0] for one in new.values()])
        records.update(new)
    first, second, third = list(records)[:3]
    collection.delete(ids=[first, f"new-{added // 2}"])
    del records[first], records[f"new-{added // 2}"]
    collection.update(ids=[second], embeddings=[matrix[-3].tolist()], documents=["a changed text"])
    records[second].update(vector=matrix[-3], document="a changed text")
    collection.upsert(ids=[third, "upserted"], embeddings=matrix[-2:].tolist(), documents=["upserted text"] * 2,
                      metadatas=[{"upserted": True}] * 2)
    metadata = [{**(one or {}), "upserted": True} for one in records[third]["metadata"]]
    records[third].update(vector=matrix[-2], document="upserted text", metadata=metadata)
    records["upserted"] = record(-1, "upserted text", upserted=True)


def check_all(persist, entries):
    for place in {entry["key"][:2] for entry in entries}:
        expected = {entry["key"][2] for entry in entries if entry["key"][:2] == place}
        same(f"collections of {place}", names(client(persist, *place)), expected)
    for entry in entries:
        with_name(persist, entry, check_records, check_filters, check_searches)


def with_name(persist, entry, *steps):
    """Runs steps with a collection, and names it if they fail."""
    tenant, database, name = entry["key"]
    try:
        collection = client(persist, tenant, database).get_collection(name, embedding_function=None)
        for step in steps:
            step(collection, entry)
    except Exception as error:
        kind = "" if isinstance(error, AssertionError) else f"{step.__name__}: {type(error).__name__}: "
        raise AssertionError(f"{tenant}/{database}/{name[:40]}: {kind}{error}") from error


def use(persist, state):
    """Checks a store, changes records in all of its collections, and the collections themselves."""
    entries = pickle.loads(Path(state).read_bytes())
    check_all(persist, entries)
    for entry in entries:
        with_name(persist, entry, work_on)
    renamed, gone = entries[0], entries.pop()
    with_name(persist, renamed, lambda collection, _: collection.modify(name="renamed", metadata={"note": "renamed"}))
    renamed.update(key=(*renamed["key"][:2], "renamed"), metadata={"note": "renamed"})
    chroma = client(persist, *gone["key"][:2])
    chroma.delete_collection(gone["key"][2])
    created = create(chroma, "created", "cosine", 16, 1000)
    entries.append({"key": (*gone["key"][:2], "created"), "metadata": created.metadata, "metric": "cosine",
                    "dimension": 20, "records": {}})
    with_name(persist, entries[-1], work_on)
    check_all(persist, entries)
    Path(state).write_bytes(pickle.dumps(entries))


def again(persist, state):
    check_all(persist, pickle.loads(Path(state).read_bytes()))


def step(script, name, *arguments):
    """Runs a step in a process of its own."""
    done = subprocess.run([sys.executable, HERE / script, name, *arguments], stderr=subprocess.PIPE)
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"ended with status {done.returncode}"]
    demand(done.returncode == 0, f"Chroma, {name}", lines[-1].removeprefix("AssertionError: "))


def check_with_chroma(persist, entries, scratch):
    state = scratch / "expected"
    state.write_bytes(pickle.dumps(entries))
    step("check_store.py", "use", persist, state)
    step("check_store.py", "again", persist, state)


def digest(directory):
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*")) if path.is_file()}


def repair(toolbox, store, status, *arguments):
    """Returns the response."""
    command = [toolbox, "repair", store, *arguments, "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    demand(done.returncode == status, f"repair: status {done.returncode}, expected {status}", done.stderr.strip(),
           done.stdout.strip()[-1000:])
    return json.loads(done.stdout) if status != 1 else {}


def check_response(answer, entries, lost, fault):
    same("complete", answer["complete"], fault.status == 0)
    found = {(one["tenant"], one["database"], one["name"]): one for one in answer["collections"]}
    same("collections of the response", sorted(found), sorted(entry["key"] for entry in entries))
    for entry in entries:
        one, kept = found[entry["key"]], len(entry["records"])
        missing = len(lost) if entry["key"] == fault.harmed else 0
        same(f"{entry['key']}: id", one["id"], entry["id"])
        same(f"{entry['key']}: without_vector", one["without_vector"], missing)
        same(f"{entry['key']}: records", one["records"], kept)
        vectors_from = [one[f"vectors_from_{source}"] for source in ("segment", "queue", "elsewhere")]
        same(f"{entry['key']}: sum of vectors_from_*", sum(vectors_from), kept)
    same("left_out", answer["left_out"], len(lost))
    same("full_text", answer["full_text"], fault.full_text or answer["full_text"])
    dropped = sum(answer["rows_dropped"].values())
    demand(dropped >= fault.dropped, f"rows_dropped: found {answer['rows_dropped']}, expected {fault.dropped} or more")
    demand(answer["bytes_before"] > 0 and answer["bytes_after"] > 0, "bytes_before, bytes_after", answer)


def check_files(new, entries):
    """Checks the new store without Chroma."""
    same("integrity_check", sql(new, "PRAGMA integrity_check"), [("ok",)])
    sql(new, "INSERT INTO embedding_fulltext_search (embedding_fulltext_search) VALUES ('integrity-check')")
    same("triggers and views", sql(new, "SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view')"), [])
    rows = sum(len(entry["records"]) for entry in entries)
    same("rows of embeddings", sql(new, "SELECT count(*) FROM embeddings"), [(rows,)])
    segments = {str(ids_of(new, entry["key"])[1]) for entry in entries}
    extra = sorted({path.name for path in new.iterdir()} - segments - {"chroma.sqlite3"})
    same("files that are not the store's", extra, [])
    for entry in entries:
        header = segment(new, entry["key"]) / "header.bin"
        if entry["records"] and header.exists():
            m = struct.unpack_from("<iQQQQQQiIQQQdQ", header.read_bytes())[11]
            same(f"{entry['key']}: m", m, entry["m"])


def check_rest(place, store, lost):
    """Checks the exported rest, and that nothing else is left beside the stores."""
    others = sorted(path.name for path in place.iterdir() if path.name not in ("store", "state", "new"))
    time = r"-\d{8}T\d{6}"
    expected = [rf"store\.before-repair{time}"] if store == "store" else []
    expected += [rf"{store}\.without-vectors{time if store == 'store' else ''}"] if lost else []
    fits = len(others) == len(expected) and all(map(re.fullmatch, expected, others))
    demand(fits, f"files beside the new store: found {others}, expected {expected}")
    if lost:
        manifest = json.loads((place / others[-1] / "manifest.json").read_text())
        same("records of the exported rest", manifest["rows"], len(lost))


def check_fault(toolbox, place, fault, stores, in_place):
    shutil.copytree(stores / fault.store, place / "store")
    shutil.copy(stores / f"{fault.store}.state", place / "state")
    store, new = place / "store", place / ("store" if in_place else "new")
    fault.damage(store)
    entries, lost = pickle.loads((place / "state").read_bytes()), []
    for entry in entries:
        entry["added"] = ADDED if not fault.quick or entry["key"] == (fault.harmed or L2) else 40
        if entry["key"] == fault.harmed and fault.loses == "vectors":
            lost = sorted(set(entry["records"]) - queued(store, fault.harmed))
            demand(0 < len(lost) < len(entry["records"]), "the fault loses no vectors, or all of them")
            for id in lost:
                del entry["records"][id]
        elif entry["key"] == fault.harmed and fault.loses == "norms":
            entry["directions"] = True
    before = digest(store)
    answer = repair(toolbox, store, fault.status, *(["--in-place"] if in_place else ["-o", new]))
    kept = next(place.glob("store.before-repair-*"), None) if in_place else store
    demand(kept is not None and digest(kept) == before, "the old store is not as it was")
    if fault.status == 1:
        demand(not new.exists(), "repair failed, and has written")
        return check_rest(place, new.name, [])
    check_response(answer, entries, lost, fault)
    check_rest(place, new.name, lost)
    check_files(new, entries)
    check_with_chroma(new, entries, place.parent)


def check_fixture(toolbox, place, archive):
    with tarfile.open(archive) as tar:
        tar.extractall(place)
    repair(toolbox, place / "persist", 0, "-o", place / "new")
    check_with_chroma(place / "new", list(expected_of(place / "expected.json")), place)


def make_stores(stores):
    for name in ["default", "whole"]:
        step("stores.py", "start", stores / name)
        config = sql(stores / name, "SELECT 1 FROM sqlite_master WHERE name = 'embeddings_queue_config'")
        if name == "whole" and config:
            never = '{"automatically_purge": false, "_type": "EmbeddingsQueueConfigurationInternal"}'
            sql(stores / name, "REPLACE INTO embeddings_queue_config VALUES (1, ?)", values=[never])
        step("stores.py", "make", stores / name)
        step("stores.py", "drop", stores / name)
        step("stores.py", "remember", stores / name, stores / f"{name}.state")


def main(toolbox, *chosen):
    toolbox, here, failures = os.path.abspath(toolbox), faults(), 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        make_stores(scratch)
        checks = [(name, check_fault, (fault, scratch, False)) for name, fault in here.items()]
        checks += [(f"{name}, in place", check_fault, (fault, scratch, True)) for name, fault in here.items()
                   if fault.in_place]
        checks += [(f"fixture {path.name}", check_fixture, (path,)) for path in sorted(FIXTURES.glob("*.tar.gz"))
                   if RELEASE >= (1, 5) or path.name.startswith(chromadb.__version__)]
        checks = [check for check in checks if not chosen or check[0].split(",")[0] in chosen]
        for name, check, arguments in checks:
            (scratch / "place").mkdir()
            result = "as expected"
            try:
                check(toolbox, scratch / "place", *arguments)
            except Exception as error:
                failures += 1
                result = f"FAILED: {'' if isinstance(error, AssertionError) else type(error).__name__ + ': '}{error}"
            print(f"chromadb {chromadb.__version__}: {name}: {result}", flush=True)
            shutil.rmtree(scratch / "place")
    print(f"chromadb {chromadb.__version__}: whole stores: {len(checks) - failures} of {len(checks)} as expected")
    return failures > 0


if __name__ == "__main__":
    if sys.argv[1] in ("use", "again"):
        {"use": use, "again": again}[sys.argv[1]](*sys.argv[2:])
    elif sys.argv[1] == "--store":
        with tempfile.TemporaryDirectory() as scratch:
            shutil.copytree(sys.argv[2], Path(scratch) / "store")
            check_with_chroma(Path(scratch) / "store", list(expected_of(sys.argv[4])), Path(scratch))
    else:
        sys.exit(main(*sys.argv[1:]))
