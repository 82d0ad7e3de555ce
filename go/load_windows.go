package hnswtoolbox

import (
	"fmt"
	"path/filepath"
	"syscall"
	"unsafe"
)

var getModuleHandleEx = syscall.NewLazyDLL("kernel32.dll").NewProc("GetModuleHandleExW")

func libraryName() string { return "hnsw_toolbox.dll" }

func systemLibraryName() string { return libraryName() }

// systemLibrary returns the library's path in the first directory of PATH that has it. LoadLibrary
// would also search the current directory, where an attacker can have placed one.
func systemLibrary(getenv func(string) string) (path string, bare bool) {
	for _, directory := range filepath.SplitList(getenv("PATH")) {
		if !filepath.IsAbs(directory) {
			continue
		}
		if path, err := resolve(filepath.Join(directory, libraryName())); err == nil {
			return path, false
		}
	}
	return "", false
}

// loadedPath is for libraries loaded by name alone, which does not occur here.
func loadedPath(_ uintptr, name string) string { return name }

func openLibrary(path string) (uintptr, error) {
	handle, err := syscall.LoadLibrary(path)
	return uintptr(handle), err
}

// findSymbol also pins the library, so that its code stays mapped after closing.
func findSymbol(handle uintptr, name string) (uintptr, error) {
	const flagPin, flagFromAddress = 0x1, 0x4
	address, err := syscall.GetProcAddress(syscall.Handle(handle), name)
	if err != nil {
		return 0, err
	}
	var module syscall.Handle
	ok, _, err := getModuleHandleEx.Call(flagPin|flagFromAddress, address, uintptr(unsafe.Pointer(&module)))
	if ok == 0 {
		return 0, fmt.Errorf("cannot pin the library: %w", err)
	}
	return address, nil
}

func closeLibrary(handle uintptr) error {
	return syscall.FreeLibrary(syscall.Handle(handle))
}
