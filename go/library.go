package hnswtoolbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
	"unsafe"
)

// current is the library that receives calls.
var current holder

// lastError is the message of the last call's error, or nil.
var lastError atomic.Pointer[string]

// library is a loaded library and its running calls.
type library struct {
	symbols
	name   string // the name it was loaded by: its path, or a name that the system resolved
	path   string // its path with symbolic links followed
	handle uintptr
	calls  sync.WaitGroup

	mu      sync.Mutex
	indexes map[*Index]struct{} // the open indexes
}

func (l *library) release() { l.calls.Done() }

// holder holds a library that can be replaced while calls are made.
type holder struct {
	mu  sync.Mutex
	lib *library
}

func (h *holder) init(path string) error {
	found, err := locate(path, thisProcess())
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lib != nil {
		if found.name == h.lib.path || found.name == h.lib.name {
			return nil
		}
		return fmt.Errorf("hnswtoolbox: %s: %w, %s: call Close first", found.name, ErrAlreadyInitialized, h.lib.path)
	}
	lib, err := load(found)
	if err != nil {
		return err
	}
	h.lib = lib
	return nil
}

func (h *holder) close() error {
	h.mu.Lock()
	lib := h.lib
	h.lib = nil
	h.mu.Unlock()
	if lib == nil {
		return nil
	}
	// From here on, no call can acquire it.
	lib.calls.Wait()
	lib.closeIndexes()
	if err := closeLibrary(lib.handle); err != nil {
		return fmt.Errorf("hnswtoolbox: %s: cannot close: %w", lib.path, err)
	}
	return nil
}

// acquire returns the library, which stays open until its release.
func (h *holder) acquire() (*library, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lib == nil {
		return nil, ErrNotInitialized
	}
	h.lib.calls.Add(1)
	return h.lib, nil
}

// acquireOnly acquires one particular library, if it is still open.
func (h *holder) acquireOnly(lib *library) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lib != lib {
		return ErrNotInitialized
	}
	lib.calls.Add(1)
	return nil
}

func load(found location) (*library, error) {
	handle, err := openLibrary(found.name)
	if err != nil && found.bare {
		return nil, found.missing(err)
	}
	if err != nil {
		return nil, fmt.Errorf("hnswtoolbox: %s: cannot load: %w", found.name, err)
	}
	lib := &library{name: found.name, path: found.name, handle: handle}
	if found.bare {
		lib.path = loadedPath(handle, found.name)
	}
	if err := lib.resolve(handle); err != nil {
		return nil, fmt.Errorf("hnswtoolbox: %s: %w", lib.path, errors.Join(err, closeLibrary(handle)))
	}
	return lib, nil
}

// field is a request field and its JSON name.
type field struct{ name, value string }

// nativeCall is a library function that takes a request and returns a response.
type nativeCall func(request *byte) unsafe.Pointer

// operation is a call with a request.
type operation struct {
	name     string
	function func(*library) nativeCall
	paths    []field                // paths, checked before they are encoded as JSON
	request  func(token uint64) any // the request to encode; token 0 means none
}

// call makes a call and returns its response.
func call[Response any](ctx context.Context, op operation, opts []Option) (*Response, error) {
	resp := new(Response)
	if err := op.run(ctx, opts, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// run makes a call and decodes its response into resp.
func (op operation) run(ctx context.Context, opts []Option, resp any) (err error) {
	defer func() { remember(err) }()
	var text string
	err = op.perform(ctx, opts, func(lib *library, request *byte) (err error) {
		text, err = lib.call(op.name, op.function(lib), request)
		return err
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), resp); err != nil {
		return &Error{Op: op.name, Code: codeInternal, Message: "the response is not as expected: " + err.Error(), cause: err}
	}
	return nil
}

// perform passes the request, terminated with a NUL, to the work, and handles ctx and the options.
func (op operation) perform(ctx context.Context, opts []Option, work func(lib *library, request *byte) error) error {
	lib, err := current.acquire()
	if err != nil {
		return err
	}
	defer lib.release()
	if err := cancelled(ctx, op.name); err != nil {
		return err
	}
	for _, path := range op.paths {
		if err := path.check(op.name); err != nil {
			return err
		}
	}

	o := collect(opts)
	var token uint64
	if ctx.Done() != nil || o.progress != nil {
		token = lib.tokenNew()
		defer lib.tokenFree(token)
	}
	document, err := encode(op.name, op.request(token))
	if err != nil {
		return err
	}

	stopWatching := lib.watch(ctx, token, o.progress)
	finished := false
	defer func() { stopWatching(finished) }()
	err = work(lib, document)
	finished = err == nil
	if failure, ok := err.(*Error); ok && failure.Code == codeCancelled {
		failure.cause = ctx.Err()
	}
	return err
}

// cancelled returns the error of a call whose context has ended.
func cancelled(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return &Error{Op: op, Code: codeCancelled, Message: err.Error(), cause: err}
	}
	return nil
}

// collect applies options in order.
func collect(opts []Option) (o options) {
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// check fails if the path is not UTF-8, because JSON encoding would change it silently.
func (f field) check(op string) error {
	if utf8.ValidString(f.value) {
		return nil
	}
	return invalidArgument(op, f.name, fmt.Sprintf("%q", f.value), "UTF-8")
}

// encode returns a request as NUL-terminated JSON.
func encode(op string, request any) (*byte, error) {
	document, err := json.Marshal(request)
	if err != nil {
		return nil, &Error{Op: op, Code: codeInternal, Message: "the request cannot be written as JSON", cause: err}
	}
	return &append(document, 0)[0], nil
}

// watch cancels the token when ctx ends and reports its progress. It stops when the returned
// function is called; true requests a last report.
func (l *library) watch(ctx context.Context, token uint64, report func(Progress)) func(last bool) {
	// AfterFunc's goroutine can still be about to run when it is stopped. A freed token does no harm
	// then, but a closed library would.
	var cancelling sync.WaitGroup
	cancelling.Add(1)
	stopCancelling := context.AfterFunc(ctx, func() {
		defer cancelling.Done()
		l.tokenCancel(token)
	})
	reportNow := func() {
		var p Progress
		l.tokenProgress(token, &p.Done, &p.Total)
		report(p)
	}
	var reporting sync.WaitGroup
	finished := make(chan struct{})
	if report != nil {
		reporting.Add(1)
		go func() {
			defer reporting.Done()
			ticker := time.NewTicker(progressInterval)
			defer ticker.Stop()
			for {
				select {
				case <-ticker.C:
					reportNow()
				case <-finished:
					return
				}
			}
		}()
	}
	return func(last bool) {
		if stopCancelling() {
			cancelling.Done()
		}
		cancelling.Wait()
		close(finished)
		reporting.Wait()
		if last && report != nil {
			reportNow()
		}
	}
}

// call makes a call that returns a response, or nil.
func (l *library) call(op string, function nativeCall, request *byte) (response string, err error) {
	err = l.attempt(op, func() bool {
		result := function(request)
		if result == nil {
			return false
		}
		defer l.freeString(result)
		response = goString(result)
		return true
	})
	return response, err
}
