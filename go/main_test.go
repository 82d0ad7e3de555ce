package hnswtoolbox

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
)

const fixtures = "../tests/fixtures/chroma"

// testLibrary is the library under test: HNSW_TOOLBOX_LIB, or the output of cargo build.
func testLibrary() string {
	if path := os.Getenv(libraryVariable); path != "" {
		return path
	}
	return filepath.Join("..", "target", "debug", libraryName())
}

func TestMain(m *testing.M) {
	if helper := os.Getenv(helperVariable); helper != "" {
		runHelper(helper)
	}
	library, err := filepath.Abs(testLibrary())
	if err != nil {
		panic(err)
	}
	// The examples call Init("").
	if err := os.Setenv(libraryVariable, library); err != nil {
		panic(err)
	}
	if err := Init(""); err != nil {
		fmt.Fprintf(os.Stderr, "%v\nBuild the library first: cargo build\n", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// fixture is a real Chroma directory and its expected contents.
type fixture struct {
	name    string
	segment string
	truth   struct {
		Space  string
		Dim    int
		Header struct {
			Version         int
			MaxElements     uint64 `json:"max_elements"`
			CurElementCount uint64 `json:"cur_element_count"`
			M               uint64 `json:"M"`
			EfConstruction  uint64 `json:"ef_construction"`
		}
		DeletedRecords uint64               `json:"deleted_records"`
		LiveRecords    uint64               `json:"live_records"`
		Labels         map[string]uint64    `json:"labels"`
		Embeddings     map[string][]float32 `json:"embeddings"`
		IndexOnly      []string             `json:"index_only_ids"`
		Stale          []string             `json:"stale_in_index_ids"`
	}
}

func loadFixture(t testing.TB, name string) fixture {
	t.Helper()
	f := fixture{name: name, segment: filepath.Join(fixtures, name, "segment")}
	text, err := os.ReadFile(filepath.Join(fixtures, name, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &f.truth); err != nil {
		t.Fatal(err)
	}
	return f
}

func allFixtures(t testing.TB) []fixture {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(fixtures, "*", "*", "expected.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no fixtures in %s (%v)", fixtures, err)
	}
	var all []fixture
	for _, path := range paths {
		name, err := filepath.Rel(fixtures, filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, loadFixture(t, name))
	}
	return all
}

// indexHeader is the header.bin of an index of n vectors, with the layout of its records.
func indexHeader(n, dimension int) (header []byte, offsetData, size int) {
	const m, maxM0 = 4, 8
	offsetData = 4 + 4*maxM0
	labelOffset := offsetData + 4*dimension
	size = labelOffset + 8

	word := func(v int) { header = binary.LittleEndian.AppendUint64(header, uint64(v)) }
	header = binary.LittleEndian.AppendUint32(header, 1)
	word(0) // offset_level0
	word(n)
	word(n)
	word(size)
	word(labelOffset)
	word(offsetData)
	header = binary.LittleEndian.AppendUint32(header, 0) // max_level
	header = binary.LittleEndian.AppendUint32(header, 0) // enterpoint_node
	word(m)
	word(maxM0)
	word(m)
	header = binary.LittleEndian.AppendUint64(header, math.Float64bits(1/math.Log(m)))
	word(100)
	return header, offsetData, size
}

// endlessIndex writes an index whose extraction outlasts every test: 40 GB of zeros in a sparse
// file. Compressed, the part written before the stop is small.
func endlessIndex(t testing.TB) string {
	t.Helper()
	const n, dimension = 10_000_000, 1024
	header, _, size := indexHeader(n, dimension)
	directory := t.TempDir()
	for name, length := range map[string]int{
		"header.bin": 0, "data_level0.bin": n * size, "length.bin": 4 * n, "link_lists.bin": 4 * n,
	} {
		path := filepath.Join(directory, name)
		content := []byte(nil)
		if name == "header.bin" {
			content, length = header, len(header)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, int64(length)); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

// largeIndex writes an index of n random vectors, for calls that must take a while.
func largeIndex(t testing.TB, n, dimension int) string {
	t.Helper()
	header, offsetData, size := indexHeader(n, dimension)
	random := rand.New(rand.NewSource(1))
	records := make([]byte, 0, n*size)
	for i := range n {
		records = append(records, make([]byte, offsetData)...)
		for range dimension {
			records = binary.LittleEndian.AppendUint32(records, math.Float32bits(random.Float32()))
		}
		records = binary.LittleEndian.AppendUint64(records, uint64(i+1))
	}

	directory := t.TempDir()
	for name, content := range map[string][]byte{
		"header.bin":      header,
		"data_level0.bin": records,
		"length.bin":      make([]byte, 4*n),
		"link_lists.bin":  make([]byte, 4*n),
	} {
		if err := os.WriteFile(filepath.Join(directory, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

// hnswFile holds the contents of a .hnsw file, except its links.
type hnswFile struct {
	m, m0, efConstruction uint64
	vectors               [][]float32
	labels                []uint64
}

func readHNSW(t testing.TB, path string) hnswFile {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	u64 := func(at uint64) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	if len(b) < 256 || string(b[:8]) != "HNSWNDX\x00" || binary.LittleEndian.Uint32(b[8:]) != 1 {
		t.Fatalf("%s: not a version 1 .hnsw file", path)
	}
	n, dimension := u64(12), u64(20)
	f := hnswFile{m: u64(28), m0: u64(36), efConstruction: u64(44)}
	at := uint64(256)
	for range n {
		vector := make([]float32, dimension)
		for i := range vector {
			vector[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[at:]))
			at += 4
		}
		f.vectors = append(f.vectors, vector)
	}
	payload := uint64(len(b)) - n*8 - 16
	if u64(payload) != n || u64(payload+8) != 8 {
		t.Fatalf("%s: the payload is %d × %d bytes, expected %d × 8", path, u64(payload), u64(payload+8), n)
	}
	for i := range n {
		f.labels = append(f.labels, u64(payload+16+i*8))
	}
	return f
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// assertFiles fails unless the directory holds the named files and no others.
func assertFiles(t testing.TB, directory string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	if fmt.Sprint(found) != fmt.Sprint(names) {
		t.Errorf("%s holds %q, expected %q", directory, found, names)
	}
}
