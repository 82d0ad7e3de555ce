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

// Above maxTrustedK neighbours, a search counts what it finds before arrays are made for it.
const maxTrustedK = 1 << 16

// maxResults is how many results of a batch can be addressed.
const maxResults = math.MaxInt / int(unsafe.Sizeof(Neighbour{}))

// Index is an open .hnsw index. Nothing of it is loaded: a search reads the parts of the file that
// it comes by. Any number of goroutines may use an Index at once.
type Index struct {
	lib       *library
	number    uint64
	vectors   int
	dimension int
	closed    atomic.Bool
}

// Neighbour is a vector that a search has found.
type Neighbour struct {
	Label    uint64  // what the input of the build called it
	Distance float32 // from the query, by the index's metric
}

// OpenOption changes how an index is opened.
type OpenOption func(*openRequest)

type openRequest struct {
	IndexPath string         `json:"index_path"`
	Metric    DistanceMetric `json:"metric,omitempty"`
	IO        IOMode         `json:"io,omitempty"`
	Load      bool           `json:"load,omitempty"`
}

// WithMetric gives the metric that the index was built for. It is needed when the file does not
// state it; when it states another, OpenIndex fails.
func WithMetric(metric DistanceMetric) OpenOption {
	return func(r *openRequest) { r.Metric = metric }
}

// WithIO says how the file is read; it defaults to IOModeMmap.
func WithIO(mode IOMode) OpenOption {
	return func(r *openRequest) { r.IO = mode }
}

// WithLoad reads the whole file into memory when it is opened. That takes as much memory as the file
// has bytes, and a moment for each gigabyte. Searches are faster then, and whatever happens to the
// file does not matter.
func WithLoad() OpenOption {
	return func(r *openRequest) { r.Load = true }
}

// OpenIndex opens a .hnsw index for searching. Unless it is to be loaded, that takes a moment,
// however large the index is.
//
// The index is of use until its Close, or the library's: [Close] closes all indexes.
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

// Damaged returns how many damaged vectors searches have met so far: those with a component that is
// not finite. They are left out of all results. [VerifyIndex] finds every one.
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

// Search finds the k vectors that are likely the nearest to vector, nearest first: fewer when the
// index has fewer or some are [Index.Damaged]. ef is how many candidates the search keeps: the more,
// the surer and the slower; fewer than k count as k.
func (x *Index) Search(vector []float32, k, ef int) ([]Neighbour, error) {
	return x.SearchContext(context.Background(), vector, k, ef)
}

// SearchContext is [Index.Search], unless ctx has ended: then its error matches both ctx.Err() and
// [ErrCancelled]. A search that has begun takes milliseconds and is completed.
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

// SearchBatch searches for each of the vectors, on all cores.
func (x *Index) SearchBatch(vectors [][]float32, k, ef int) ([][]Neighbour, error) {
	return x.SearchBatchContext(context.Background(), vectors, k, ef)
}

// blockQueries is the number of queries between two looks at a context: some tens of milliseconds.
const blockQueries = 256

// SearchBatchContext is [Index.SearchBatch], and stops soon after ctx ends. Its error then matches
// both ctx.Err() and [ErrCancelled].
func (x *Index) SearchBatchContext(
	ctx context.Context, vectors [][]float32, k, ef int, opts ...Option,
) (results [][]Neighbour, err error) {
	const op = "search batch"
	defer func() { remember(err) }()
	// The dimension comes from a file: nothing is allocated before the vectors agree with it.
	for number, vector := range vectors {
		if len(vector) != x.dimension {
			message := fmt.Sprintf("query %d: found %d elements, expected %d, the index's dimension",
				number, len(vector), x.dimension)
			return nil, &Error{Op: op, Code: codeInvalidArgument, Message: message}
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
		// A batch without vectors is searched once, so that k and ef are checked.
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
			message := fmt.Sprintf("%s: found %d, expected at least %d", number.name, number.value, number.least)
			return nil, &Error{Op: op, Code: codeInvalidArgument, Message: message}
		}
	}
	if err := x.acquire(); err != nil {
		return nil, err
	}
	defer x.lib.release()
	// More are never found.
	k = min(k, max(x.vectors, 1))
	// One more, so that each has a first element to point at.
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
		// Neither a caller who asks for everything nor the file may decide what is allocated.
		ef = max(ef, k)
		if err := fill(nil, nil); err != nil {
			return nil, err
		}
		k = max(int(slices.Max(found)), 1)
	}
	if k > maxResults/max(count, 1) {
		message := fmt.Sprintf("k: found %d for %d queries, expected at most %d results", k, count, maxResults)
		return nil, &Error{Op: op, Code: codeInvalidArgument, Message: message}
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

// Close closes the index; searches that are running go on. Closed again, it returns
// [ErrIndexClosed].
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

// attempt makes a call that says whether it succeeded, and reads its error on the same thread,
// where the library keeps it.
func (l *library) attempt(op string, call func() bool) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if call() {
		return nil
	}
	code, message := l.lastErrorCode(), goString(l.lastError())
	if code == 0 {
		code, message = codeInternal, "the library failed without an error"
	}
	return newError(op, code, message)
}

// keep remembers an open index, to be closed with the library.
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

// closeIndexes closes what is still open. No call is running any more.
func (l *library) closeIndexes() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for index := range l.indexes {
		index.closed.Store(true)
		l.indexClose(index.number)
	}
	l.indexes = nil
}

// remember keeps the text of the last call's error, if it failed.
func remember(err error) {
	if err == nil {
		lastError.Store(nil)
		return
	}
	text := err.Error()
	lastError.Store(&text)
}
