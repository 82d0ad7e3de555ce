package hnswtoolbox

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"
)

// persistFixture unpacks a persist directory, and returns it with the number of records of each
// collection by id.
func persistFixture(t testing.TB, name string) (string, map[string]uint64) {
	t.Helper()
	archive, err := os.Open(filepath.Join("..", "tests", "fixtures", "persist", name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	unzipped, err := gzip.NewReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for entries := tar.NewReader(unzipped); ; {
		entry, err := entries.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, filepath.FromSlash(entry.Name))
		if entry.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			content, readErr := io.ReadAll(entries)
			err = errors.Join(readErr, os.WriteFile(path, content, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var expected struct {
		Collections []struct {
			ID    string `json:"id"`
			Count uint64 `json:"count"`
		} `json:"collections"`
	}
	if err := json.Unmarshal(mustRead(t, filepath.Join(root, "expected.json")), &expected); err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, collection := range expected.Collections {
		counts[collection.ID] = collection.Count
	}
	return filepath.Join(root, "persist"), counts
}

func TestListCollectionsReportsEachAsItIs(t *testing.T) {
	persist, counts := persistFixture(t, "1.5.9")
	resp, err := ListCollections(ListCollectionsRequest{PersistDir: persist})
	if err != nil {
		t.Fatal(err)
	}
	if !resp.Complete || len(resp.Collections) != len(counts) || resp.PersistDir != persist || resp.ChromaSchema["metadb"] != 6 {
		t.Fatalf("found %+v", resp)
	}
	if len(resp.OrphanDirectories) != 1 {
		t.Errorf("found orphans %v, expected the directory of the deleted collection", resp.OrphanDirectories)
	}
	for _, c := range resp.Collections {
		if c.Records != counts[c.ID] || c.WithoutVector != 0 {
			t.Errorf("%s: found %+v, expected %d records", c.Name, c, counts[c.ID])
		}
		if c.Name == "schema_cosine" && (c.Metric != "cosine" || c.MetricSource != "schema_str" || *c.Dimension != 6) {
			t.Errorf("found %+v", c)
		}
	}
	resp, err = ListCollections(ListCollectionsRequest{PersistDir: persist, Tenant: "tenant_b"})
	if err != nil || len(resp.Collections) != 1 || resp.Collections[0].Database != "db_b" {
		t.Errorf("found %+v, %v", resp, err)
	}
}

func TestExportWritesEachCollectionAndAManifest(t *testing.T) {
	persist, counts := persistFixture(t, "1.5.9")
	for _, format := range []OutputFormat{OutputFormatParquet, OutputFormatArrowIPC} {
		output := filepath.Join(t.TempDir(), "out")
		var last Progress
		resp, err := ExportContext(context.Background(), ExportRequest{
			PersistDir: persist, OutputPath: output, OutputFormat: format,
			Metadata: MetadataFormColumns, IndexColumns: true,
		}, WithProgress(func(p Progress) { last = p }))
		if err != nil {
			t.Fatal(err)
		}
		if !resp.Complete || last.Done != 4917 || last.Total != 4917 || resp.Summary.Rows != 4917 || resp.OutputFormat != format {
			t.Errorf("found progress %+v, summary %+v", last, resp.Summary)
		}
		names := []string{"manifest.json"}
		for _, file := range resp.Summary.Files {
			names = append(names, file.File)
			content := mustRead(t, filepath.Join(output, file.File))
			sum := sha256.Sum256(content)
			if hex.EncodeToString(sum[:]) != file.SHA256 || uint64(len(content)) != file.Bytes {
				t.Errorf("%s: the hash or the length is another", file.File)
			}
			if file.Rows != counts[file.CollectionID] || file.VectorsFromIndex+file.VectorsFromLog != file.Rows {
				t.Errorf("found %+v", file)
			}
		}
		sort.Strings(names)
		assertFiles(t, output, names...)
		var manifest ExportSummary
		if err := json.Unmarshal(mustRead(t, filepath.Join(output, "manifest.json")), &manifest); err != nil {
			t.Fatal(err)
		}
		if manifest.Rows != resp.Summary.Rows || len(manifest.Files) != len(resp.Summary.Files) {
			t.Errorf("found manifest %+v", manifest)
		}
	}
}

func TestExportOfOneCollectionIsOneFile(t *testing.T) {
	persist, _ := persistFixture(t, "0.5.23-metalag")
	directory := t.TempDir()
	req := ExportRequest{
		PersistDir: persist, OutputPath: filepath.Join(directory, "out.parquet"), Collections: []string{"wal_purged"},
	}
	resp, err := Export(req)
	if err != nil || resp.Summary.Rows != 2400 {
		t.Fatalf("found %+v, %v", resp, err)
	}
	assertFiles(t, directory, "out.parquet")

	req.Collections = []string{"articles"}
	_, err = Export(req)
	if !errors.Is(err, ErrInvalidRequest) || !strings.Contains(err.Error(), "3 collections") {
		t.Errorf("found %v", err)
	}
	req.Database = "db2"
	if resp, err := Export(req); err != nil || resp.Summary.Rows != 15 {
		t.Errorf("found %+v, %v", resp, err)
	}
}

func TestExportTakesTheShapeAndTheMetricOfTheRequest(t *testing.T) {
	persist, _ := persistFixture(t, "1.5.9")
	list, err := ListCollections(ListCollectionsRequest{PersistDir: persist})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.Collections {
		if c.Name == "wal_purged" {
			if err := os.Remove(filepath.Join(persist, *c.SegmentDir, "header.bin")); err != nil {
				t.Fatal(err)
			}
		}
	}
	req := ExportRequest{
		PersistDir: persist, OutputPath: filepath.Join(t.TempDir(), "out.parquet"), Collections: []string{"wal_purged"},
		Dimension: pointer(12), M: pointer(16), Metric: SpaceL2,
	}
	resp, err := Export(req)
	if err != nil || resp.Summary.Rows != 2400 || resp.Summary.Files[0].WithoutVector != 0 {
		t.Fatalf("found %+v, %v", resp, err)
	}
	if file := resp.Summary.Files[0]; file.Metric != "l2" || file.MetricSource != "schema_str" {
		t.Errorf("found %+v", file)
	}
	req.Metric = SpaceCosine
	if _, err = Export(req); !errors.Is(err, ErrInvalidRequest) || !strings.Contains(err.Error(), "found cosine, expected l2") {
		t.Errorf("found %v", err)
	}
	req.Metric, req.M = SpaceL2, pointer(8)
	if _, err = Export(req); !errors.Is(err, ErrInvalidRequest) || !strings.Contains(err.Error(), "16") {
		t.Errorf("found %v", err)
	}
}

func TestExportStopsWithItsContext(t *testing.T) {
	persist, _ := persistFixture(t, "1.5.9")
	directory := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := ExportContext(ctx, ExportRequest{PersistDir: persist, OutputPath: filepath.Join(directory, "out")})
	if !errors.Is(err, ErrCancelled) || !errors.Is(err, context.Canceled) {
		t.Errorf("found %v", err)
	}
	_, err = ListCollectionsContext(ctx, ListCollectionsRequest{PersistDir: persist})
	if !errors.Is(err, ErrCancelled) {
		t.Errorf("found %v", err)
	}
	assertFiles(t, directory)
}

func TestDirectoriesThatAreNoPersistDirectoryAreRefused(t *testing.T) {
	directory := t.TempDir()
	_, err := ListCollections(ListCollectionsRequest{PersistDir: directory})
	if !errors.Is(err, ErrIO) || !strings.Contains(err.Error(), "chroma.sqlite3") {
		t.Errorf("found %v", err)
	}
	if err := os.WriteFile(filepath.Join(directory, "chroma.sqlite3"), []byte("no database"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Export(ExportRequest{PersistDir: directory, OutputPath: filepath.Join(t.TempDir(), "out")})
	var failure *Error
	if !errors.Is(err, ErrInvalidInput) || !errors.As(err, &failure) || failure.Code != 205 {
		t.Errorf("found %v", err)
	}
}

func TestCollectionsAreTheSameHoweverFilesAreRead(t *testing.T) {
	persist, _ := persistFixture(t, "1.5.9")
	var listed []*ListCollectionsResponse
	var hashes [][]string
	for _, mode := range []IOMode{"", IOModeRead, IOModeMmap} {
		list, err := ListCollections(ListCollectionsRequest{PersistDir: persist, IO: mode})
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, list)
		output := filepath.Join(t.TempDir(), "out")
		exported, err := Export(ExportRequest{PersistDir: persist, OutputPath: output, IO: mode})
		if err != nil {
			t.Fatal(err)
		}
		var sums []string
		for _, file := range exported.Summary.Files {
			sums = append(sums, file.SHA256)
		}
		hashes = append(hashes, sums)
	}
	for i := range listed {
		if !reflect.DeepEqual(listed[i], listed[0]) || !reflect.DeepEqual(hashes[i], hashes[0]) {
			t.Errorf("mode %d: found %+v and %v", i, listed[i], hashes[i])
		}
	}
	_, err := ListCollections(ListCollectionsRequest{PersistDir: persist, IO: "x"})
	if !errors.Is(err, ErrInvalidRequest) {
		t.Error(err)
	}
	_, err = Export(ExportRequest{PersistDir: persist, OutputPath: filepath.Join(t.TempDir(), "x"), IO: "x"})
	if !errors.Is(err, ErrInvalidRequest) {
		t.Error(err)
	}
}
