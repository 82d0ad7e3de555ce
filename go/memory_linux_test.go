package hnswtoolbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// residentBytes is the memory of this process, after Go has released as much as possible.
func residentBytes(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	var size, resident int
	if _, err := fmt.Fscan(bytes.NewReader(mustRead(t, "/proc/self/statm")), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

// Responses and errors contain a path of 3 kB, so that a leak shows.
func TestMemoryStaysFlatOver10000Calls(t *testing.T) {
	f := loadFixture(t, "1.5.9/tiny")
	directory := t.TempDir()
	for range 15 {
		directory = filepath.Join(directory, strings.Repeat("d", 200))
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	input := filepath.Join(directory, "input")
	if _, err := ExtractIndex(ExtractRequest{IndexDir: largeIndex(t, 5, 3), OutputPath: input}); err != nil {
		t.Fatal(err)
	}
	calls := func(n int) {
		for i := range n {
			var err error
			failing := i%10 != 0 // Successful calls wait for the disk.
			switch {
			case failing && i%2 == 0:
				_, err = ExtractIndex(ExtractRequest{IndexDir: f.segment, OutputPath: directory})
			case failing:
				_, err = BuildIndex(BuildRequest{InputPath: directory, OutputPath: input})
			case i%20 == 0:
				_, err = ExtractIndex(ExtractRequest{IndexDir: f.segment, OutputPath: filepath.Join(directory, "out")})
			default:
				_, err = BuildIndex(BuildRequest{InputPath: input, OutputPath: filepath.Join(directory, "out.hnsw")})
			}
			if failing != (err != nil) {
				t.Fatalf("call %d: %v", i, err)
			}
		}
	}
	calls(1000)
	before := residentBytes(t)
	calls(10_000)
	if grown := residentBytes(t) - before; grown > 2<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}
}

// Neither a stream read to its end nor an abandoned one leaks memory.
func TestTenThousandStreamsLeaveNothing(t *testing.T) {
	index := largeIndex(t, 50, 4)
	var before int
	for i := range 10_000 {
		for _, err := range Batches(context.Background(), ExtractRequest{IndexDir: index, BatchSize: 10}) {
			if err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				break
			}
		}
		if i == 500 {
			before = residentBytes(t)
		}
	}
	if after := residentBytes(t); after > before+(16<<20) {
		t.Errorf("%d bytes resident, %d before", after, before)
	}
}
