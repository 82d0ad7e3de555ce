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

// systemLibraryName is the name under which an installed library of this ABI is found: its SONAME.
func systemLibraryName() string {
	if runtime.GOOS == "darwin" {
		return fmt.Sprintf("libhnsw_toolbox.%d.dylib", abiVersion)
	}
	return fmt.Sprintf("libhnsw_toolbox.so.%d", abiVersion)
}

// systemLibrary returns the name that the dynamic linker looks up.
func systemLibrary(func(string) string) (name string, bare bool) {
	return systemLibraryName(), true
}

// loadedPath returns the path of a library that was loaded by its name, or the name where the
// dynamic linker does not say.
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

// noDelete is RTLD_NODELETE: closing the library leaves its code mapped.
func noDelete() int {
	if runtime.GOOS == "darwin" {
		return 0x80
	}
	return 0x1000
}

func openLibrary(path string) (uintptr, error) {
	// purego asks for the error, which is the thread's, in a call of its own.
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
