"""Exports every collection of many persist directories to one Parquet dataset, on the workers of a Dask cluster.

    python examples/dask_export.py LIBRARY ROOT OUT [WORKERS]

ROOT contains persist directories, for example one for each tenant. Each collection is written to
OUT/dimension=<n>/<directory>/<collection id>.parquet. The files of one dimension have the same schema, so any engine
that reads Parquet can read them as one table. LIBRARY is libhnsw_toolbox.so. The program needs dask, distributed and
pyarrow.

Files are written atomically, under a name that does not depend on the worker. If a worker dies, its work is repeated
elsewhere. If the program is run again, existing files are skipped.
"""

import ctypes
import json
import pathlib
import sys

from dask.distributed import Client, LocalCluster, as_completed


def call(library, function, **request):
    """Calls a function of ffi/include/hnsw_toolbox.h, and returns its response."""
    functions = ctypes.CDLL(library)
    functions.hnsw_toolbox_get_last_error.restype = ctypes.c_char_p
    function = getattr(functions, function)
    function.restype = ctypes.c_void_p
    response = function(json.dumps(request).encode())
    if response is None:
        raise OSError(functions.hnsw_toolbox_get_last_error().decode())
    try:
        return json.loads(ctypes.string_at(response))
    finally:
        functions.hnsw_toolbox_free_string(ctypes.c_void_p(response))


def collections(library, persist_dir):
    return call(library, "hnsw_toolbox_list_collections", persist_dir=persist_dir)["collections"]


def export(library, persist_dir, collection, out):
    """Exports a collection unless its file exists. Returns the number of rows written."""
    name = pathlib.Path(persist_dir).name
    path = pathlib.Path(out, f"dimension={collection['dimension'] or 0}", name, f"{collection['id']}.parquet")
    if path.exists():
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    response = call(
        library,
        "hnsw_toolbox_export",
        persist_dir=persist_dir,
        output_path=str(path),
        collections=[collection["name"]],
        database=collection["database"],
        tenant=collection["tenant"],
    )
    return response["summary"]["rows"]


def main(library, root, out, workers=2):
    library, root, out = (str(pathlib.Path(path).resolve()) for path in (library, root, out))
    directories = sorted(str(path.parent) for path in pathlib.Path(root).glob("*/chroma.sqlite3"))
    with LocalCluster(n_workers=int(workers), threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        # Dask replaces a worker that dies, and another one repeats its work.
        listed = client.gather(client.map(collections, [library] * len(directories), directories))
        work = [(directory, found) for directory, all in zip(directories, listed) for found in all]
        futures = [client.submit(export, library, *unit, out, retries=3, pure=False) for unit in work]
        rows = sum(future.result() for future in as_completed(futures))
    print(f"{rows} rows of {len(work)} collections of {len(directories)} directories")


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
