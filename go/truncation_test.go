package hnswtoolbox

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// truncations is the number of times that a file is cut while calls read it.
const truncations = 200

// truncateWhile cuts a file and restores it, again and again, while read runs in a loop. With a map, the
// first access past the end would kill the process (SIGBUS).
func truncateWhile(t *testing.T, path string, read func() error) {
	t.Helper()
	content := mustRead(t, path)
	done := make(chan error, 1)
	go func() {
		for i := range truncations {
			// Lengths from 0 to 7/8 of the file.
			if err := os.Truncate(path, int64(len(content)/8*(i%8))); err != nil {
				done <- err
				return
			}
			time.Sleep(time.Millisecond)
			if err := os.WriteFile(path, content, 0o644); err != nil {
				done <- err
				return
			}
			time.Sleep(4 * time.Millisecond)
		}
		done <- nil
	}()
	for {
		var refused *Error
		if err := read(); err != nil && !errors.As(err, &refused) {
			t.Fatalf("an error of another type: %v", err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if err := read(); err != nil {
				t.Fatalf("the restored file: %v", err)
			}
			return
		default:
		}
	}
}

func TestTruncatedFilesNeverKillTheProcess(t *testing.T) {
	const dimension = 64
	segment := largeIndex(t, 5_000, dimension)
	level0 := filepath.Join(segment, "data_level0.bin")
	directory := t.TempDir()
	vectors := filepath.Join(directory, "vectors.parquet")
	graph := filepath.Join(directory, "graph.hnsw")

	t.Run("extract", func(t *testing.T) {
		truncateWhile(t, level0, func() error {
			_, err := ExtractIndex(ExtractRequest{IndexDir: segment, OutputPath: vectors})
			return err
		})
	})
	t.Run("inspect", func(t *testing.T) {
		truncateWhile(t, level0, func() error {
			_, err := InspectIndex(InspectRequest{IndexDir: segment})
			return err
		})
	})
	t.Run("verify", func(t *testing.T) {
		truncateWhile(t, level0, func() error {
			_, err := VerifyIndex(VerifyRequest{IndexDir: segment})
			return err
		})
	})
	if _, err := BuildIndex(BuildRequest{InputPath: vectors, OutputPath: graph}); err != nil {
		t.Fatal(err)
	}
	t.Run("build", func(t *testing.T) {
		truncateWhile(t, vectors, func() error {
			_, err := BuildIndex(BuildRequest{
				InputPath: vectors, OutputPath: filepath.Join(directory, "again.hnsw"),
			})
			return err
		})
	})
	t.Run("search", func(t *testing.T) {
		query := make([]float32, dimension)
		truncateWhile(t, graph, func() error {
			// The default maps the file: outputs are replaced by rename, never truncated.
			index, err := OpenIndex(graph, WithIO(IOModeRead))
			if err != nil {
				return err
			}
			defer index.Close()
			for range 20 {
				if _, err := index.Search(query, 10, 50); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func TestGraphFileReplacedDuringSearchesStaysReadable(t *testing.T) {
	path, vectors := buildIndex(t, DistanceMetricEuclidean)
	content := mustRead(t, path)
	index, err := OpenIndex(path)
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	label := slices.Sorted(maps.Keys(vectors))[0]
	for i := range truncations {
		// As every output is written: a new file, renamed over the old one.
		replacement := filepath.Join(filepath.Dir(path), "replacement")
		if err := os.WriteFile(replacement, content[:len(content)/8*(i%8)], 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(replacement, path); err != nil {
			t.Fatal(err)
		}
		found, err := index.Search(vectors[label], 1, 50)
		if err != nil || len(found) != 1 || found[0].Label != label {
			t.Fatalf("found %v, %v", found, err)
		}
	}
}
