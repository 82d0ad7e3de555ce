//go:build (darwin || freebsd || linux || netbsd) && !android

package hnswtoolbox

import (
	"runtime"

	"github.com/ebitengine/purego"
)

func libraryName() string {
	if runtime.GOOS == "darwin" {
		return "libhnsw_toolbox.dylib"
	}
	return "libhnsw_toolbox.so"
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
