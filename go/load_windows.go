package hnswtoolbox

import (
	"fmt"
	"syscall"
	"unsafe"
)

var getModuleHandleEx = syscall.NewLazyDLL("kernel32.dll").NewProc("GetModuleHandleExW")

func libraryName() string { return "hnsw_toolbox.dll" }

func openLibrary(path string) (uintptr, error) {
	handle, err := syscall.LoadLibrary(path)
	return uintptr(handle), err
}

// findSymbol also pins the library, so that closing it leaves its code mapped.
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
