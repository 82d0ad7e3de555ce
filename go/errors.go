package hnswtoolbox

import (
	"encoding/json"
	"errors"
	"fmt"
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
	// Code identifies the kind of error. Its meaning never changes: see enum hnsw_toolbox_code of the
	// C header.
	Code int
	// Message names the file or field, the value found and the value expected.
	Message string

	// Parts of the message. A part that the error does not have is empty.

	// Path is the file or directory. One that is not UTF-8 is escaped, as in Message.
	Path string
	// Field is the field of the file, the quantity that was checked, or the request's field by its
	// JSON name.
	Field string
	// Offset is the number of bytes from the start of a damaged pickle, or nil.
	Offset *uint64
	// Found is the value found.
	Found string
	// Expected is the value expected.
	Expected string

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

// failure returns the error of the last call on this thread. The library keeps it for the thread.
func (l *library) failure(op string) *Error {
	var parts struct {
		Code                                  int
		Message, Path, Field, Found, Expected string
		Offset                                *uint64
	}
	text := goString(l.lastErrorJSON())
	if err := json.Unmarshal([]byte(text), &parts); err != nil {
		return &Error{Op: op, Code: codeInternal, Message: "the library failed without an error"}
	}
	return &Error{
		Op: op, Code: parts.Code, Message: parts.Message, Path: parts.Path, Field: parts.Field,
		Offset: parts.Offset, Found: parts.Found, Expected: parts.Expected,
	}
}

// invalidArgument is an error that this package finds before the library is called.
func invalidArgument(op, field, found, expected string) *Error {
	return &Error{
		Op: op, Code: codeInvalidArgument, Field: field, Found: found, Expected: expected,
		Message: fmt.Sprintf("%s: found %s, expected %s", field, found, expected),
	}
}
