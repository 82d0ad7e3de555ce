package hnswtoolbox

import (
	"errors"
	"fmt"
	"strings"
)

// Sentinels for [errors.Is].
var (
	// ErrNotInitialized means that Init was not called, or that Close was called since.
	ErrNotInitialized = errors.New("hnswtoolbox: not initialized: call Init first")
	// ErrAlreadyInitialized means that Init was called before with another library.
	ErrAlreadyInitialized = errors.New("already initialized with another library")
	// ErrLibraryNotFound means that the library is in none of the searched places.
	ErrLibraryNotFound = errors.New("library not found")
	// ErrIncompatibleLibrary means that this package cannot call the library.
	ErrIncompatibleLibrary = errors.New("incompatible library")

	// ErrIndexClosed means that the index, or the whole library, was closed.
	ErrIndexClosed = errors.New("hnswtoolbox: the index is closed")

	// ErrInvalidRequest means that a field of the request was rejected (codes 100 to 199).
	ErrInvalidRequest = errors.New("invalid request")
	// ErrInvalidInput means that the content of an input is invalid or unsupported (codes 200 to 299).
	ErrInvalidInput = errors.New("invalid input")
	// ErrCorruptIndex means that an index or its metadata is damaged (codes 200 and 201).
	ErrCorruptIndex = errors.New("corrupt index")
	// ErrIO means an error of the operating system, an unusable path or exhausted memory (codes 300 to
	// 399).
	ErrIO = errors.New("input/output error")
	// ErrOutOfMemory means that required memory cannot be allocated (code 302).
	ErrOutOfMemory = errors.New("out of memory")
	// ErrCancelled means that the call was stopped (codes 400 to 499).
	ErrCancelled = errors.New("cancelled")
	// ErrInternal means a bug in the library or in this package (codes 900 to 999).
	ErrInternal = errors.New("internal error")
)

const (
	codeInvalidArgument = 101
	codeOutOfMemory     = 302
	codeCancelled       = 400
	codeInternal        = 900
)

// Error describes a failed call.
type Error struct {
	// Op is the failed operation, such as "extract index".
	Op string
	// Code identifies the kind of error. Its meaning never changes: see Error::code of the Rust
	// library.
	Code int
	// Message names the file or field, the value found and the value expected.
	Message string

	cause error
}

// Error returns the operation, the code and the message.
func (e *Error) Error() string {
	return fmt.Sprintf("hnswtoolbox: %s: [E%d] %s", e.Op, e.Code, e.Message)
}

// Is reports whether target is the sentinel for the error's code.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrInvalidRequest:
		return e.Code/100 == 1
	case ErrInvalidInput:
		return e.Code/100 == 2
	case ErrCorruptIndex:
		return e.Code == 200 || e.Code == 201
	case ErrIO:
		return e.Code/100 == 3
	case ErrOutOfMemory:
		return e.Code == codeOutOfMemory
	case ErrCancelled:
		return e.Code/100 == 4
	case ErrInternal:
		return e.Code/100 == 9
	}
	return false
}

// Unwrap returns the context's error if the context stopped the call.
func (e *Error) Unwrap() error { return e.cause }

// newError parses the library's text, which starts with the code.
func newError(op string, code uint32, text string) *Error {
	return &Error{Op: op, Code: int(code), Message: strings.TrimPrefix(text, fmt.Sprintf("[E%d] ", code))}
}
