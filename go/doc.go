// Package hnswtoolbox gets vectors out of Chroma's persisted HNSW directories, and builds new HNSW
// indexes from Parquet and Arrow IPC files.
//
// It calls the dynamic library of hnsw-toolbox, without cgo. [Init] loads the library: from the
// path that it is given; or else from the path in the environment variable HNSW_TOOLBOX_LIB; or
// else from the directory of the running executable, under the platform's usual name
// (libhnsw_toolbox.so, libhnsw_toolbox.dylib or hnsw_toolbox.dll).
//
//	if err := hnswtoolbox.Init(""); err != nil {
//		return err
//	}
//	defer hnswtoolbox.Close()
//
//	resp, err := hnswtoolbox.ExtractIndex(hnswtoolbox.ExtractRequest{
//		IndexDir:   "/path/to/vector-segment-dir",
//		OutputPath: "/data/rebuilt.parquet",
//	})
//
// [Records] and [Batches] go over the records of such a directory without a file.
//
// [InspectIndex] reports what such a directory holds, and [VerifyIndex] whether it is damaged.
//
// Every function may be called from any number of goroutines at once. The functions whose name ends
// with Context stop when their context ends, and can report progress.
//
// A field of a request that is left at its zero value has its documented default. Outputs appear
// whole or not at all: after an error, a cancellation or a crash an earlier file of that name is as
// it was.
//
// Errors work with [errors.Is] and the sentinels of this package, such as [ErrCorruptIndex], and
// with [errors.As] and [Error], whose Code never changes its meaning.
package hnswtoolbox
