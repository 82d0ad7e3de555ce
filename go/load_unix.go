//go:build (darwin || freebsd || linux || netbsd) && !android

package hnswtoolbox

import (
	"fmt"
	"path/filepath"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

func libraryName() string {
	if runtime.GOOS == "darwin" {
		return "libhnsw_toolbox.dylib"
	}
	return "libhnsw_toolbox.so"
}

// systemLibraryName is the SONAME, by which an installed library of this ABI is found.
func systemLibraryName() string {
	if runtime.GOOS == "darwin" {
		return fmt.Sprintf("libhnsw_toolbox.%d.dylib", abiVersion)
	}
	return fmt.Sprintf("libhnsw_toolbox.so.%d", abiVersion)
}

// systemLibrary returns the name for the dynamic linker to resolve.
func systemLibrary(func(string) string) (name string, bare bool) {
	return systemLibraryName(), true
}

// loadedPath returns the path of a library loaded by name, or the name if the dynamic linker does
// not report the path.
func loadedPath(handle uintptr, name string) string {
	address, err := findSymbol(handle, "hnsw_toolbox_abi_version")
	if err != nil {
		return name
	}
	dladdr, err := findSymbol(purego.RTLD_DEFAULT, "dladdr")
	if err != nil {
		return name
	}
	// Dl_info of dlfcn.h.
	var info struct {
		file    unsafe.Pointer
		base    uintptr
		symbol  unsafe.Pointer
		address uintptr
	}
	if found, _, _ := purego.SyscallN(dladdr, address, uintptr(unsafe.Pointer(&info))); int32(found) == 0 {
		return name
	}
	path, err := filepath.EvalSymlinks(goString(info.file))
	if err != nil {
		return name
	}
	return path
}

// noDelete is RTLD_NODELETE: after closing, the library's code stays mapped.
func noDelete() int {
	if runtime.GOOS == "darwin" {
		return 0x80
	}
	return 0x1000
}

func openLibrary(path string) (uintptr, error) {
	// purego reads the error, which is per thread, in a separate call.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL|noDelete())
}

func findSymbol(handle uintptr, name string) (uintptr, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return purego.Dlsym(handle, name)
}

func closeLibrary(handle uintptr) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return purego.Dlclose(handle)
}
