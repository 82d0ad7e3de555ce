/* The C ABI of hnsw-toolbox. Generated from ffi/src/abi.rs: do not edit.
 *
 * Requests and responses are JSON in UTF-8. No function prints, exits, or lets a panic out; every
 * function may be called from any number of threads at once. The library stays mapped once it is
 * loaded, dlclose or not.
 *
 * When memory runs out, a call fails with code 302. Memory that grows with an input or an option is
 * asked for in a way that can fail; and before a step that takes more in small pieces, the library
 * asks whether 16 MiB are to be had. What is left ends the process, as operator new does in a C++
 * program that catches nothing:
 *   - the engine "hnsw_rs", which takes the memory of its graph in small pieces;
 *   - other threads that take those 16 MiB while a step is in arrow2, parquet2, flate2, lz4_flex,
 *     brotli-decompressor, zstd, serde_json or the standard library;
 *   - where the system promises more memory than it has, as Linux does by default, the process
 *     that it chooses to end. */

#ifndef HNSW_TOOLBOX_H
#define HNSW_TOOLBOX_H

#include <stdbool.h>
#include <stdint.h>

/* The Arrow C data and stream interfaces, as the standard has them. */

#ifdef __cplusplus
extern "C" {
#endif

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
  const char *format;
  const char *name;
  const char *metadata;
  int64_t flags;
  int64_t n_children;
  struct ArrowSchema **children;
  struct ArrowSchema *dictionary;
  void (*release)(struct ArrowSchema *);
  void *private_data;
};

struct ArrowArray {
  int64_t length;
  int64_t null_count;
  int64_t offset;
  int64_t n_buffers;
  int64_t n_children;
  const void **buffers;
  struct ArrowArray **children;
  struct ArrowArray *dictionary;
  void (*release)(struct ArrowArray *);
  void *private_data;
};

#endif /* ARROW_C_DATA_INTERFACE */

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE

struct ArrowArrayStream {
  int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
  int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
  const char *(*get_last_error)(struct ArrowArrayStream *);
  void (*release)(struct ArrowArrayStream *);
  void *private_data;
};

#endif /* ARROW_C_STREAM_INTERFACE */

#ifdef __cplusplus
}
#endif


/*
 The version of this interface. It changes when a program built against an older header could
 no longer work; additions leave it as it is.
 */
#define HNSW_TOOLBOX_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 The library's version, such as "0.1.0".

 The string is static: never free it. Any thread may call this at any time.
 */
const char *hnsw_toolbox_version(void);

/*
 The interface version of the loaded library: compare it with HNSW_TOOLBOX_ABI_VERSION.

 Any thread may call this at any time.
 */
uint32_t hnsw_toolbox_abi_version(void);

/*
 Writes the records of a Chroma vector segment directory to a Parquet or Arrow IPC file.

     {"index_dir": "/path/to/vector-segment-dir",     required
      "output_path": "/data/out.parquet",             required
      "output_format": "parquet",                     or "arrow_ipc"
      "metadata_path": null,                          an index_metadata.pickle to join
      "include_deleted": false,
      "first_row": null, "rows": null,                internal ids: from which on, and how many
      "part": null, "parts": null,                    or part 1 of 8, as {"part": 1, "parts": 8}
      "batch_size": 1024,                             rows held in memory at a time
      "vectors": "stored",                            or "original": cosine vectors times their length
      "salvage": false,                               true: what can be saved of a damaged index
      "dimension": null, "m": null,                   salvage without header.bin: both or neither
      "compression": "none",                          or "snappy", "zstd"
      "row_group_bytes": ...,                         Parquet: bytes of vectors in a row group
      "io": "read",                                   or "mmap": maps, which a file that another
                                                      process truncates turns into SIGBUS
      "token": null}                                  from hnsw_toolbox_token_new

 Only the first two fields are needed; the others are shown with their defaults. An unknown
 field, a wrong type and a value out of range are errors that name the field.

 Each response has "complete", which is false when records, vectors or texts are missing or
 damaged; the command line then exits with 3.

 `request_json` is read during the call only, and stays the caller's. It is UTF-8, ends with a
 NUL, and has at most 1 MiB.

 Returns the response as JSON, which the caller releases with hnsw_toolbox_free_string; or NULL,
 and hnsw_toolbox_get_last_error on the same thread says why. The output file appears whole or
 not at all: after an error an earlier file of that name is as it was.

 Any number of threads may be in this call at once, with different output paths.
 */
char *hnsw_toolbox_extract_index(const char *request_json);

/*
 Builds an HNSW index from a Parquet or Arrow IPC file and writes it as one .hnsw file.

     {"input_path": "/data/in.parquet",               required
      "output_path": "/data/out.hnsw",                required
      "input_format": "parquet",                      or "arrow_ipc"
      "vector_column": null,                          of the vectors; "vector" when null
      "label_column": null,                           of the labels; when null, "label", or else
                                                      "internal_id", or else row numbers
      "row_numbers": false,                           true: labels are row numbers in any case
      "metric": "euclidean",                          or "squared_euclidean", "cosine",
                                                      "dot_product", "manhattan"; or Chroma's names:
                                                      "l2" is squared_euclidean, "ip" dot_product
      "include_deleted": false,
      "m": 16, "m0": null,                            m0: neighbours on level 0, 2*m when null
      "ef_construction": 200,
      "batch_size": 1024,                             rows read at a time
      "capacity": null,                               the most vectors there may be
      "seed": null,                                   of levels, order and groups
      "threads": null,                                to build with
      "engine": "partition",                          or "native", "hnsw_rs"
      "io": "read",                                   or "mmap"
      "token": null}                                  from hnsw_toolbox_token_new

 Strings, ownership, errors, the output file and threads: all as for hnsw_toolbox_extract_index.
 */
char *hnsw_toolbox_build_index(const char *request_json);

/*
 Reports what a Chroma vector segment directory holds, without judging it.

     {"index_dir": "/path/to/vector-segment-dir",     required
      "io": "read",                                   or "mmap"
      "token": null}                                  from hnsw_toolbox_token_new

 The response, in which "labels" is null when no record is live, "apparent_bytes" when there is
 no such file, and "allocated_bytes" where the system does not tell:

     {"header": {"word_size_bytes": 8, "persisted_version": 1, "offset_level0": 0,
                 "max_elements": 1000, "cur_element_count": 512, "size_data_per_element": 1676,
                 "label_offset": 1668, "offset_data": 132, "max_level": 1, "enterpoint_node": 3,
                 "max_m": 16, "max_m0": 32, "m": 16, "mult": 0.36, "ef_construction": 100},
      "dimension": 384, "live": 500, "deleted": 12, "labels": {"min": 1, "max": 512},
      "duplicate_labels": 0,
      "files": [{"name": "header.bin", "apparent_bytes": 100, "allocated_bytes": 4096}, ...]}

 Strings, ownership, errors and threads: all as for hnsw_toolbox_extract_index.
 */
char *hnsw_toolbox_inspect(const char *request_json);

/*
 Checks everything that the files of a Chroma vector segment directory, or a .hnsw file, promise.

     {"index_dir": "/path/to/vector-segment-dir",     required; or that of a .hnsw file
      "io": "read",                                   or "mmap"
      "token": null}                                  from hnsw_toolbox_token_new

 The response, which is no error when the index is damaged. "state" is "healthy", "empty" or the
 worst damage; "severity" is "error", "warning", "hint" or "info"; "first" may be null:

     {"state": "torn_links", "damaged": true, "live": 500, "deleted": 12,
      "findings": [{"code": "links.neighbour_out_of_range", "severity": "error",
                    "file": "data_level0.bin", "count": 2, "first": "record 5, level 0",
                    "words": "neighbours are not internal ids of the index"}, ...]}

 Strings, ownership, errors and threads: all as for hnsw_toolbox_extract_index.
 */
char *hnsw_toolbox_verify(const char *request_json);

/*
 Lists the collections of a Chroma persist directory, the one with chroma.sqlite3.

     {"persist_dir": "/path/to/persist-dir",          required
      "database": null, "tenant": null,               only the collections of these
      "io": "read",                                   or "mmap"
      "token": null}                                  from hnsw_toolbox_token_new

 The response says of each collection its tenant, database, name, id, segment directory, metric
 and where that was found, dimension, records, records in the index, rows of the log that wait
 for the index, records without a vector, state, metadata and findings; and which directories
 belong to no segment.

 The persist directory is only read. Where SQLite left a journal or a write-ahead log, a copy of
 the database is made in the system's temporary directory, and read. A database that changes
 meanwhile is an error (204). Not to be called in a process that has the same database open by
 another copy of SQLite: on POSIX systems, closing the file drops that process's locks on it.

 Strings, ownership, errors and threads: as for hnsw_toolbox_extract_index. A library that was
 built without its feature "database" lacks this function and the next.
 */
char *hnsw_toolbox_list_collections(const char *request_json);

/*
 Writes the collections of a Chroma persist directory to Parquet or Arrow IPC files: ids,
 vectors, documents and metadata, the newest writes included.

     {"persist_dir": "/path/to/persist-dir",          required
      "output_path": "/data/collections",             required
      "output_format": "parquet",                     or "arrow_ipc"
      "collections": null,                            an array of names; all when null or empty
      "database": null, "tenant": null,               only the collections of these
      "vectors": "original",                          or "stored": cosine vectors of length 1
      "metadata": "json",                             or "columns": a typed column for each key
      "index_columns": false,                         internal_id, label and seq_id, too
      "batch_size": 1024,                             rows held in memory at a time
      "compression": "none",                          or "snappy", "zstd"
      "io": "read",                                   or "mmap"
      "dimension": null, "m": null,                   where header.bin is lost, and nothing else
                                                      says them
      "metric": null,                                 "l2", "cosine" or "ip", where the database
                                                      does not say it
      "token": null}                                  from hnsw_toolbox_token_new

 "output_path" is a directory, which must not exist or be empty, and appears whole or not at all:
 with a file for each collection, and manifest.json. With the extension .parquet, .arrow, .ipc or
 .feather it is the file for one collection.

 What is read, strings, ownership, errors and threads: as for hnsw_toolbox_list_collections.
 */
char *hnsw_toolbox_export(const char *request_json);

/*
 Writes a healthy Chroma vector segment directory in the place of a damaged or bloated one.

     {"index_dir": "/path/to/vector-segment-dir",     required; only read. With a collection, the
                                                      persist directory
      "output_path": "/path/to/new-dir",              required; nothing may be there
      "links": null,                                  "keep" or "build"; null: keep, if sound
      "metric": null,                                 "l2", "cosine" or "ip"; "build" needs it
      "collection": null,                             its name: records are merged with the log
      "database": null, "tenant": null,               where several have one of that name
      "dimension": null, "m": null,                   without header.bin: both or neither
      "threads": null,                                at most 8
      "io": "read",                                   or "mmap"
      "token": null}                                  from hnsw_toolbox_token_new

 The directory appears whole or not at all, and never over anything. The response's
 summary.steps say how to have Chroma use it.

 Strings, ownership, errors and threads: all as for hnsw_toolbox_extract_index.
 */
char *hnsw_toolbox_repair_index(const char *request_json);

/*
 Opens an Arrow C stream of the records of an index, or of a collection, without a file.

 The request is that of hnsw_toolbox_extract_index without "output_path", "output_format",
 "compression" and "row_group_bytes"; or that of hnsw_toolbox_export, which has "persist_dir",
 without "output_path", "output_format" and "compression", and with one collection. The columns
 are those of the file, in batches of "batch_size" rows at most, or of 16 MiB of vectors. A NUL in
 a name, which metadata keys may have, is written as the two characters \0.

 `out` is a struct of the caller's that holds no stream. Any Arrow library takes it over from
 there: pyarrow.RecordBatchReader._import_from_c, arrow::ImportRecordBatchReader, and so on. It is
 used by one thread at a time, not always the same. It may be released at any time, which waits
 until the work has stopped; batches that were taken stay good. A token of the request stops the
 work, and may be freed at once.

 That a file has changed meanwhile is an error at the end of the stream. A callback returns 0, or
 EIO, ENOMEM or EINVAL, and get_last_error then gives "[E<code>] <words>".

 Returns 0, or the code of an error, which hnsw_toolbox_get_last_error on the same thread
 describes; out->release is then NULL.
 */
int hnsw_toolbox_open_stream(const char *request_json, struct ArrowArrayStream *out);

/*
 Why the calling thread's last call failed, of those that return NULL, 0, false or a code with an error:
 "[E<code>] <words>". NULL when it succeeded, or when there was none. The other functions leave it
 as it is.

 The string is the library's: never free it. It is valid until the thread's next such call, or
 its end. Other threads' errors are their own.
 */
const char *hnsw_toolbox_get_last_error(void);

/*
 The code of the error that hnsw_toolbox_get_last_error describes, or 0. A code never changes
 its meaning.

     100  the request is not JSON, or not a request       101  a field's value is refused
     200  corrupt index        201  corrupt metadata      202  malformed Parquet or Arrow input
     203  an input of a kind that is not supported        204  an input changed while it was read
     205  chroma.sqlite3 cannot be read
     300  the operating system refused                    301  a path that cannot be used
     302  out of memory
     400  cancelled
     900  a fault in the library

 New codes stay in these bands: 1xx request, 2xx input, 3xx operating system, 4xx stopped by the
 caller, 9xx library.
 */
uint32_t hnsw_toolbox_get_last_error_code(void);

/*
 Releases a response: once, as it was returned, on any thread. NULL is fine.
 */
void hnsw_toolbox_free_string(char *ptr);

/*
 Makes a token, which watches and stops a call from other threads when the call's request names
 it: `"token": 7`. Returns its number, which is never 0 and never used again.

 Release it with hnsw_toolbox_token_free. Any thread may use any token at any time.
 */
uint64_t hnsw_toolbox_token_new(void);

/*
 Asks every call that names the token, now or later, to stop: it then fails with code 400 and
 writes no file. It cannot be undone. Returns false when there is no such token.
 */
bool hnsw_toolbox_token_cancel(uint64_t token);

/*
 How far the call that names the token has come: rows done, and rows in all, both 0 before it
 starts. Either pointer may be NULL. Returns false, and writes nothing, when there is no such
 token.
 */
bool hnsw_toolbox_token_progress(uint64_t token, uint64_t *done, uint64_t *total);

/*
 Releases a token; a call that still names it goes on, and can no longer be watched or stopped.
 Returns false when there is no such token, as after it was freed.
 */
bool hnsw_toolbox_token_free(uint64_t token);

/*
 Opens a .hnsw index for searching. Unless that is asked for, nothing of it is loaded: it takes a
 moment, however large the index is.

     {"index_path": "/data/index.hnsw",               required
      "metric": null,                                 needed when the file does not state it
      "io": "mmap",                                   or "read"
      "load": false}                                  read all of it into memory now: faster searches

 Returns its number, which is never 0 and never used again; or 0, and
 hnsw_toolbox_get_last_error on the same thread says why. The string is as for
 hnsw_toolbox_extract_index. Release the index with hnsw_toolbox_index_close.
 */
uint64_t hnsw_toolbox_index_open(const char *request_json);

/*
 How many vectors an open index has, and how many elements each. Either pointer may be NULL.
 Returns false, writes nothing, and sets the last error when there is no such index.
 */
bool hnsw_toolbox_index_shape(uint64_t index, uint64_t *vectors, uint64_t *dimension);

/*
 Finds the k vectors of an open index that are likely the nearest to each of some queries.

 `queries` holds count queries of `dimension` elements each, one after the other; the dimension is
 the index's. `ef` is how many candidates a search keeps: the more, the surer and the slower;
 fewer than k count as k. `threads` share the queries: 0 for one each core.

 `labels` and `distances` have room for count * k values each: those of query q start at q * k,
 nearest first. `found` has room for count numbers, one for each query: how many were found, which
 are fewer than k when the index has fewer, or has damaged vectors, which are never found (see
 hnsw_toolbox_index_damaged). Places beyond them stay as they are. Each of the three may be NULL.

 Returns false when nothing was searched, and hnsw_toolbox_get_last_error on the same thread says
 why. What was written to the arrays is of no use then. Any number of threads may search an index
 at once.
 */
bool hnsw_toolbox_index_search(uint64_t index,
                               const float *queries,
                               uint64_t count,
                               uint64_t dimension,
                               uint64_t k,
                               uint64_t ef,
                               uint64_t threads,
                               uint64_t *labels,
                               float *distances,
                               uint64_t *found);

/*
 How many damaged vectors the searches of an open index have met so far: those with a component
 that is not finite. They are left out of all results. hnsw_toolbox_verify finds every one.

 `vectors` may be NULL. Returns false, writes nothing, and sets the last error when there is no such
 index.
 */
bool hnsw_toolbox_index_damaged(uint64_t index, uint64_t *vectors);

/*
 Closes an index; searches that are running go on. Returns false when there is no such index, as
 after it was closed.
 */
bool hnsw_toolbox_index_close(uint64_t index);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HNSW_TOOLBOX_H */
