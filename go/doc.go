// Package hnswtoolbox extracts vectors from Chroma's on-disk HNSW indexes, builds new HNSW indexes
// from Parquet or Arrow IPC files, and searches them.
//
// It calls the dynamic library of hnsw-toolbox without cgo. [Init] loads the library and documents
// the search order. In a clone of the repository, this command installs it for the current user on
// Linux:
//
//	make install-lib PREFIX="$HOME/.local/share/hnsw-toolbox"
//
// This program extracts the vectors of a Chroma index, builds a new index from them, and prints the
// ten vectors nearest to the origin:
//
//	package main
//
//	import (
//		"fmt"
//		"log"
//		"os"
//		"path/filepath"
//
//		hnswtoolbox "github.com/amikos-tech/hnsw-toolbox"
//	)
//
//	func run(segment, output string) error {
//		if err := hnswtoolbox.Init(""); err != nil {
//			return err
//		}
//		defer hnswtoolbox.Close()
//
//		extracted, err := hnswtoolbox.ExtractIndex(hnswtoolbox.ExtractRequest{
//			IndexDir:   segment,
//			OutputPath: filepath.Join(output, "vectors.parquet"),
//		})
//		if err != nil {
//			return err
//		}
//		built, err := hnswtoolbox.BuildIndex(hnswtoolbox.BuildRequest{
//			InputPath:  extracted.OutputPath,
//			OutputPath: filepath.Join(output, "vectors.hnsw"),
//			Metric:     hnswtoolbox.DistanceMetricSquaredEuclidean,
//		})
//		if err != nil {
//			return err
//		}
//		fmt.Println(built.Summary.Inserted, "vectors of dimension", built.Summary.Dimension)
//
//		index, err := hnswtoolbox.OpenIndex(built.OutputPath)
//		if err != nil {
//			return err
//		}
//		defer index.Close()
//		query := make([]float32, index.Dimension())
//		neighbours, err := index.Search(query, 10, 100) // the 10 nearest, of 100 candidates
//		if err != nil {
//			return err
//		}
//		for _, neighbour := range neighbours {
//			fmt.Println("label", neighbour.Label, "distance", neighbour.Distance)
//		}
//		return nil
//	}
//
//	func main() {
//		if len(os.Args) != 3 {
//			log.Fatalf("usage: %s SEGMENT_DIR OUTPUT_DIR", os.Args[0])
//		}
//		if err := run(os.Args[1], os.Args[2]); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// [Records] and [Batches] read an index without writing a file. [InspectIndex] reports the contents
// of an index, and [VerifyIndex] its damage. [ListCollections] and [Export] read whole collections
// from the directory of a Chroma database. [RepairIndex] writes a healthy replacement of a damaged
// index, and [RepairStore] a replacement of the whole directory. [Import] extends such a directory by
// the records of others, of exports and of files.
//
// All functions can be called from any number of goroutines at once. Functions whose name ends with
// Context stop when their context ends, and can report progress.
//
// Request fields with their zero value have the documented defaults. Output files are replaced
// atomically: after an error, a cancellation or a crash, an existing file is unchanged.
//
// Errors work with [errors.Is] and the sentinels of this package, such as [ErrCorruptIndex], and
// with [errors.As] and [Error], which has the path, the field, the value found and the value expected.
// The meaning of its Code never changes.
package hnswtoolbox
