package hnswtoolbox

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// withoutLibrary closes the library for the test and reopens it afterwards.
func withoutLibrary(t *testing.T) {
	t.Helper()
	if err := Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(Close(), Init(testLibrary())); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCallsWithoutInitFail(t *testing.T) {
	withoutLibrary(t)
	_, versionErr := Version()
	_, extractErr := ExtractIndex(ExtractRequest{})
	_, buildErr := BuildIndex(BuildRequest{})
	for _, err := range []error{versionErr, extractErr, buildErr} {
		if !errors.Is(err, ErrNotInitialized) {
			t.Errorf("found %v", err)
		}
	}
	if LastError() != ErrNotInitialized.Error() {
		t.Errorf("LastError: found %q", LastError())
	}
	if err := Close(); err != nil {
		t.Errorf("Close without Init: %v", err)
	}
}

func TestInitMayBeRepeatedWithTheSameLibraryOnly(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link-to-library")
	library, err := filepath.Abs(testLibrary())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(library, link); err != nil {
		t.Fatal(err)
	}
	for _, same := range []string{testLibrary(), library, link, ""} {
		if err := Init(same); err != nil {
			t.Errorf("Init(%q): %v", same, err)
		}
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Init(other); !errors.Is(err, ErrAlreadyInitialized) || !strings.Contains(err.Error(), other) {
		t.Errorf("Init with another library: %v", err)
	}
	if _, err := Version(); err != nil {
		t.Errorf("the first library is gone: %v", err)
	}
}

func TestLibraryWorksAfterCloseAndInit(t *testing.T) {
	for range 20 {
		if err := errors.Join(Close(), Init(testLibrary())); err != nil {
			t.Fatal(err)
		}
		f := loadFixture(t, "1.5.9/tiny")
		if _, err := ExtractIndex(ExtractRequest{IndexDir: f.segment, OutputPath: filepath.Join(t.TempDir(), "out")}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInitFailsWithoutALibrary(t *testing.T) {
	withoutLibrary(t)
	missing := filepath.Join(t.TempDir(), "missing.so")
	for _, path := range []string{missing, "a\x00b"} {
		if err := Init(path); !errors.Is(err, ErrLibraryNotFound) {
			t.Errorf("Init(%q): %v", path, err)
		}
	}
	t.Setenv(libraryVariable, missing)
	if err := Init(""); !errors.Is(err, ErrLibraryNotFound) || !strings.Contains(err.Error(), missing) {
		t.Errorf("Init with %s=%s: %v", libraryVariable, missing, err)
	}
	notALibrary := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(notALibrary, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Init(notALibrary); err == nil || !strings.Contains(err.Error(), "text.so") {
		t.Errorf("Init with a file that is not a library: %v", err)
	}
}

// compiled builds a library from the given C source.
func compiled(t *testing.T, source string) string {
	t.Helper()
	directory := t.TempDir()
	file, library := filepath.Join(directory, "fake.c"), filepath.Join(directory, libraryName())
	if err := os.WriteFile(file, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("cc", "-shared", "-fPIC", "-o", library, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return library
}

func TestInitNamesTheAbiVersionThatItCannotUse(t *testing.T) {
	withoutLibrary(t)
	library := compiled(t, "unsigned hnsw_toolbox_abi_version(void) { return 4711; }")
	err := Init(library)
	if !errors.Is(err, ErrIncompatibleLibrary) || !strings.Contains(err.Error(), "4711") || !strings.Contains(err.Error(), library) {
		t.Errorf("found %v", err)
	}
}

func TestInitNamesTheSymbolThatIsMissing(t *testing.T) {
	withoutLibrary(t)
	header := string(mustRead(t, "../ffi/include/hnsw_toolbox.h"))
	names := regexp.MustCompile(`\b(hnsw_toolbox_\w+)\(`).FindAllStringSubmatch(header, -1)
	if len(names) < 20 {
		t.Fatalf("found %d functions in the header", len(names))
	}
	for _, missing := range names {
		source := ""
		for _, name := range names {
			if name[1] != missing[1] {
				source += "unsigned " + name[1] + "(void) { return 1; }\n"
			}
		}
		err := Init(compiled(t, source))
		if !errors.Is(err, ErrIncompatibleLibrary) || !strings.Contains(err.Error(), "symbol "+missing[1]+" is missing") {
			t.Errorf("without %s: %v", missing[1], err)
		}
	}
}

func TestCloseWaitsForRunningCallsAndRefusesNewOnes(t *testing.T) {
	withoutLibrary(t)
	if err := Init(testLibrary()); err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	long := longCalls(t, directory)["build"]
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	started, finished, closed := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	first := true
	go func() {
		finished <- long(ctx, WithProgress(func(Progress) {
			if first {
				first = false
				close(started)
			}
		}))
	}()
	select {
	case <-started:
	case err := <-finished:
		t.Fatalf("the call was over too early: %v", err)
	}
	go func() { closed <- Close() }()
	for {
		if _, err := Version(); errors.Is(err, ErrNotInitialized) {
			break
		}
		runtime.Gosched()
	}
	select {
	case <-closed:
		t.Fatal("Close did not wait for the running call")
	case err := <-finished:
		t.Fatalf("the call was over too early: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	cancel()
	if err := <-finished; !errors.Is(err, context.Canceled) {
		t.Errorf("the running call: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
}
