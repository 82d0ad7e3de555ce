package hnswtoolbox

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
)

func uint64p(n uint64) *uint64 { return &n }

func TestRecordsAreThoseOfTheIndex(t *testing.T) {
	for _, f := range allFixtures(t) {
		req := ExtractRequest{
			IndexDir:  f.segment,
			Vectors:   VectorsStored,
			BatchSize: 100,
		}
		pickle := filepath.Join(f.segment, "index_metadata.pickle")
		if _, err := os.Stat(pickle); err == nil {
			req.MetadataPath = pickle
		}
		if f.truth.Space == "cosine" {
			req.Vectors = VectorsOriginal
		}
		ids := make(map[string]bool)
		var count, last uint64
		for record, err := range Records(context.Background(), req) {
			if err != nil {
				t.Fatalf("%s: %v", f.name, err)
			}
			if count > 0 && record.InternalID <= last {
				t.Fatalf("%s: %d after %d", f.name, record.InternalID, last)
			}
			count, last = count+1, record.InternalID
			if record.Deleted || record.UserID == nil {
				continue
			}
			ids[*record.UserID] = true
			if label, ok := f.truth.Labels[*record.UserID]; ok && label != record.Label {
				t.Fatalf("%s: %s has label %d, expected %d", f.name, *record.UserID, record.Label, label)
			}
			expected, ok := f.truth.Embeddings[*record.UserID]
			if !ok || stale(f, *record.UserID) {
				continue
			}
			for i, component := range record.Vector {
				if math.Abs(float64(component-expected[i])) > 1e-5*max(1, math.Abs(float64(expected[i]))) {
					t.Fatalf("%s: %s: found %v, expected %v", f.name, *record.UserID, record.Vector, expected)
				}
			}
		}
		if count != f.truth.LiveRecords || uint64(len(ids)) > count || (req.MetadataPath != "") != (len(ids) > 0) {
			t.Errorf("%s: %d records, %d ids, expected %d", f.name, count, len(ids), f.truth.LiveRecords)
		}
	}
}

func stale(f fixture, id string) bool {
	for _, other := range f.truth.Stale {
		if other == id {
			return true
		}
	}
	return false
}

func TestPartsOfAStreamAreTheWhole(t *testing.T) {
	f := loadFixture(t, "1.5.9/churn")
	collect := func(req ExtractRequest) (all []Record) {
		req.IndexDir, req.IncludeDeleted, req.BatchSize = f.segment, true, 64
		for record, err := range Records(context.Background(), req) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, record)
		}
		return all
	}
	whole := collect(ExtractRequest{})
	var parts []Record
	for part := range uint64(7) {
		parts = append(parts, collect(ExtractRequest{Part: uint64p(part + 1), Parts: uint64p(7)})...)
	}
	rows := collect(ExtractRequest{FirstRow: uint64p(10), Rows: uint64p(5)})
	if len(whole) < 900 || len(parts) != len(whole) || len(rows) != 5 || rows[0].InternalID != 10 {
		t.Fatalf("%d, %d, %d records", len(whole), len(parts), len(rows))
	}
	for i, record := range whole {
		if parts[i].Label != record.Label || parts[i].Vector[0] != record.Vector[0] || record.UserID != nil {
			t.Fatalf("found %+v, expected %+v", parts[i], record)
		}
	}
}

func TestAStreamEndsWithItsLoopItsContextAndItsErrors(t *testing.T) {
	endless := endlessIndex(t)
	seen := 0
	for batch, err := range Batches(context.Background(), ExtractRequest{IndexDir: endless}) {
		if err != nil || batch.Len() != 1024 || batch.Dimension != 1024 {
			t.Fatal(err)
		}
		if seen++; seen == 3 {
			break
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var last error
	for _, err := range Records(ctx, ExtractRequest{IndexDir: endless}) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) || !errors.Is(last, ErrCancelled) {
		t.Errorf("found %v", last)
	}
	directory := t.TempDir()
	for name, req := range map[string]ExtractRequest{
		"no index":  {IndexDir: directory},
		"no part":   {IndexDir: endless, Part: uint64p(3), Parts: uint64p(2)},
		"an output": {IndexDir: endless, OutputPath: filepath.Join(directory, "out")},
	} {
		count := 0
		for _, err := range Records(context.Background(), req) {
			if count++; err == nil {
				t.Errorf("%s: no error", name)
				break
			}
			if errors.Is(err, ErrInternal) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if count != 1 {
			t.Errorf("%s: %d errors", name, count)
		}
	}
	assertFiles(t, directory)
}

// appendByte makes a file one byte longer without truncating it first, unlike os.WriteFile. The
// library can have the file mapped, and reading a mapped page past its end is a fatal SIGBUS.
func appendByte(t *testing.T, path string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = file.Write([]byte{0})
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnIndexThatChangesIsAnErrorAtTheEnd(t *testing.T) {
	index := largeIndex(t, 3000, 8)
	level0 := filepath.Join(index, "data_level0.bin")
	var last error
	count := 0
	for batch, err := range Batches(context.Background(), ExtractRequest{IndexDir: index}) {
		if last = err; err != nil {
			break
		}
		if count == 0 {
			appendByte(t, level0)
		}
		count += batch.Len()
	}
	var failure *Error
	if !errors.As(last, &failure) || failure.Code != 204 || count != 3000 {
		t.Fatalf("%d records, %v", count, last)
	}
	// The parts come through the callback of the stream.
	if failure.Path != level0 || failure.Found == "" || failure.Expected == "" {
		t.Errorf("found %+v, expected the path %s", *failure, level0)
	}
}

func BenchmarkBatches(b *testing.B) {
	for name, shape := range map[string][2]int{"100000x384": {100_000, 384}, "1000000x8": {1_000_000, 8}} {
		b.Run(name, func(b *testing.B) {
			index := largeIndex(b, shape[0], shape[1])
			b.SetBytes(int64(4 * shape[0] * shape[1]))
			for b.Loop() {
				var sum float32
				for batch, err := range Batches(context.Background(), ExtractRequest{IndexDir: index}) {
					if err != nil {
						b.Fatal(err)
					}
					sum += batch.Vectors[0]
				}
				if sum == 0 {
					b.Fatal("no vectors")
				}
			}
			b.ReportMetric(float64(shape[0]*b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkRecords(b *testing.B) {
	index := largeIndex(b, 1_000_000, 8)
	for b.Loop() {
		for _, err := range Records(context.Background(), ExtractRequest{IndexDir: index}) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(1_000_000*b.N)/b.Elapsed().Seconds(), "records/s")
}
