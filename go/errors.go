package hnswtoolbox

import (
	"errors"
	"fmt"
	"strings"
)

// What the errors of this package match, with [errors.Is].
var (
	// ErrNotInitialized means that Init was not called, or Close was.
	ErrNotInitialized = errors.New("hnswtoolbox: not initialized: call Init first")
	// ErrAlreadyInitialized means that Init was called with another library before.
	ErrAlreadyInitialized = errors.New("already initialized with another library")
	// ErrLibraryNotFound means that there is no library where it was looked for.
	ErrLibraryNotFound = errors.New("library not found")
	// ErrIncompatibleLibrary means that the library is not one that this package can call.
	ErrIncompatibleLibrary = errors.New("incompatible library")

	// ErrIndexClosed means that an index was closed, itself or with the library.
	ErrIndexClosed = errors.New("hnswtoolbox: the index is closed")

	// ErrInvalidRequest means that a field of the request is refused (codes 100 to 199).
	ErrInvalidRequest = errors.New("invalid request")
	// ErrInvalidInput means that an input's content is wrong or unsupported (codes 200 to 299).
	ErrInvalidInput = errors.New("invalid input")
	// ErrCorruptIndex means that an index or its metadata is damaged (codes 200 and 201).
	ErrCorruptIndex = errors.New("corrupt index")
	// ErrIO means that the operating system refused, a path cannot be used, or memory is
	// exhausted (codes 300 to 399).
	ErrIO = errors.New("input/output error")
	// ErrOutOfMemory means that memory which the work needs cannot be allocated (code 302).
	ErrOutOfMemory = errors.New("out of memory")
	// ErrCancelled means that the call was stopped (codes 400 to 499).
	ErrCancelled = errors.New("cancelled")
	// ErrInternal means a fault in the library or in this package (codes 900 to 999).
	ErrInternal = errors.New("internal error")
)

const (
	codeInvalidArgument = 101
	codeOutOfMemory     = 302
	codeCancelled       = 400
	codeInternal        = 900
)

// Error is a failed call.
type Error struct {
	// Op is what failed, such as "extract index".
	Op string
	// Code says what kind of error it is, and never changes its meaning: see Error::code of the
	// Rust library.
	Code int
	// Message says what is wrong, with the file or the field, what was found and what was expected.
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

// Unwrap returns the context's error if the call was stopped by its context.
func (e *Error) Unwrap() error { return e.cause }

// newError makes an Error of the library's text, which repeats the code in front.
func newError(op string, code uint32, text string) *Error {
	return &Error{Op: op, Code: int(code), Message: strings.TrimPrefix(text, fmt.Sprintf("[E%d] ", code))}
}
