package hnswtoolbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// fakeProcess is a process whose executable and home are in empty directories.
func fakeProcess(t *testing.T, goos string, variables map[string]string) (p process, beside, home string) {
	t.Helper()
	beside, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	executable := filepath.Join(beside, "program")
	write(t, executable, nil)
	home = t.TempDir()
	return process{
		goos:       goos,
		getenv:     func(name string) string { return variables[name] },
		executable: func() (string, error) { return executable, nil },
		home:       func() (string, error) { return home, nil },
	}, beside, home
}

// write writes a file and its missing parent directories.
func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestLibraryIsLookedForInOrder(t *testing.T) {
	p, beside, home := fakeProcess(t, "linux", nil)
	places := []string{
		filepath.Join(beside, libraryName()),
		filepath.Join(beside, "lib", libraryName()),
		filepath.Join(filepath.Dir(beside), "lib", libraryName()),
		filepath.Join(home, ".local", "share", "hnsw-toolbox", "lib", libraryName()),
	}
	// In reverse order: each takes precedence over the existing ones.
	for i := len(places) - 1; i >= 0; i-- {
		write(t, places[i], nil)
		expected, err := filepath.EvalSymlinks(places[i])
		if err != nil {
			t.Fatal(err)
		}
		found, err := locate("", p)
		if err != nil || found.name != expected || found.bare {
			t.Errorf("found %+v, %v, expected %s", found, err, expected)
		}
	}
}

func TestDirectoriesOfTheExecutableAreThoseThatItsLinkLeadsTo(t *testing.T) {
	p, beside, _ := fakeProcess(t, "linux", nil)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(beside, "program"), link); err != nil {
		t.Fatal(err)
	}
	p.executable = func() (string, error) { return link, nil }
	library := filepath.Join(beside, libraryName())
	write(t, library, nil)
	if found, err := locate("", p); err != nil || found.name != library {
		t.Errorf("found %+v, %v, expected %s", found, err, library)
	}
}

func TestVariableIsTheOnlyPlaceWhenItIsSet(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	p, beside, _ := fakeProcess(t, "linux", map[string]string{libraryVariable: missing})
	write(t, filepath.Join(beside, libraryName()), nil)
	if found, err := locate("", p); !errors.Is(err, ErrLibraryNotFound) || !strings.Contains(err.Error(), missing) {
		t.Errorf("found %+v, %v", found, err)
	}
}

func TestDataDirectoryIsThatOfTheSystem(t *testing.T) {
	absolute := t.TempDir()
	for _, c := range []struct {
		goos      string
		variables map[string]string
		expected  func(home string) string
	}{
		{"linux", nil, func(home string) string { return filepath.Join(home, ".local", "share", "hnsw-toolbox") }},
		{"linux", map[string]string{"XDG_DATA_HOME": absolute}, func(string) string { return filepath.Join(absolute, "hnsw-toolbox") }},
		{"linux", map[string]string{"XDG_DATA_HOME": "relative"}, func(home string) string { return filepath.Join(home, ".local", "share", "hnsw-toolbox") }},
		{"darwin", map[string]string{"XDG_DATA_HOME": absolute}, func(home string) string {
			return filepath.Join(home, "Library", "Application Support", "hnsw-toolbox")
		}},
		{"windows", map[string]string{"LOCALAPPDATA": absolute}, func(string) string { return filepath.Join(absolute, "hnsw-toolbox") }},
		{"windows", nil, func(string) string { return "" }},
	} {
		p, _, home := fakeProcess(t, c.goos, c.variables)
		if found, expected := p.dataDirectory(), c.expected(home); found != expected {
			t.Errorf("%s, %v: found %q, expected %q", c.goos, c.variables, found, expected)
		}
	}
	for _, goos := range []string{"linux", "darwin"} {
		p, _, _ := fakeProcess(t, goos, nil)
		p.home = func() (string, error) { return "", errors.New("no home") }
		if found := p.dataDirectory(); found != "" {
			t.Errorf("%s without a home: found %q", goos, found)
		}
	}
}

func TestWithoutALibraryTheErrorSaysWhereItWasLookedForAndWhatToDo(t *testing.T) {
	p, beside, home := fakeProcess(t, "linux", nil)
	found, err := locate("", p)
	if runtime.GOOS != "windows" {
		if err != nil || !found.bare || found.name != systemLibraryName() {
			t.Errorf("found %+v, %v", found, err)
		}
		err = found.missing(errors.New("the linker's word"))
	}
	if !errors.Is(err, ErrLibraryNotFound) {
		t.Fatalf("found %v", err)
	}
	data := filepath.Join(home, ".local", "share", "hnsw-toolbox")
	for _, expected := range []string{
		libraryVariable,
		filepath.Join(beside, libraryName()),
		filepath.Join(beside, "lib", libraryName()),
		filepath.Join(filepath.Dir(beside), "lib", libraryName()),
		filepath.Join(data, "lib", libraryName()),
		systemLibraryName(),
		fmt.Sprintf("make install-lib PREFIX=%q", data),
	} {
		if !strings.Contains(err.Error(), expected) {
			t.Errorf("%q is not in %v", expected, err)
		}
	}
}

func TestPlacesThatCannotBeSearchedArePassedOver(t *testing.T) {
	p, beside, home := fakeProcess(t, "linux", nil)
	write(t, filepath.Join(beside, "lib"), nil) // no directory
	library := filepath.Join(home, ".local", "share", "hnsw-toolbox", "lib", libraryName())
	write(t, library, nil)
	p.executable = func() (string, error) { return "", errors.New("no executable") }
	for range 2 {
		found, err := locate("", p)
		if err != nil || filepath.Base(found.name) != libraryName() {
			t.Errorf("found %+v, %v, expected %s", found, err, library)
		}
		p.executable = func() (string, error) { return filepath.Join(beside, "program"), nil }
	}
}

// runVersion runs a copy of this executable in directory. The copy calls Init("") and prints the
// version.
func runVersion(t *testing.T, directory string, variables ...string) string {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(directory, "program.test")
	write(t, copied, mustRead(t, executable))
	helper := exec.Command(copied)
	helper.Env = append(os.Environ(), libraryVariable+"=", helperVariable+"=version")
	helper.Env = append(helper.Env, variables...)
	output, err := helper.CombinedOutput()
	if err != nil {
		t.Logf("%s: %v", output, err)
	}
	return strings.TrimSpace(string(output))
}

func TestInitFindsTheLibraryByItself(t *testing.T) {
	version, err := Version()
	if err != nil {
		t.Fatal(err)
	}
	library := mustRead(t, testLibrary())
	home := t.TempDir()
	alone := []string{"HOME=" + home, "XDG_DATA_HOME=", "LOCALAPPDATA=" + home}

	beside := t.TempDir()
	write(t, filepath.Join(beside, libraryName()), library)
	if found := runVersion(t, beside, alone...); found != version {
		t.Errorf("beside the executable: found %q, expected %q", found, version)
	}

	p := thisProcess()
	p.getenv = func(name string) string { return map[string]string{"LOCALAPPDATA": home}[name] }
	p.home = func() (string, error) { return home, nil }
	installed := filepath.Join(p.dataDirectory(), "lib", libraryName())
	write(t, installed, library)
	if found := runVersion(t, t.TempDir(), alone...); found != version {
		t.Errorf("in the data directory: found %q, expected %q", found, version)
	}
	if err := os.Remove(installed); err != nil {
		t.Fatal(err)
	}

	variable := map[string]string{"windows": "PATH", "darwin": "DYLD_LIBRARY_PATH"}[runtime.GOOS]
	if variable == "" {
		variable = "LD_LIBRARY_PATH"
	}
	system := t.TempDir()
	installed = filepath.Join(system, systemLibraryName())
	write(t, installed, library)
	if found := runVersion(t, t.TempDir(), append(alone, variable+"="+system, "HELPER_SAME="+installed)...); found != version {
		t.Errorf("on the system's library path: found %q, expected %q", found, version)
	}
}

// The program in the package's documentation is complete and works.
func TestProgramOfTheDocumentationRuns(t *testing.T) {
	var program strings.Builder
	inside := false
	for line := range strings.Lines(string(mustRead(t, "doc.go"))) {
		line, code := strings.CutPrefix(line, "//\t")
		inside = code && (inside || line == "package main\n") || inside && line == "//\n"
		if code && inside {
			program.WriteString(line)
		}
	}
	directory := t.TempDir()
	source, executable := filepath.Join(directory, "main.go"), filepath.Join(directory, "program.exe")
	write(t, source, []byte(program.String()))
	if output, err := exec.Command("go", "build", "-o", executable, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	output, err := exec.Command(executable, filepath.Join(fixtures, "1.5.9/churn/segment"), directory).CombinedOutput()
	if err != nil || strings.Count(string(output), "label ") == 0 {
		t.Errorf("%v: %s", err, output)
	}
}
