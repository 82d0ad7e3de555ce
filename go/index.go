package hnswtoolbox

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"
)

// Above maxTrustedK neighbours, a search counts its results before it allocates arrays for them.
const maxTrustedK = 1 << 16

// maxResults is the maximum number of addressable results of a batch.
const maxResults = math.MaxInt / int(unsafe.Sizeof(Neighbour{}))

// Index is an open .hnsw index. The file is memory-mapped; a search touches only the pages that it
// visits. Any number of goroutines can use an Index at once.
type Index struct {
	lib       *library
	number    uint64
	vectors   int
	dimension int
	closed    atomic.Bool
}

// Neighbour is a result of a search.
type Neighbour struct {
	Label    uint64  // the label in the input of the build
	Distance float32 // distance from the query in the index's metric
}

// OpenOption configures how an index is opened.
type OpenOption func(*openRequest)

type openRequest struct {
	IndexPath string         `json:"index_path"`
	Metric    DistanceMetric `json:"metric,omitempty"`
	IO        IOMode         `json:"io,omitempty"`
	Load      bool           `json:"load,omitempty"`
}

// WithMetric sets the metric of the index. It is required if the file does not record the metric.
// If the file records another metric, OpenIndex fails.
func WithMetric(metric DistanceMetric) OpenOption {
	return func(r *openRequest) { r.Metric = metric }
}

// WithIO sets how the file is read; it defaults to IOModeMmap.
func WithIO(mode IOMode) OpenOption {
	return func(r *openRequest) { r.IO = mode }
}

// WithLoad loads the whole file into memory on opening. It takes as much memory as the file has
// bytes, and noticeable time per gigabyte. Searches are then faster, and later changes of the file
// have no effect.
func WithLoad() OpenOption {
	return func(r *openRequest) { r.Load = true }
}

// OpenIndex opens a .hnsw index for searching. It returns immediately, because the file is mapped
// and not loaded, unless [WithLoad] is given.
//
// The index can be used until its Close or the library's: [Close] closes all indexes.
func OpenIndex(path string, opts ...OpenOption) (_ *Index, err error) {
	const op = "open index"
	defer func() { remember(err) }()
	request := openRequest{IndexPath: path}
	for _, opt := range opts {
		opt(&request)
	}
	if err := (field{"index_path", path}).check(op); err != nil {
		return nil, err
	}
	document, err := encode(op, request)
	if err != nil {
		return nil, err
	}

	lib, err := current.acquire()
	if err != nil {
		return nil, err
	}
	defer lib.release()
	index := &Index{lib: lib}
	err = lib.attempt(op, func() bool {
		index.number = lib.indexOpen(document)
		return index.number != 0
	})
	if err != nil {
		return nil, err
	}
	var vectors, dimension uint64
	lib.indexShape(index.number, &vectors, &dimension)
	index.vectors, index.dimension = int(vectors), int(dimension)
	lib.keep(index)
	return index, nil
}

// Len returns the number of vectors.
func (x *Index) Len() int { return x.vectors }

// Dimension returns the number of components of each vector.
func (x *Index) Dimension() int { return x.dimension }

// Damaged returns the number of damaged vectors that searches have met so far. Such a vector has a
// component that is not finite, and is left out of all results. [VerifyIndex] finds all of them.
func (x *Index) Damaged() (_ uint64, err error) {
	defer func() { remember(err) }()
	if err := x.acquire(); err != nil {
		return 0, err
	}
	defer x.lib.release()
	var vectors uint64
	err = x.lib.attempt("damaged", func() bool { return x.lib.indexDamaged(x.number, &vectors) })
	if err != nil && x.closed.Load() {
		return 0, ErrIndexClosed
	}
	return vectors, err
}

// Search finds the k vectors that are likely nearest to vector, nearest first. The result is
// shorter if the index has fewer vectors, or if some are [Index.Damaged]. ef is the number of
// candidates kept during the search: higher values increase recall and time. Values below k count
// as k.
func (x *Index) Search(vector []float32, k, ef int) ([]Neighbour, error) {
	return x.SearchContext(context.Background(), vector, k, ef)
}

// SearchContext is [Index.Search] with a context. If ctx has ended, its error matches both
// ctx.Err() and [ErrCancelled]. A search that has started is completed, which takes milliseconds.
func (x *Index) SearchContext(
	ctx context.Context, vector []float32, k, ef int, opts ...Option,
) (_ []Neighbour, err error) {
	const op = "search"
	defer func() { remember(err) }()
	if err := cancelled(ctx, op); err != nil {
		return nil, err
	}
	results, err := x.search(op, vector, 1, len(vector), k, ef, 1)
	if err != nil {
		return nil, err
	}
	if report := collect(opts).progress; report != nil {
		report(Progress{Done: 1, Total: 1})
	}
	return results[0], nil
}

// SearchBatch searches for each of the vectors on all cores.
func (x *Index) SearchBatch(vectors [][]float32, k, ef int) ([][]Neighbour, error) {
	return x.SearchBatchContext(context.Background(), vectors, k, ef)
}

// blockQueries is the number of queries between two checks of a context: some tens of milliseconds.
const blockQueries = 256

// SearchBatchContext is [Index.SearchBatch] with a context. It stops soon after ctx ends, with an
// error that matches both ctx.Err() and [ErrCancelled].
func (x *Index) SearchBatchContext(
	ctx context.Context, vectors [][]float32, k, ef int, opts ...Option,
) (results [][]Neighbour, err error) {
	const op = "search batch"
	defer func() { remember(err) }()
	// The dimension comes from the file, so nothing is allocated before the vectors match it.
	for number, vector := range vectors {
		if len(vector) != x.dimension {
			return nil, invalidArgument(op, fmt.Sprintf("query %d", number),
				fmt.Sprintf("%d elements", len(vector)), fmt.Sprintf("%d, the index's dimension", x.dimension))
		}
	}
	report := collect(opts).progress
	block := len(vectors)
	if ctx.Done() != nil || report != nil {
		block = min(block, blockQueries)
	}
	reported := time.Now()
	for {
		if err := cancelled(ctx, op); err != nil {
			return nil, err
		}
		// An empty batch is searched once, so that k and ef are checked.
		part := vectors[len(results):min(len(results)+block, len(vectors))]
		found, err := x.search(op, slices.Concat(part...), len(part), x.dimension, k, ef, 0)
		if err != nil {
			return nil, err
		}
		results = append(results, found...)
		last := len(results) == len(vectors)
		if report != nil && (last || time.Since(reported) >= progressInterval) {
			reported = time.Now()
			report(Progress{Done: uint64(len(results)), Total: uint64(len(vectors))})
		}
		if last {
			return results, nil
		}
	}
}

func (x *Index) search(op string, queries []float32, count, dimension, k, ef, threads int) (_ [][]Neighbour, err error) {
	defer func() { remember(err) }()
	for _, number := range []struct {
		name  string
		value int
		least int
	}{{"k", k, 1}, {"ef", ef, 0}} {
		if number.value < number.least {
			return nil, invalidArgument(op, number.name, fmt.Sprint(number.value), fmt.Sprintf("at least %d", number.least))
		}
	}
	if err := x.acquire(); err != nil {
		return nil, err
	}
	defer x.lib.release()
	// A search never finds more.
	k = min(k, max(x.vectors, 1))
	// One extra element, so that each slice has an address.
	found := make([]uint64, count+1)
	var first *float32
	if len(queries) > 0 {
		first = &queries[0]
	}
	fill := func(labels *uint64, distances *float32) error {
		err := x.lib.attempt(op, func() bool {
			return x.lib.indexSearch(x.number, first, uint64(count), uint64(dimension), uint64(k),
				uint64(ef), uint64(threads), labels, distances, &found[0])
		})
		if err != nil && x.closed.Load() {
			return ErrIndexClosed
		}
		return err
	}
	if k > maxTrustedK {
		// Neither the caller's k nor the file determines the size of an allocation.
		ef = max(ef, k)
		if err := fill(nil, nil); err != nil {
			return nil, err
		}
		k = max(int(slices.Max(found)), 1)
	}
	if k > maxResults/max(count, 1) {
		return nil, invalidArgument(op, "k", fmt.Sprintf("%d for %d queries", k, count),
			fmt.Sprintf("at most %d results", maxResults))
	}
	labels := make([]uint64, count*k+1)
	distances := make([]float32, count*k+1)
	if err := fill(&labels[0], &distances[0]); err != nil {
		return nil, err
	}
	neighbours := make([]Neighbour, count*k)
	results := make([][]Neighbour, count)
	for q := range results {
		results[q] = neighbours[q*k : q*k+int(found[q]) : (q+1)*k]
		for i := range results[q] {
			results[q][i] = Neighbour{Label: labels[q*k+i], Distance: distances[q*k+i]}
		}
	}
	return results, nil
}

// Close closes the index; running searches continue. A second call returns [ErrIndexClosed].
func (x *Index) Close() (err error) {
	defer func() { remember(err) }()
	if x.closed.Swap(true) {
		return ErrIndexClosed
	}
	if err := current.acquireOnly(x.lib); err != nil {
		return nil // closed with the library
	}
	defer x.lib.release()
	x.lib.forget(x)
	x.lib.indexClose(x.number)
	return nil
}

// acquire keeps the library open until it is released.
func (x *Index) acquire() error {
	if x.closed.Load() {
		return ErrIndexClosed
	}
	return current.acquireOnly(x.lib)
}

// attempt makes a call that returns success or failure. It reads the error on the same thread,
// where the library keeps it.
func (l *library) attempt(op string, call func() bool) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if call() {
		return nil
	}
	return l.failure(op)
}

// keep registers an open index, to be closed with the library.
func (l *library) keep(index *Index) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.indexes == nil {
		l.indexes = make(map[*Index]struct{})
	}
	l.indexes[index] = struct{}{}
}

func (l *library) forget(index *Index) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.indexes, index)
}

// closeIndexes closes all open indexes. No call is running at this point.
func (l *library) closeIndexes() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for index := range l.indexes {
		index.closed.Store(true)
		l.indexClose(index.number)
	}
	l.indexes = nil
}

// remember stores the message of the last call's error, or none.
func remember(err error) {
	if err == nil {
		lastError.Store(nil)
		return
	}
	text := err.Error()
	lastError.Store(&text)
}
