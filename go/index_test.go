package hnswtoolbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// buildIndex builds an index of a fixture's vectors, and returns its path and the vectors by label.
func buildIndex(t testing.TB, metric DistanceMetric) (string, map[uint64][]float32) {
	t.Helper()
	f := loadFixture(t, "1.5.9/churn")
	directory := t.TempDir()
	extracted, err := ExtractIndex(ExtractRequest{
		IndexDir: f.segment, OutputPath: filepath.Join(directory, "vectors.parquet"),
	})
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(1)
	built, err := BuildIndex(BuildRequest{
		InputPath: extracted.OutputPath, OutputPath: filepath.Join(directory, "index.hnsw"),
		Metric: metric, Seed: &seed,
	})
	if err != nil {
		t.Fatal(err)
	}
	vectors := make(map[uint64][]float32)
	for id, vector := range f.truth.Embeddings {
		if label, ok := f.truth.Labels[id]; ok {
			vectors[label] = vector
		}
	}
	if len(vectors) < 900 {
		t.Fatalf("the truth holds %d vectors", len(vectors))
	}
	return built.OutputPath, vectors
}

func TestEveryVectorIsFoundUnderItsOwnLabel(t *testing.T) {
	path, vectors := buildIndex(t, DistanceMetricEuclidean)
	for way, how := range []OpenOption{WithIO(IOModeMmap), WithIO(IOModeRead), WithLoad()} {
		index, err := OpenIndex(path, how, WithMetric(DistanceMetricEuclidean))
		if err != nil {
			t.Fatal(err)
		}
		if index.Len() != 960 || index.Dimension() != 5 {
			t.Fatalf("%d vectors of dimension %d", index.Len(), index.Dimension())
		}
		var queries [][]float32
		var labels []uint64
		for label, vector := range vectors {
			found, err := index.Search(vector, 2, 100)
			if err != nil {
				t.Fatal(err)
			}
			if len(found) != 2 || found[0].Label != label || found[0].Distance != 0 || found[1].Distance < 0 {
				t.Fatalf("opened in way %d: label %d: found %v", way, label, found)
			}
			queries, labels = append(queries, vector), append(labels, label)
		}
		batch, err := index.SearchBatch(queries, 2, 100)
		if err != nil {
			t.Fatal(err)
		}
		for i, found := range batch {
			if len(found) != 2 || found[0].Label != labels[i] {
				t.Fatalf("opened in way %d: label %d: found %v", way, labels[i], found)
			}
		}
		// As many as exist, for any larger k.
		all, err := index.Search(queries[0], 1<<40, 1<<40)
		if err != nil || len(all) < 950 || len(all) > 960 {
			t.Fatalf("%d found, %v", len(all), err)
		}
		if none, err := index.SearchBatch(nil, 1, 1); err != nil || len(none) != 0 {
			t.Fatalf("%v, %v", none, err)
		}
		if err := index.Close(); err != nil {
			t.Fatal(err)
		}
		if err := index.Close(); !errors.Is(err, ErrIndexClosed) {
			t.Fatal(err)
		}
		if _, err := index.Search(queries[0], 1, 1); !errors.Is(err, ErrIndexClosed) {
			t.Fatal(err)
		}
	}
}

func TestSixteenGoroutinesSearchOneIndex(t *testing.T) {
	path, vectors := buildIndex(t, DistanceMetricSquaredEuclidean)
	index, err := OpenIndex(path)
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	var group sync.WaitGroup
	failures := make(chan error, 16)
	for range 16 {
		group.Add(1)
		go func() {
			defer group.Done()
			searches := 0
			for label, vector := range vectors {
				found, err := index.Search(vector, 3, 60)
				if err != nil || found[0].Label != label {
					failures <- fmt.Errorf("label %d: %v, %w", label, found, err)
					return
				}
				// A failure private to this goroutine.
				if _, err := index.Search(vector[:3], 3, 60); !errors.Is(err, ErrInvalidRequest) {
					failures <- fmt.Errorf("a short vector: %w", err)
					return
				}
				if searches++; searches == 300 {
					return
				}
			}
		}()
	}
	group.Wait()
	close(failures)
	for failure := range failures {
		t.Error(failure)
	}
}

func TestSearchesWhileTheIndexIsClosedFailAsClosed(t *testing.T) {
	path, vectors := buildIndex(t, DistanceMetricCosine)
	var query []float32
	for _, vector := range vectors {
		query = vector
	}
	for range 20 {
		index, err := OpenIndex(path)
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for range 8 {
			group.Add(1)
			go func() {
				defer group.Done()
				for range 50 {
					if _, err := index.Search(query, 1, 10); err != nil {
						if !errors.Is(err, ErrIndexClosed) {
							t.Error(err)
						}
						return
					}
				}
			}()
		}
		if err := index.Close(); err != nil {
			t.Error(err)
		}
		group.Wait()
	}
}

func TestIndexErrorsNameWhatIsWrong(t *testing.T) {
	path, vectors := buildIndex(t, DistanceMetricEuclidean)
	index, err := OpenIndex(path)
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	var query []float32
	for _, vector := range vectors {
		query = vector
	}
	search := func(vector []float32, k, ef int) error {
		_, err := index.Search(vector, k, ef)
		return err
	}
	_, batch := index.SearchBatch([][]float32{query, query[:2]}, 1, 1)
	open := func(path string, opts ...OpenOption) error {
		_, err := OpenIndex(path, opts...)
		return err
	}
	noIndex := filepath.Join(t.TempDir(), "x.hnsw")
	if err := os.WriteFile(noIndex, make([]byte, 300), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		err   error
		is    error
		words string
	}{
		{search(query, 0, 1), ErrInvalidRequest, "k: found 0"},
		{search(query, 1, -1), ErrInvalidRequest, "ef: found -1"},
		{search(nil, 1, 1), ErrInvalidRequest, "dimension: found 0, expected 5"},
		{batch, ErrInvalidRequest, "query 1: found 2 elements"},
		{open(path, WithMetric(DistanceMetricCosine)), ErrInvalidRequest, "found cosine, expected euclidean"},
		{open(path, WithIO("x")), ErrInvalidRequest, "io"},
		{open(noIndex), ErrCorruptIndex, "magic"},
		{open(filepath.Join(t.TempDir(), "none")), ErrIO, "none"},
		{open("a\xff"), ErrInvalidRequest, "index_path"},
	} {
		if !errors.Is(test.err, test.is) || !strings.Contains(test.err.Error(), test.words) {
			t.Errorf("found %v, expected %v with %q", test.err, test.is, test.words)
		}
	}
	if LastError() == "" {
		t.Error("the last error is not kept")
	}
	if err := search(query, 1, 1); err != nil || LastError() != "" {
		t.Errorf("%v, %q", err, LastError())
	}
}

// TestDamagedVectorsAreLeftOutAndCounted opens an index with a vector that has a NaN component.
func TestDamagedVectorsAreLeftOutAndCounted(t *testing.T) {
	path, vectors := buildIndex(t, DistanceMetricCosine)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const damaged = 7
	at := 256 + 4*5*damaged
	binary.LittleEndian.PutUint32(file[at:], math.Float32bits(float32(math.NaN())))
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	report, err := VerifyIndex(VerifyRequest{IndexDir: path})
	if err != nil || !report.Damaged || report.Findings[0].Code != "vectors.not_finite" {
		t.Fatalf("%+v, %v", report, err)
	}
	index, err := OpenIndex(path)
	if err != nil {
		t.Fatal(err)
	}
	if count, err := index.Damaged(); count != 0 || err != nil {
		t.Fatalf("%d, %v", count, err)
	}
	for _, vector := range vectors {
		found, err := index.Search(vector, index.Len(), index.Len())
		if err != nil || len(found) != index.Len()-1 {
			t.Fatalf("%d found, %v", len(found), err)
		}
		for _, hit := range found {
			if math.IsNaN(float64(hit.Distance)) {
				t.Fatalf("label %d at no distance", hit.Label)
			}
		}
		break
	}
	if count, err := index.Damaged(); count != 1 || err != nil {
		t.Fatalf("%d, %v", count, err)
	}
	if err := index.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := index.Damaged(); !errors.Is(err, ErrIndexClosed) {
		t.Fatal(err)
	}
}

// emptyIndex writes a graph file without vectors whose header states a dimension.
func emptyIndex(t *testing.T, dimension uint64) string {
	t.Helper()
	file := make([]byte, 272)
	copy(file, "HNSWNDX\x00")
	file[8] = 1
	binary.LittleEndian.PutUint64(file[20:], dimension)
	binary.LittleEndian.PutUint64(file[52:], math.MaxUint64)
	path := filepath.Join(t.TempDir(), "empty.hnsw")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNothingIsAllocatedByTheDimensionOfAFile(t *testing.T) {
	for _, dimension := range []uint64{1 << 29, 1 << 32, 1 << 44, 1 << 62, math.MaxUint64} {
		_, err := OpenIndex(emptyIndex(t, dimension), WithMetric(DistanceMetricCosine))
		if !errors.Is(err, ErrCorruptIndex) || !strings.Contains(err.Error(), "dimension: found") {
			t.Errorf("dimension %d: %v", dimension, err)
		}
	}
	// The maximum: 2 GiB for each of these vectors, if the header were trusted.
	const largest = 1<<29 - 1
	index, err := OpenIndex(emptyIndex(t, largest), WithMetric(DistanceMetricCosine))
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	if index.Len() != 0 || index.Dimension() != largest {
		t.Fatalf("%d vectors of dimension %d", index.Len(), index.Dimension())
	}
	short := make([][]float32, 1<<16)
	for i := range short {
		short[i] = []float32{1, 2, 3}
	}
	if _, err := index.SearchBatch(short, 10, 10); !errors.Is(err, ErrInvalidRequest) {
		t.Fatal(err)
	}
	// If a library trusted a larger one, a batch must not.
	believed := &Index{lib: index.lib, number: index.number, dimension: 1 << 44, vectors: math.MaxInt}
	if _, err := believed.SearchBatch(short, 10, 10); !errors.Is(err, ErrInvalidRequest) {
		t.Fatal(err)
	}
	if _, err := believed.Search(short[0], math.MaxInt, 1); !errors.Is(err, ErrInvalidRequest) {
		t.Fatal(err)
	}
	if found, err := index.SearchBatch(nil, math.MaxInt, math.MaxInt); err != nil || len(found) != 0 {
		t.Fatalf("%v, %v", found, err)
	}
}

func TestAHugeKGivesWhatThereIs(t *testing.T) {
	path, vectors := buildIndex(t, DistanceMetricEuclidean)
	index, err := OpenIndex(path)
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	var queries [][]float32
	for _, vector := range vectors {
		queries = append(queries, vector)
		if len(queries) == 3 {
			break
		}
	}
	// A file that claims more vectors than it has must not matter.
	claimed := &Index{lib: index.lib, number: index.number, dimension: index.dimension, vectors: 1 << 40}
	expected, err := index.SearchBatch(queries, index.Len(), index.Len())
	if err != nil {
		t.Fatal(err)
	}
	found, err := claimed.SearchBatch(queries, 1<<40, 0)
	if err != nil || !reflect.DeepEqual(found, expected) {
		t.Fatalf("%d found, %v", len(found), err)
	}
}

func TestRowNumbersAreLabelsWhateverColumnsThereAre(t *testing.T) {
	input := extracted(t, loadFixture(t, "1.5.9/churn"), OutputFormatParquet)
	output := filepath.Join(t.TempDir(), "index.hnsw")
	request := BuildRequest{InputPath: input, OutputPath: output, RowNumbers: true, LabelColumn: "label"}
	if _, err := BuildIndex(request); !errors.Is(err, ErrInvalidRequest) {
		t.Fatal(err)
	}
	request.LabelColumn = ""
	if _, err := BuildIndex(request); err != nil {
		t.Fatal(err)
	}
	index, err := OpenIndex(output)
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	found, err := index.Search(make([]float32, 5), index.Len(), index.Len())
	if err != nil {
		t.Fatal(err)
	}
	labels := make(map[uint64]bool)
	for _, hit := range found {
		labels[hit.Label] = true
		// The collection's labels exceed the number of vectors, because some records are deleted.
		if hit.Label >= uint64(index.Len()) {
			t.Fatalf("label %d", hit.Label)
		}
	}
	if len(labels) != len(found) {
		t.Fatalf("%d labels of %d vectors", len(labels), len(found))
	}
}
