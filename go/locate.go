package hnswtoolbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const libraryVariable = "HNSW_TOOLBOX_LIB"

// process is the environment that determines where the library is searched.
type process struct {
	goos       string
	getenv     func(string) string
	executable func() (string, error)
	home       func() (string, error)
}

func thisProcess() process {
	return process{runtime.GOOS, os.Getenv, os.Executable, os.UserHomeDir}
}

// location is the place of a library.
type location struct {
	name   string   // an absolute path with symbolic links followed, or a name for the system to resolve
	bare   bool     // true if name is for the system to resolve
	looked []string // places searched before
	data   string   // the user's data directory, if any
}

// locate returns the place of the library: path, or the first match of the search order of [Init].
func locate(path string, p process) (location, error) {
	if path == "" {
		path = p.getenv(libraryVariable)
	}
	if path != "" {
		name, err := resolve(path)
		return location{name: name}, err
	}
	found := location{data: p.dataDirectory()}
	directories, err := p.directories(found.data)
	if err != nil {
		found.looked = append(found.looked, "the directory of the executable: "+err.Error())
	}
	for _, directory := range directories {
		path := filepath.Join(directory, libraryName())
		name, err := resolve(path)
		if err == nil {
			return location{name: name}, nil
		}
		if !errors.Is(err, ErrLibraryNotFound) {
			path = err.Error() // such as a directory without search permission
		}
		found.looked = append(found.looked, path)
	}
	found.name, found.bare = systemLibrary(p.getenv)
	if found.name == "" {
		return location{}, found.missing(nil)
	}
	return found, nil
}

// directories returns the directories to search, in order. If there is an error, the executable's
// are missing.
func (p process) directories(data string) (directories []string, err error) {
	executable, err := p.executable()
	if err == nil {
		executable, err = filepath.EvalSymlinks(executable)
	}
	if err == nil {
		beside := filepath.Dir(executable)
		directories = append(directories, beside, filepath.Join(beside, "lib"), filepath.Join(beside, "..", "lib"))
	}
	if data != "" {
		directories = append(directories, filepath.Join(data, "lib"))
	}
	return directories, err
}

// dataDirectory returns the user's data directory for hnsw-toolbox, or "" if the user has none.
func (p process) dataDirectory() string {
	const name = "hnsw-toolbox"
	home, err := p.home()
	if err != nil {
		home = ""
	}
	switch p.goos {
	case "windows":
		if local := p.getenv("LOCALAPPDATA"); local != "" {
			return filepath.Join(local, name)
		}
		return ""
	case "darwin":
		if home == "" {
			return ""
		}
		return filepath.Join(home, "Library", "Application Support", name)
	}
	// The XDG Base Directory Specification requires relative paths to be ignored.
	if data := p.getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, name)
	}
	if home == "" {
		return ""
	}
	return filepath.Join(home, ".local", "share", name)
}

// missing returns the error for a library found nowhere; reason is the system's, if it was asked.
func (l location) missing(reason error) error {
	text := fmt.Sprintf("%s is not set, and there is no", libraryVariable)
	for _, path := range l.looked {
		text += "\n\t" + path
	}
	text += "\n\t" + systemLibraryName() + " on the system's library path"
	if reason != nil {
		text += " (" + reason.Error() + ")"
	}
	text += "\nSet " + libraryVariable + " to the path of the library"
	if l.data != "" {
		text += fmt.Sprintf(", or install it: make install-lib PREFIX=%q", l.data)
	}
	return fmt.Errorf("hnswtoolbox: %w: %s", ErrLibraryNotFound, text)
}

// resolve returns the absolute path of a file with symbolic links followed.
func resolve(path string) (string, error) {
	if strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("hnswtoolbox: %w: %q has a NUL character in it", ErrLibraryNotFound, path)
	}
	absolute, err := filepath.Abs(path)
	if err == nil {
		absolute, err = filepath.EvalSymlinks(absolute)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("hnswtoolbox: %w: %w", ErrLibraryNotFound, err)
	}
	if err != nil {
		return "", fmt.Errorf("hnswtoolbox: %s: %w", path, err)
	}
	return absolute, nil
}
