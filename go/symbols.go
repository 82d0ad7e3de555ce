package hnswtoolbox

import (
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
)

// abiVersion is the ABI version of the library that this package is written for.
const abiVersion = 1

// symbols are the library's functions, as include/hnsw_toolbox.h declares them. A request is
// bytes that end with a NUL; a pointer that comes back is the library's memory.
type symbols struct {
	abiVersion      func() uint32
	version         func() unsafe.Pointer
	extract         nativeCall
	build           nativeCall
	inspect         nativeCall
	verify          nativeCall
	listCollections nativeCall
	export          nativeCall
	repair          nativeCall
	repairStore     nativeCall
	importRecords   nativeCall
	lastError       func() unsafe.Pointer
	lastErrorCode   func() uint32
	lastErrorJSON   func() unsafe.Pointer
	freeString      func(unsafe.Pointer)
	tokenNew        func() uint64
	tokenCancel     func(token uint64) bool
	tokenProgress   func(token uint64, done, total *uint64) bool
	tokenFree       func(token uint64) bool
	openStream      func(request *byte, out *arrowStream) int32
	indexOpen       func(request *byte) uint64
	indexShape      func(index uint64, vectors, dimension *uint64) bool
	indexSearch     func(index uint64, queries *float32, count, dimension, k, ef, threads uint64,
		labels *uint64, distances *float32, found *uint64) bool
	indexDamaged func(index uint64, vectors *uint64) bool
	indexClose   func(index uint64) bool
}

// resolve fills the table in, from a loaded library.
func (s *symbols) resolve(handle uintptr) error {
	// The version comes first: a library with another one may well lack functions.
	if err := bind(handle, "hnsw_toolbox_abi_version", &s.abiVersion); err != nil {
		return err
	}
	if found := s.abiVersion(); found != abiVersion {
		return fmt.Errorf("%w: found ABI version %d, expected %d", ErrIncompatibleLibrary, found, abiVersion)
	}
	for _, symbol := range []struct {
		name     string
		function any
	}{
		{"hnsw_toolbox_version", &s.version},
		{"hnsw_toolbox_extract_index", &s.extract},
		{"hnsw_toolbox_build_index", &s.build},
		{"hnsw_toolbox_inspect", &s.inspect},
		{"hnsw_toolbox_verify", &s.verify},
		{"hnsw_toolbox_list_collections", &s.listCollections},
		{"hnsw_toolbox_export", &s.export},
		{"hnsw_toolbox_repair_index", &s.repair},
		{"hnsw_toolbox_repair_store", &s.repairStore},
		{"hnsw_toolbox_import", &s.importRecords},
		{"hnsw_toolbox_get_last_error", &s.lastError},
		{"hnsw_toolbox_get_last_error_code", &s.lastErrorCode},
		{"hnsw_toolbox_get_last_error_json", &s.lastErrorJSON},
		{"hnsw_toolbox_free_string", &s.freeString},
		{"hnsw_toolbox_token_new", &s.tokenNew},
		{"hnsw_toolbox_token_cancel", &s.tokenCancel},
		{"hnsw_toolbox_token_progress", &s.tokenProgress},
		{"hnsw_toolbox_token_free", &s.tokenFree},
		{"hnsw_toolbox_open_stream", &s.openStream},
		{"hnsw_toolbox_index_open", &s.indexOpen},
		{"hnsw_toolbox_index_shape", &s.indexShape},
		{"hnsw_toolbox_index_search", &s.indexSearch},
		{"hnsw_toolbox_index_damaged", &s.indexDamaged},
		{"hnsw_toolbox_index_close", &s.indexClose},
	} {
		if err := bind(handle, symbol.name, symbol.function); err != nil {
			return err
		}
	}
	return nil
}

// bind points function, a pointer to a function variable, at the named symbol.
func bind(handle uintptr, name string, function any) error {
	address, err := findSymbol(handle, name)
	if err != nil {
		return fmt.Errorf("%w: symbol %s is missing: %w", ErrIncompatibleLibrary, name, err)
	}
	purego.RegisterFunc(function, address)
	return nil
}

// goString copies a C string.
func goString(s unsafe.Pointer) string {
	if s == nil {
		return ""
	}
	n := 0
	for *(*byte)(unsafe.Add(s, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(s), n))
}
