package hnswtoolbox_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	hnswtoolbox "github.com/amikos-tech/hnsw-toolbox"
	toolbox "github.com/amikos-tech/hnsw-toolbox/go"
)

// TestMain names the library for Init: HNSW_TOOLBOX_LIB, or the one that cargo build writes.
func TestMain(m *testing.M) {
	const variable = "HNSW_TOOLBOX_LIB"
	if os.Getenv(variable) == "" {
		name := map[string]string{"windows": "hnsw_toolbox.dll", "darwin": "libhnsw_toolbox.dylib"}[runtime.GOOS]
		if name == "" {
			name = "libhnsw_toolbox.so"
		}
		if err := os.Setenv(variable, filepath.Join("target", "debug", name)); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func TestBothImportPathsShareTypesErrorsAndLibrary(t *testing.T) {
	if err := hnswtoolbox.Init(""); err != nil {
		t.Fatalf("%v\nBuild the library first: cargo build", err)
	}
	defer hnswtoolbox.Close()
	if version, err := toolbox.Version(); err != nil || version == "" {
		t.Fatalf("found version %q (%v), expected the library's", version, err)
	}

	vectors := filepath.Join(t.TempDir(), "vectors.parquet")
	extracted, err := hnswtoolbox.ExtractIndex(toolbox.ExtractRequest{
		IndexDir:   filepath.Join("tests", "fixtures", "chroma", "1.5.9", "churn", "segment"),
		OutputPath: vectors,
	})
	if err != nil {
		t.Fatal(err)
	}
	graph := filepath.Join(t.TempDir(), "vectors.hnsw")
	_, err = toolbox.BuildIndex(hnswtoolbox.BuildRequest{
		InputPath:  vectors,
		OutputPath: graph,
		Metric:     hnswtoolbox.DistanceMetricSquaredEuclidean,
	})
	if err != nil {
		t.Fatal(err)
	}

	var index *toolbox.Index
	index, err = hnswtoolbox.OpenIndex(graph, toolbox.WithLoad())
	if err != nil {
		t.Fatal(err)
	}
	if uint64(index.Len()) != extracted.Summary.Emitted {
		t.Errorf("found %d vectors, expected %d", index.Len(), extracted.Summary.Emitted)
	}
	neighbours, err := index.Search(make([]float32, index.Dimension()), 3, 50)
	if err != nil || len(neighbours) != 3 {
		t.Errorf("found %v (%v), expected 3 neighbours", neighbours, err)
	}
	if err := index.Close(); err != nil {
		t.Error(err)
	}
	if err := index.Close(); !errors.Is(err, hnswtoolbox.ErrIndexClosed) || !errors.Is(err, toolbox.ErrIndexClosed) {
		t.Errorf("found %v, expected ErrIndexClosed of both packages", err)
	}
	_, err = toolbox.OpenIndex(filepath.Join(t.TempDir(), "missing.hnsw"))
	if failure := new(hnswtoolbox.Error); !errors.As(err, &failure) || !errors.Is(err, hnswtoolbox.ErrIO) {
		t.Errorf("found %v, expected an Error that matches ErrIO", err)
	}
}
