package hnswtoolbox

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"
)

func TestSearchesStopWithTheirContext(t *testing.T) {
	path, vectors := buildIndex(t, DistanceMetricEuclidean)
	index, err := OpenIndex(path, WithLoad())
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	var queries [][]float32
	for _, vector := range vectors {
		queries = append(queries, vector)
	}

	// Blocks give the same results as a single batch.
	expected, err := index.SearchBatch(queries, 3, 50)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	found, err := index.SearchBatchContext(ctx, queries, 3, 50)
	if err != nil || !reflect.DeepEqual(found, expected) {
		t.Errorf("found other results in blocks (%v)", err)
	}
	one, err := index.SearchContext(ctx, queries[0], 3, 50)
	if err != nil || !reflect.DeepEqual(one, expected[0]) {
		t.Errorf("found %v (%v), expected %v", one, err, expected[0])
	}

	// The context ends during the call, at a progress report.
	defer func(interval time.Duration) { progressInterval = interval }(progressInterval)
	progressInterval = 0
	var last Progress
	found, err = index.SearchBatchContext(ctx, queries, 3, 50, WithProgress(func(p Progress) {
		last = p
		cancel()
	}))
	if found != nil || last != (Progress{Done: blockQueries, Total: uint64(len(queries))}) {
		t.Errorf("found %d results after %+v, expected none after the first block", len(found), last)
	}
	_, single := index.SearchContext(ctx, queries[0], 3, 50)
	_, empty := index.SearchBatchContext(ctx, nil, 3, 50)
	for _, err := range []error{err, single, empty} {
		if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrCancelled) {
			t.Errorf("found %v, expected an error that matches context.Canceled and ErrCancelled", err)
		}
	}
	if LastError() == "" {
		t.Error("found no last error, expected the cancellation")
	}
}

func TestSearchesReportTheirProgress(t *testing.T) {
	path, vectors := buildIndex(t, DistanceMetricEuclidean)
	index, err := OpenIndex(path)
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	var queries [][]float32
	for _, vector := range vectors {
		queries = append(queries, vector)
	}
	var last Progress
	report := WithProgress(func(p Progress) { last = p })
	if _, err := index.SearchBatchContext(context.Background(), queries, 1, 10, report); err != nil {
		t.Fatal(err)
	}
	if count := uint64(len(queries)); last != (Progress{Done: count, Total: count}) {
		t.Errorf("found %+v, expected %d of %[2]d", last, count)
	}
	if _, err := index.SearchContext(context.Background(), queries[0], 1, 10, report); err != nil {
		t.Fatal(err)
	}
	if last != (Progress{Done: 1, Total: 1}) {
		t.Errorf("found %+v, expected 1 of 1", last)
	}
	if _, err := index.SearchBatchContext(context.Background(), nil, 0, 10); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("found %v, expected an error about k", err)
	}
}
