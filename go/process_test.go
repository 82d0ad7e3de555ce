package hnswtoolbox

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// helperVariable makes the test executable run one of the helpers below instead of the tests.
const helperVariable = "HNSW_TOOLBOX_TEST_HELPER"

func runHelper(name string) {
	fail := func(err error) {
		fmt.Println(err)
		os.Exit(1)
	}
	// The second call loads the same library, by its path.
	for _, path := range []string{"", "", os.Getenv("HELPER_SAME")} {
		if err := Init(path); err != nil {
			fail(err)
		}
	}
	switch name {
	case "version":
		version, err := Version()
		if err != nil {
			fail(err)
		}
		fmt.Println(version)
	case "extract":
		index, output := os.Getenv("HELPER_INDEX"), os.Getenv("HELPER_OUTPUT")
		_, err := ExtractIndexContext(context.Background(), ExtractRequest{
			IndexDir: index, OutputPath: output, BatchSize: 8, Compression: CompressionZstd,
		}, WithProgress(func(p Progress) { fmt.Println("progress", p.Done, p.Total) }))
		if err != nil {
			fail(err)
		}
		fmt.Println("finished")
	}
	os.Exit(0)
}

func TestKilledExtractLeavesAnEarlierOutputWhole(t *testing.T) {
	index := endlessIndex(t)
	directory := t.TempDir()
	output := filepath.Join(directory, "out.parquet")
	f := loadFixture(t, "1.5.9/l2")
	if _, err := ExtractIndex(ExtractRequest{IndexDir: f.segment, OutputPath: output}); err != nil {
		t.Fatal(err)
	}
	earlier := string(mustRead(t, output))
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	library, err := filepath.Abs(testLibrary())
	if err != nil {
		t.Fatal(err)
	}

	for _, delay := range []time.Duration{0, 50 * time.Millisecond, 150 * time.Millisecond} {
		helper := exec.Command(executable)
		helper.Env = append(os.Environ(), libraryVariable+"="+library, helperVariable+"=extract",
			"HELPER_INDEX="+index, "HELPER_OUTPUT="+output)
		stdout, err := helper.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := helper.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		var before, after []string
		for lines.Scan() {
			before = append(before, lines.Text())
			var done, total int
			if _, err := fmt.Sscanf(lines.Text(), "progress %d %d", &done, &total); err != nil || done > 0 {
				break
			}
		}
		time.Sleep(delay)
		if err := helper.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			after = append(after, lines.Text())
		}
		_ = helper.Wait()
		if all := strings.Join(append(before, after...), "\n"); !strings.Contains(all, "progress") || strings.Contains(all, "finished") {
			t.Fatalf("the extraction was not killed in the middle: %s", all)
		}
		if string(mustRead(t, output)) != earlier {
			t.Fatalf("killed %v after the first progress: the earlier output changed", delay)
		}
	}

	// The next call removes the files of the killed ones.
	if _, err := ExtractIndex(ExtractRequest{IndexDir: f.segment, OutputPath: output}); err != nil {
		t.Fatal(err)
	}
	assertFiles(t, directory, "out.parquet")
}
