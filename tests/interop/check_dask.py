"""Checks that examples/dask_export.py loses and duplicates nothing if a worker is killed.

    check_dask.py LIBRARY

Copies of the persist directories of the fixtures are exported by two worker processes, and one is killed in the
middle. Each collection has the same rows as in an export without workers; a second run finds nothing to do.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

import pyarrow.dataset
import pyarrow.parquet

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "dask_export.py"
sys.path.insert(0, str(EXAMPLE.parent))
import dask_export  # noqa: E402

COPIES = 15


def workers_of(pid):
    """Returns Dask's processes, without Python's helpers that supervise them."""
    for entry in pathlib.Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            command = (entry / "cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid and b"spawn_main" in command:
            yield int(entry.name)


def main(library):
    with tempfile.TemporaryDirectory() as scratch:
        root, out = pathlib.Path(scratch, "root"), pathlib.Path(scratch, "out")
        expected = {}
        for archive in sorted((ROOT / "tests" / "fixtures" / "persist").glob("*.tar.gz")):
            unpacked = pathlib.Path(scratch, "unpacked", archive.name)
            with tarfile.open(archive) as tar:
                tar.extractall(unpacked, filter="data")
            (persist,) = [path.parent for path in unpacked.rglob("chroma.sqlite3")]
            for found in dask_export.collections(library, str(persist)):
                rows = dask_export.export(library, str(persist), found, str(pathlib.Path(scratch, "alone", archive.name)))
                expected.update({(f"{archive.name}-{copy}", found["id"]): rows for copy in range(COPIES)})
            for copy in range(COPIES):
                shutil.copytree(persist, root / f"{archive.name}-{copy}")

        command = [sys.executable, str(EXAMPLE), library, str(root), str(out), "2"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while process.poll() is None and sum(1 for _ in out.rglob("*.parquet")) < 20:
            time.sleep(0.005)
        killed = next(workers_of(process.pid))
        os.kill(killed, signal.SIGKILL)
        there = sum(1 for _ in out.rglob("*.parquet"))
        printed, _ = process.communicate(timeout=600)
        assert process.returncode == 0, printed
        assert there < len(expected), "the worker was killed too late"

        found = {}
        for path in out.rglob("*.parquet"):
            key = path.parent.name, path.stem
            assert key not in found
            found[key] = pyarrow.parquet.read_metadata(path).num_rows
        assert found == expected
        for part in out.iterdir():
            pyarrow.dataset.dataset(part).to_table()
        total = sum(expected.values())

        again = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        assert again.startswith("0 rows of "), again
        print(f"{total} rows of {len(expected)} collections, though a worker was killed after {there} of them")


main(*sys.argv[1:])
