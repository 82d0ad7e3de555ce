"""Faults for check_store.py: how each damages a store, and the results that a repair of it must have."""

import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from stores import COSINE, IP, L2, RELEASE, TAIL, ids_of, segment, sql

PAGE = 4096


class Fault(NamedTuple):
    damage: Callable[[Path], None]
    # The collection with the damage, if only one has it.
    harmed: Optional[tuple] = None
    status: int = 0
    # Of the harmed collection, records whose vector is not in the queue lose it, or only their norm.
    loses: Optional[str] = None
    full_text: Optional[str] = None
    # At least so many rows of no collection are left out.
    dropped: int = 0
    # "default" purges the queue as this release does, "whole" never.
    store: str = "default"
    in_place: bool = False
    # Only the harmed collection grows over several flushes.
    quick: bool = True
    since: tuple = (0, 4)


def queued(store, collection):
    """Returns the ids whose vector is in the queue."""
    query = "SELECT DISTINCT id FROM embeddings_queue WHERE vector IS NOT NULL AND topic LIKE '%/' || ?"
    return {id for (id,) in sql(store, query, values=ids_of(store, collection)[:1])}


def purge(store, collection):
    """Deletes the writes that the segment has. Releases before 0.5.6 leave that to the user."""
    topic = "SELECT seq_id FROM embeddings_queue WHERE topic LIKE '%/' || ?1 ORDER BY seq_id DESC LIMIT 51"
    statement = f"DELETE FROM embeddings_queue WHERE topic LIKE '%/' || ?1 AND seq_id NOT IN ({topic})"
    sql(store, statement, values=ids_of(store, collection)[:1])


def leaves(data, page):
    """Returns the leaf pages of a b-tree."""
    at = (page - 1) * PAGE
    if data[at] in (0x0A, 0x0D):
        return [page]
    (cells,) = struct.unpack_from(">H", data, at + 3)
    places = struct.unpack_from(f">{cells}H", data, at + 12)
    children = [struct.unpack_from(">I", data, at + place)[0] for place in (*places, 8)]
    return [leaf for child in children for leaf in leaves(data, child)]


def scribble(store, condition):
    """Overwrites the leaf pages of b-trees with random bytes."""
    path = Path(store) / "chroma.sqlite3"
    roots = sql(store, f"SELECT rootpage FROM sqlite_master WHERE {condition}")
    data = bytearray(path.read_bytes())
    for page in [page for (root,) in roots for page in leaves(data, root)]:
        data[(page - 1) * PAGE:page * PAGE] = random.Random(page).randbytes(PAGE)
    path.write_bytes(data)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def lose_segment(store):
    purge(store, TAIL)
    shutil.rmtree(segment(store, TAIL))


def lose_segments(store):
    for (id,) in sql(store, "SELECT id FROM segments WHERE scope = 'VECTOR'"):
        shutil.rmtree(store / id, ignore_errors=True)


def quarantine(store):
    purge(store, TAIL)
    path = segment(store, TAIL)
    path.rename(f"{path}.drift-20260501-101010")


def poison(store):
    """Replaces watermarks as migration metadb/00005 does if they are INTEGER already."""
    for id in ids_of(store, IP)[1:]:
        ((watermark,),) = sql(store, "SELECT seq_id FROM max_seq_id WHERE segment_id = ?", values=[id])
        poisoned = int.from_bytes(str(watermark).encode().rjust(8, b"\x11"), "big")
        sql(store, "UPDATE max_seq_id SET seq_id = ? WHERE segment_id = ?", values=[poisoned, id])


def leave_rows(store):
    """Adds rows that no collection owns."""
    gone = "00000000-dead-4000-8000-000000000000"
    _, _, metadata_segment = ids_of(store, L2)
    of_gone = f"FROM embeddings WHERE segment_id = '{gone}'"
    text = "'leftover of a deleted collection'"
    sql(
        store,
        f"""INSERT INTO embeddings (segment_id, embedding_id, seq_id) SELECT '{gone}', embedding_id, seq_id
            FROM embeddings WHERE segment_id = '{metadata_segment}' LIMIT 200""",
        f"INSERT INTO embedding_metadata (id, key, string_value) SELECT id, 'chroma:document', {text} {of_gone}",
        f"INSERT INTO embedding_fulltext_search (rowid, string_value) SELECT id, {text} {of_gone}",
        f"INSERT INTO max_seq_id SELECT '{gone}', seq_id FROM max_seq_id LIMIT 1",
        f"INSERT INTO collection_metadata (collection_id, key, str_value) VALUES ('{gone}', 'k', 'v')",
        f"INSERT INTO segment_metadata (segment_id, key, str_value) VALUES ('{gone}', 'k', 'v')",
    )


def die(store):
    """Dies in a transaction, with changed pages in the database."""
    code = """if True:
        import os, signal, sqlite3, sys
        database = sqlite3.connect(sys.argv[1] + "/chroma.sqlite3", isolation_level=None)
        database.execute("PRAGMA cache_size = 5")
        database.execute("BEGIN")
        database.execute("UPDATE embedding_metadata SET string_value = 'uncommitted'")
        database.execute("DELETE FROM embeddings WHERE id % 2")
        os.kill(os.getpid(), signal.SIGKILL)"""
    before = (store / "chroma.sqlite3").read_bytes()
    subprocess.run([sys.executable, "-c", code, store])
    assert (store / "chroma.sqlite3-journal").stat().st_size > PAGE, "the journal is not hot"
    assert (store / "chroma.sqlite3").read_bytes() != before, "no page was written before the process died"


def write_ahead(store):
    """Lets Chroma write to a database in WAL mode, and die. The write-ahead log has all of its last writes."""
    script = Path(__file__).with_name("stores.py")
    done = subprocess.run([sys.executable, script, "write_ahead", store, store.with_name("state")])
    assert done.returncode == -signal.SIGKILL, f"the writer ended with {done.returncode}"
    assert (store / "chroma.sqlite3-wal").stat().st_size > PAGE, "the write-ahead log is empty"


OBJECTS = [
    "CREATE TABLE user_notes (id INTEGER PRIMARY KEY, note TEXT, size AS (length(note)))",
    "INSERT INTO user_notes (note) VALUES ('mine')",
    "CREATE TRIGGER user_trigger AFTER INSERT ON user_notes BEGIN DELETE FROM embeddings; END",
    "CREATE VIEW user_view AS SELECT embedding_id FROM embeddings",
    "CREATE INDEX user_index ON embeddings (created_at)",
]
TRIGGER = "CREATE TRIGGER user_trigger AFTER INSERT ON embeddings BEGIN SELECT RAISE(ABORT, 'user trigger'); END"
TEXT_ROWS = "DELETE FROM embedding_fulltext_search WHERE rowid % 3 = 0"
TEXT_PAGES = "name = 'embedding_fulltext_search_data'"

FAULTS = {
    "none": Fault(lambda store: None, full_text="copied", in_place=True, quick=False),
    "text-dropped": Fault(lambda store: sql(store, "DROP TABLE embedding_fulltext_search"), full_text="built"),
    "text-pages": Fault(lambda store: scribble(store, TEXT_PAGES), full_text="built"),
    "text-rows": Fault(lambda store: sql(store, TEXT_ROWS), full_text="built"),
    "watermark": Fault(poison, IP, since=(1, 0)),
    "segments-lost-queue-whole": Fault(lose_segments, store="whole"),
    "segment-lost": Fault(lose_segment, TAIL, 3, "vectors", in_place=True),
    "pickle-lost": Fault(lambda store: (segment(store, TAIL) / "index_metadata.pickle").unlink(), TAIL, 3, "vectors"),
    "header-lost": Fault(lambda store: (segment(store, COSINE) / "header.bin").write_bytes(b""), COSINE),
    "links-zeroed": Fault(lambda store: zero(segment(store, IP) / "link_lists.bin"), IP),
    "norms-zeroed": Fault(lambda store: zero(segment(store, COSINE) / "length.bin"), COSINE, 3, "norms"),
    "quarantined": Fault(quarantine, TAIL),
    "leftovers": Fault(leave_rows, dropped=2),
    "write-ahead-log": Fault(write_ahead),
    "hot-journal": Fault(die),
    "index-pages": Fault(lambda store: scribble(store, "type = 'index'")),
    "user-objects": Fault(lambda store: sql(store, *OBJECTS)),
    # docs/cli.md: databases whose own tables have triggers are refused.
    "user-trigger": Fault(lambda store: sql(store, TRIGGER), status=1),
}

# Results that differ by release: fault, first release, first release after them, changes, reason.
WHOLE = "the queue is never purged, so it has every vector"
DIFFERENCES = [
    ("none", (0, 4), (1, 0), {"full_text": "built"}, "deleted records and collections leave their full text"),
    ("pickle-lost", (0, 4), (0, 5, 6), {"status": 0, "loses": None}, WHOLE),
    ("norms-zeroed", (0, 4), (0, 5, 6), {"status": 0, "loses": None}, WHOLE),
    ("pickle-lost", (1, 0), (9,), {"status": 0, "loses": None}, "labels have the order of the ids' rows"),
]


def faults():
    """Returns the faults that apply to this release, with its differences."""
    here = {name: fault for name, fault in FAULTS.items() if fault.since <= RELEASE}
    for name, first, end, changes, _ in DIFFERENCES:
        if name in here and first <= RELEASE < end:
            here[name] = here[name]._replace(**changes)
    return here
