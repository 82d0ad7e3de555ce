/* The C ABI of hnsw-toolbox. Generated from ffi/src/abi.rs: do not edit.
 *
 * Requests and responses are JSON in UTF-8. No function prints, exits or lets a panic escape, and
 * every function may be called from any number of threads concurrently. Once loaded, the library
 * stays mapped, even after dlclose.
 *
 * When memory runs out, a call fails with code 302. Allocations that grow with an input or an option
 * are fallible. Before a step that makes many small allocations, the library first checks that
 * 16 MiB can be allocated. Out of memory still ends the process in the following cases, as an
 * uncaught std::bad_alloc does in C++:
 *   - the engine "hnsw_rs", which allocates its graph in small pieces;
 *   - other threads use up those 16 MiB during a step in arrow2, parquet2, flate2, lz4_flex,
 *     brotli-decompressor, zstd, serde_json or the standard library;
 *   - the system overcommits memory, as Linux does by default, and chooses this process to kill. */

#ifndef HNSW_TOOLBOX_H
#define HNSW_TOOLBOX_H

#include <stdbool.h>
#include <stdint.h>

/* The Arrow C data and stream interfaces, as the standard defines them. */

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
 Version of this interface. It changes when a program built against an older header may stop
 working. Additions do not change it.
 */
#define HNSW_TOOLBOX_ABI_VERSION 1

/*
 Codes of errors. A code never changes its meaning.

 New codes stay in these bands: 1xx request, 2xx input, 3xx operating system, 4xx stopped by the
 caller, 9xx library.
 */
enum hnsw_toolbox_code {
  /*
   The request is not JSON, or not a request at all.
   */
  HNSW_TOOLBOX_CODE_INVALID_REQUEST = 100,
  /*
   A field of the request has an invalid value.
   */
  HNSW_TOOLBOX_CODE_INVALID_ARGUMENT = 101,
  /*
   A file of a segment, or a graph file, violates its format.
   */
  HNSW_TOOLBOX_CODE_CORRUPT_INDEX = 200,
  /*
   A pickle cannot be read.
   */
  HNSW_TOOLBOX_CODE_CORRUPT_METADATA = 201,
  /*
   A Parquet or Arrow IPC input is malformed, or a row of it cannot be used.
   */
  HNSW_TOOLBOX_CODE_INVALID_INPUT = 202,
  /*
   The input is valid, but of a version or kind that is not supported.
   */
  HNSW_TOOLBOX_CODE_UNSUPPORTED = 203,
  /*
   A file changed while it was being read, so nothing was written.
   */
  HNSW_TOOLBOX_CODE_INPUT_CHANGED = 204,
  /*
   chroma.sqlite3 is unreadable, or not Chroma's database.
   */
  HNSW_TOOLBOX_CODE_CORRUPT_DATABASE = 205,
  /*
   The segment has no ids.
   */
  HNSW_TOOLBOX_CODE_NO_IDS = 206,
  /*
   The segment or collection has no record that a repair could write.
   */
  HNSW_TOOLBOX_CODE_NOTHING_TO_REPAIR = 207,
  /*
   The operating system refused an operation on a file.
   */
  HNSW_TOOLBOX_CODE_IO = 300,
  /*
   A path cannot be read or written as requested.
   */
  HNSW_TOOLBOX_CODE_UNUSABLE_PATH = 301,
  /*
   Required memory cannot be allocated.
   */
  HNSW_TOOLBOX_CODE_OUT_OF_MEMORY = 302,
  /*
   The call was cancelled.
   */
  HNSW_TOOLBOX_CODE_CANCELLED = 400,
  /*
   A callback of the caller failed. Reserved: no function of this header takes one.
   */
  HNSW_TOOLBOX_CODE_CALLBACK = 401,
  /*
   A fault in the library.
   */
  HNSW_TOOLBOX_CODE_INTERNAL = 900,
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 The library's version, such as "0.1.0".

 The string is static: never free it. Any thread may call this at any time.
 */
const char *hnsw_toolbox_version(void);

/*
 Interface version of the loaded library, to compare with HNSW_TOOLBOX_ABI_VERSION.

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
      "first_row": null, "rows": null,                range of internal ids: start and count
      "part": null, "parts": null,                    or one part: {"part": 1, "parts": 8}
      "batch_size": 1024,                             rows held in memory at a time
      "vectors": "stored",                            or "original": cosine vectors times their norm
      "salvage": false,                               true: skip damaged parts of a segment
      "dimension": null, "m": null,                   salvage without header.bin: both or neither
      "compression": "none",                          or "snappy", "zstd"
      "row_group_bytes": ...,                         Parquet: bytes of vectors in a row group
      "io": "read",                                   or "mmap": memory maps; SIGBUS if another
                                                      process truncates a file
      "token": null}                                  from hnsw_toolbox_token_new

 Only the first two fields are required. The others are shown with their defaults. An unknown
 field, a wrong type or a value out of range is an error that names the field.

 Each response has "complete". It is false if records, vectors or texts are missing or damaged;
 the command line then exits with 3.

 `request_json` is only read during the call, and remains the caller's. It is UTF-8, ends with a
 NUL, and has at most 1 MiB.

 Returns the response as JSON, which the caller releases with hnsw_toolbox_free_string. Returns
 NULL on an error, which hnsw_toolbox_get_last_error describes on the same thread. The output
 file is written atomically: after an error, an existing file is unchanged.

 Any number of threads may make this call concurrently, with different output paths.
 */
char *hnsw_toolbox_extract_index(const char *request_json);

/*
 Builds an HNSW index from a Parquet or Arrow IPC file and writes it as one .hnsw file.

     {"input_path": "/data/in.parquet",               required
      "output_path": "/data/out.hnsw",                required
      "input_format": "parquet",                      or "arrow_ipc"
      "vector_column": null,                          vectors; null: "vector"
      "label_column": null,                           labels; null: "label", else "internal_id",
                                                      else row numbers
      "row_numbers": false,                           true: labels are always row numbers
      "metric": "euclidean",                          or "squared_euclidean", "cosine",
                                                      "dot_product", "manhattan"; or Chroma's names:
                                                      "l2" is squared_euclidean, "ip" dot_product
      "include_deleted": false,
      "m": 16, "m0": null,                            m0: neighbours on level 0; null: 2*m
      "ef_construction": 200,
      "batch_size": 1024,                             rows read at a time
      "capacity": null,                               maximum number of vectors
      "seed": null,                                   for levels, insertion order and groups
      "threads": null,                                threads of the build; null: one per core
      "engine": "partition",                          or "native", "hnsw_rs"
      "io": "read",                                   or "mmap"
      "token": null}                                  from hnsw_toolbox_token_new

 Strings, ownership, errors, the output file and threads: as for hnsw_toolbox_extract_index.
 */
char *hnsw_toolbox_build_index(const char *request_json);

/*
 Reports the contents of a Chroma vector segment directory, without judging them.

     {"index_dir": "/path/to/vector-segment-dir",     required
      "io": "read",                                   or "mmap"
      "token": null}                                  from hnsw_toolbox_token_new

 In the response, "labels" is null if no record is live, "apparent_bytes" if the file is missing,
 and "allocated_bytes" if the system does not report it:

     {"header": {"word_size_bytes": 8, "persisted_version": 1, "offset_level0": 0,
                 "max_elements": 1000, "cur_element_count": 512, "size_data_per_element": 1676,
                 "label_offset": 1668, "offset_data": 132, "max_level": 1, "enterpoint_node": 3,
                 "max_m": 16, "max_m0": 32, "m": 16, "mult": 0.36, "ef_construction": 100},
      "dimension": 384, "live": 500, "deleted": 12, "labels": {"min": 1, "max": 512},
      "duplicate_labels": 0,
      "files": [{"name": "header.bin", "apparent_bytes": 100, "allocated_bytes": 4096}, ...]}

 Strings, ownership, errors and threads: as for hnsw_toolbox_extract_index.
 */
char *hnsw_toolbox_inspect(const char *request_json);

/*
 Checks the integrity of a Chroma vector segment directory or of a .hnsw file.

     {"index_dir": "/path/to/vector-segment-dir",     required; or the path of a .hnsw file
      "io": "read",                                   or "mmap"
      "token": null}                                  from hnsw_toolbox_token_new

 A damaged index is not an error of the call. In the response, "state" is "healthy", "empty" or
 the worst damage; "severity" is "error", "warning", "hint" or "info"; "first" may be null:

     {"state": "torn_links", "damaged": true, "live": 500, "deleted": 12,
      "findings": [{"code": "links.neighbour_out_of_range", "severity": "error",
                    "file": "data_level0.bin", "count": 2, "first": "record 5, level 0",
                    "words": "neighbours are not internal ids of the index"}, ...]}

 Strings, ownership, errors and threads: as for hnsw_toolbox_extract_index.
 */
char *hnsw_toolbox_verify(const char *request_json);

/*
 Lists the collections of a Chroma persist directory, which contains chroma.sqlite3.

     {"persist_dir": "/path/to/persist-dir",          required
      "database": null, "tenant": null,               only collections of these
      "io": "read",                                   or "mmap"
      "token": null}                                  from hnsw_toolbox_token_new

 The response has, for each collection: its tenant, database, name, id, segment directory, metric
 and the metric's source, dimension, records, records in the index, queue rows not yet in the
 index, records without a vector, state, metadata and findings. It also lists the directories
 that belong to no segment.

 The persist directory is never written. If SQLite left a journal or a write-ahead log, a copy of
 the database in the system's temporary directory is read instead. A database that changes during
 the call is an error (204). Do not call this in a process that has the same database open
 through another copy of SQLite: on POSIX systems, closing the file drops that process's locks on
 it.

 Strings, ownership, errors and threads: as for hnsw_toolbox_extract_index. A library built
 without its feature "database" lacks this function, hnsw_toolbox_export,
 hnsw_toolbox_repair_store and hnsw_toolbox_import.
 */
char *hnsw_toolbox_list_collections(const char *request_json);

/*
 Writes the collections of a Chroma persist directory to Parquet or Arrow IPC files: ids,
 vectors, documents and metadata, including the newest writes.

     {"persist_dir": "/path/to/persist-dir",          required
      "output_path": "/data/collections",             required
      "output_format": "parquet",                     or "arrow_ipc"
      "collections": null,                            array of names; null or empty: all
      "database": null, "tenant": null,               only collections of these
      "vectors": "original",                          or "stored": cosine vectors of length 1
      "metadata": "json",                             or "columns": one typed column per key
      "index_columns": false,                         true: also internal_id, label and seq_id
      "batch_size": 1024,                             rows held in memory at a time
      "compression": "none",                          or "snappy", "zstd"
      "io": "read",                                   or "mmap"
      "dimension": null, "m": null,                   for a lost header.bin, if nothing else
                                                      states them
      "metric": null,                                 "l2", "cosine" or "ip", if the database
                                                      does not state it
      "token": null}                                  from hnsw_toolbox_token_new

 "output_path" is a directory, which must be missing or empty, and is written atomically. It gets
 one file per collection, and manifest.json. With the extension .parquet, .arrow, .ipc or
 .feather it is the file for a single collection.

 Input, strings, ownership, errors and threads: as for hnsw_toolbox_list_collections.
 */
char *hnsw_toolbox_export(const char *request_json);

/*
 Writes a healthy Chroma vector segment directory to replace a damaged or bloated one.

     {"index_dir": "/path/to/vector-segment-dir",     required; never written. With a collection,
                                                      the persist directory
      "output_path": "/path/to/new-dir",              required; must not exist
      "links": null,                                  "keep" or "build"; null: keep if intact
      "metric": null,                                 "l2", "cosine" or "ip", if no database states it
      "collection": null,                             its name; merges the queue into its records
      "database": null, "tenant": null,               to distinguish collections of one name
      "dimension": null, "m": null,                   without header.bin: both or neither
      "threads": null,                                at most 8
      "io": "read",                                   or "mmap"
      "token": null}                                  from hnsw_toolbox_token_new

 The directory is written atomically and never replaces anything. summary.steps in the response
 lists the steps to make Chroma use it.

 Strings, ownership, errors and threads: as for hnsw_toolbox_extract_index.
 */
char *hnsw_toolbox_repair_index(const char *request_json);

/*
 Writes a healthy replacement for a whole Chroma persist directory: chroma.sqlite3 and the segment
 of every collection.

     {"persist_dir": "/path/to/persist-dir",          required
      "output_dir": "/path/to/new-dir",               required unless "in_place" is true; must not
                                                      exist
      "in_place": false,                              true: replace "persist_dir" under its name
      "template": null,                               an empty store of the Chroma that will open
                                                      the result, if the table migrations is lost
      "keep_incomplete": false,                       true: keep records without a vector
      "links": null,                                  "keep" or "build"; null: keep if intact
      "metric": null,                                 "l2", "cosine" or "ip", if the database
                                                      does not state it
      "dimension": null, "m": null,                   for a lost header.bin, if nothing else
                                                      states them
      "threads": null,                                at most 8
      "io": "read",                                   or "mmap"
      "dry_run": false,                               true: write nothing, only report
      "token": null}                                  from hnsw_toolbox_token_new

 The response has, for each collection: its tenant, database, name, id, new segment directory,
 dimension, metric and the metric's source, records, the sources of their vectors, records without
 a vector, links and findings. Its other fields:

     {"complete": true, "persist_dir": "...", "output_dir": "...", "dry_run": false,
      "records": 5000,                                of the new store
      "left_out": 0, "left_out_dir": null,            records without a vector, and their export
      "kept_dir": null, "undo": [],                   in place: the old store, and the commands that
                                                      bring it back
      "collections": [...],
      "rows_dropped": {"embeddings": 3},              rows that were left out, by table
      "full_text": "copied",                          or "built"; null in a dry run
      "leftover_directories": [...],                  segments without a collection, left out
      "other_files": 0, "other_bytes": 0,             files that are not Chroma's, copied
      "bytes_before": 9000000, "bytes_after": 8000000,
      "replayed": "...",                              if SQLite left a journal or write-ahead log
      "findings": [...], "warnings": [...]}           absent if empty

 The new directory is written atomically, after it was read back and checked. Records without a
 vector are exported to "output_dir" with the suffix .without-vectors, because Chroma 1.0 and later
 fails on filtered queries of a collection with such records.

 In place, the names of the old and the new store are exchanged at once, and the old one stays in
 "kept_dir". This fails if any process, including the caller's, has a file of the store open. If
 the process may be killed during the call, use "output_dir": the commands of "undo" come only with
 the response.

 Input, strings, ownership, errors and threads: as for hnsw_toolbox_list_collections. Without
 "in_place", the persist directory is never written.
 */
char *hnsw_toolbox_repair_store(const char *request_json);

/*
 Imports records into a Chroma persist directory, from other persist directories, exports and
 files.

     {"sources": ["/path/to/source", ...],            required: persist directories, outputs of
                                                      hnsw_toolbox_export, Parquet or Arrow IPC
                                                      files, or directories of such files
      "into_dir": "/path/to/persist-dir",             required; the persist directory to extend
      "output_dir": "/path/to/new-dir",               required unless "in_place" is true; must not
                                                      exist
      "in_place": false,                              true: replace "into_dir" under its name
      "collections": null,                            array of names; null or empty: all. For a
                                                      file that names none, its collection
      "columns": null,                                columns of files:
                                                      {"id": "...", "vector": "...",
                                                       "document": "...", "metadata": [...]}
      "rename": null,                                 {"old name": "new name", ...}
      "database": null, "tenant": null,               where the collections go; null: as in their
                                                      source
      "metric": null,                                 of new collections: "l2", "cosine" or "ip"
      "m": null, "ef_construction": null,             of new collections: 2 to 256, 1 to 65536
      "on_conflict": "error",                         or "skip", "replace": for a record whose id
                                                      the collection has
      "lists": "list",                                or "json": metadata values that are lists, as
                                                      text
      "keep_incomplete": false,                       true: import records without a vector
      "threads": null,                                at most 8
      "dry_run": false,                               true: write nothing, only report
      "token": null}                                  from hnsw_toolbox_token_new

 A field of "columns" may be absent or null. The defaults are the columns id or ids; vector,
 embedding, embeddings, emb or the only column with lists of floats; document, text or content. The
 columns uri, metadata and metadata.<key> are always imported.

 A collection that "into_dir" does not have is created, with the configuration and the metadata of
 its source. Null for "metric", "m" and "ef_construction" means the source's values, else l2, 16 and
 100. For an existing collection, these must be null or equal to its own.

 The response has, for each collection with imported records: its tenant, database, name, id,
 "is_new", segment directory, dimension, metric, links, counts of records, origins and findings. Its
 other fields:

     {"complete": true, "sources": [...], "into_dir": "...", "output_dir": "...", "dry_run": false,
      "records": 5000,                                of the new store
      "imported": 900,                                records; in a dry run, if no id occurs twice
      "skipped": 0, "replaced": 0,                    records whose id the collection had
      "left_out": 0,                                  records of the sources without a vector
      "collections": [...],
      "full_text": "extended",                        or "copied", "built"; null in a dry run
      "kept_dir": null, "undo": [],                   in place: the old store, and the commands that
                                                      bring it back
      "bytes_before": 8000000, "bytes_after": 9000000,
      "findings": [...], "warnings": [...]}           absent if empty

 The new directory is written as hnsw_toolbox_repair_store writes it, atomically and after a check;
 the same holds for "in_place".

 A name or a record that the Chroma of "into_dir" does not allow, a repeated id and vectors of
 another dimension than the collection's are errors (101).

 Input, strings, ownership, errors and threads: as for hnsw_toolbox_list_collections. The sources
 are never written. Without "in_place", "into_dir" is never written.
 */
char *hnsw_toolbox_import(const char *request_json);

/*
 Opens an Arrow C stream of the records of an index or of a collection, without a file.

 The request has the fields of hnsw_toolbox_extract_index without "output_path", "output_format",
 "compression" and "row_group_bytes". With "persist_dir" it has the fields of hnsw_toolbox_export
 without "output_path", "output_format" and "compression", and must select one collection. The
 columns are the same as in the file, in batches of at most "batch_size" rows or 16 MiB of
 vectors. A NUL in a column name, which metadata keys may contain, becomes the two characters \0.

 `out` is a struct of the caller's that holds no stream. Any Arrow library can import it:
 pyarrow.RecordBatchReader._import_from_c, arrow::ImportRecordBatchReader, and so on. It may be
 used by one thread at a time, not always the same one. It may be released at any time, which
 waits until the work has stopped; batches already taken remain valid. A token in the request
 stops the work, and may be freed at once.

 If a file changed during the call, the end of the stream is an error. A callback returns 0, or
 EIO, ENOMEM or EINVAL; get_last_error then returns "[E<code>] <words>". The error of a callback
 is also its thread's last error.

 Returns 0, or the code of an error, which hnsw_toolbox_get_last_error describes on the same
 thread. After an error, out->release is NULL.
 */
int hnsw_toolbox_open_stream(const char *request_json, struct ArrowArrayStream *out);

/*
 Describes the error of the calling thread's last call: "[E<code>] <words>". Returns NULL if that
 call succeeded, or if there was none. Functions without an error of this kind, such as
 hnsw_toolbox_token_free, leave it unchanged.

 The string belongs to the library: never free it. It is valid until the thread's next such call
 or the thread's end. Each thread has its own last error.
 */
const char *hnsw_toolbox_get_last_error(void);

/*
 Parts of the error that hnsw_toolbox_get_last_error describes, as JSON. Returns NULL if there is
 no error.

     {"code": 200, "name": "CORRUPT_INDEX",           as in enum hnsw_toolbox_code
      "message": "...",                               the text without its code
      "path": "/data/segment/header.bin",             the file or directory
      "field": "length",                              its field, or the field of the request
      "offset": null,                                 bytes from the start of the file
      "found": "7 bytes", "expected": "100 bytes"}

 A part that the error does not have is null. A path that is not UTF-8 is escaped as in the
 message.

 The string and its lifetime: as for hnsw_toolbox_get_last_error.
 */
const char *hnsw_toolbox_get_last_error_json(void);

/*
 Code of the error that hnsw_toolbox_get_last_error describes, as in enum hnsw_toolbox_code, or 0.
 */
uint32_t hnsw_toolbox_get_last_error_code(void);

/*
 Releases a response, exactly once and unmodified, on any thread. NULL is allowed.
 */
void hnsw_toolbox_free_string(char *ptr);

/*
 Creates a token. Other threads can use it to watch and stop a call whose request names it:
 `"token": 7`. Returns its number, which is never 0 and never reused.

 Release it with hnsw_toolbox_token_free. Any thread may use any token at any time.
 */
uint64_t hnsw_toolbox_token_new(void);

/*
 Asks every call that names the token, now or later, to stop. Such a call fails with code 400 and
 writes no file. This cannot be undone. Returns false if there is no such token.
 */
bool hnsw_toolbox_token_cancel(uint64_t token);

/*
 Reports the progress of the call that names the token: rows done and total rows, both 0 before
 it starts. Either pointer may be NULL. Returns false and writes nothing if there is no such
 token.
 */
bool hnsw_toolbox_token_progress(uint64_t token, uint64_t *done, uint64_t *total);

/*
 Releases a token. A call that still names it continues, and can no longer be watched or stopped.
 Returns false if there is no such token, as after its release.
 */
bool hnsw_toolbox_token_free(uint64_t token);

/*
 Opens a .hnsw index for searching. Returns immediately: the file is mapped, not loaded, unless
 "load" is true.

     {"index_path": "/data/index.hnsw",               required
      "metric": null,                                 required if the file does not state it
      "io": "mmap",                                   or "read"
      "load": false}                                  true: load the file now, for faster searches

 Returns its number, which is never 0 and never reused. Returns 0 on an error, which
 hnsw_toolbox_get_last_error describes on the same thread. The string is as for
 hnsw_toolbox_extract_index. Release the index with hnsw_toolbox_index_close.
 */
uint64_t hnsw_toolbox_index_open(const char *request_json);

/*
 Reports the number of vectors of an open index, and their dimension. Either pointer may be NULL.
 Returns false, writes nothing and sets the last error if there is no such index.
 */
bool hnsw_toolbox_index_shape(uint64_t index, uint64_t *vectors, uint64_t *dimension);

/*
 Searches an open index for the k nearest neighbours of each query, approximately.

 `queries` holds count contiguous queries of `dimension` components each, which must be the
 index's dimension. `ef` is the number of candidates that a search keeps: larger values are more
 accurate and slower, and values below k count as k. `threads` share the queries; 0 means one per
 core.

 `labels` and `distances` have room for `count * k` values each. The results of query q start at
 `q * k`, nearest first. `found` has room for count numbers: the number of results of each query.
 It is below k if the index has fewer vectors, or damaged ones, which are never returned (see
 hnsw_toolbox_index_damaged). The places beyond the results are not written. Each of the three
 arrays may be NULL.

 Returns false if the search failed, and hnsw_toolbox_get_last_error on the same thread gives the
 reason. On failure the contents of the output arrays are unspecified. Any number of threads may
 search an index concurrently.
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
 Reports the number of damaged vectors, with a component that is not finite, that searches of an
 open index have met so far. They are left out of all results. hnsw_toolbox_verify finds all of
 them.

 `vectors` may be NULL. Returns false, writes nothing and sets the last error if there is no such
 index.
 */
bool hnsw_toolbox_index_damaged(uint64_t index, uint64_t *vectors);

/*
 Closes an index. Running searches continue. Returns false if there is no such index, as after it
 was closed.
 */
bool hnsw_toolbox_index_close(uint64_t index);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HNSW_TOOLBOX_H */
