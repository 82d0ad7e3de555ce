"""Reads the records of a Chroma index, or of a collection, in Python, without a file:

    python examples/stream.py LIBRARY INDEX_DIR
    python examples/stream.py LIBRARY PERSIST_DIR COLLECTION

LIBRARY is libhnsw_toolbox.so, which `cargo build --release` puts into target/release. The program needs pyarrow. DuckDB,
polars and pandas accept the reader as is.
"""

import ctypes
import json
import sys

import pyarrow as pa


def open_stream(library, **request):
    """A reader of record batches. What a request may hold is said in ffi/include/hnsw_toolbox.h."""
    functions = ctypes.CDLL(library)
    functions.hnsw_toolbox_get_last_error.restype = ctypes.c_char_p
    stream = (ctypes.c_void_p * 5)()  # struct ArrowArrayStream
    if functions.hnsw_toolbox_open_stream(json.dumps(request).encode(), ctypes.byref(stream)) != 0:
        raise OSError(functions.hnsw_toolbox_get_last_error().decode())
    return pa.RecordBatchReader._import_from_c(ctypes.addressof(stream))


if __name__ == "__main__":
    match sys.argv[1:]:
        case [library, index_dir]:
            reader = open_stream(library, index_dir=index_dir)
        case [library, persist_dir, collection]:
            reader = open_stream(library, persist_dir=persist_dir, collections=[collection])
        case _:
            sys.exit(__doc__)
    print(reader.schema)
    rows = sum(batch.num_rows for batch in reader)
    print(f"{rows} rows")
