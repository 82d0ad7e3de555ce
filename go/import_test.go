package hnswtoolbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// copyRequest imports a collection of a store into the same store under another name.
func copyRequest(persist string) ImportRequest {
	return ImportRequest{
		Sources: []string{persist}, IntoDir: persist, Collections: []string{"wal_purged"},
		Rename: map[string]string{"wal_purged": "copy"},
	}
}

// assertCopied checks a response to copyRequest, and that the new store has the collection.
func assertCopied(t *testing.T, resp *ImportResponse, dir string, counts map[string]uint64) {
	t.Helper()
	if !resp.Complete || resp.DryRun || resp.Records != 4917+2400 || resp.Imported != 2400 || resp.Skipped != 0 ||
		resp.Replaced != 0 || resp.LeftOut != 0 || len(resp.Collections) != 1 || resp.FullText == nil {
		t.Fatalf("found %+v", resp)
	}
	if *resp.FullText != FullTextCopied { // no imported record has a document
		t.Errorf("found %s", *resp.FullText)
	}
	c := resp.Collections[0]
	if c.Name != "copy" || !c.IsNew || c.Records != 2400 || c.SegmentDir == nil || c.Links == nil || len(c.Origins) != 1 ||
		c.Origins[0].Collection != "wal_purged" {
		t.Errorf("found %+v", c)
	}
	list, err := ListCollections(ListCollectionsRequest{PersistDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if !list.Complete || len(list.Collections) != len(counts)+1 {
		t.Fatalf("found %+v", list)
	}
	for _, found := range list.Collections {
		expected := counts[found.ID]
		if found.ID == c.ID {
			expected = 2400
		}
		if found.Records != expected || found.WithoutVector != 0 {
			t.Errorf("%s: found %+v, expected %d records", found.Name, found, expected)
		}
	}
}

func TestImportWritesANewStore(t *testing.T) {
	persist, counts := persistFixture(t, "1.5.9")
	before := treeOf(t, persist)
	output := filepath.Join(t.TempDir(), "new")
	req := copyRequest(persist)
	req.OutputDir, req.Metric, req.M, req.EfConstruction, req.Threads = output, SpaceIP, pointer(8), pointer(40), pointer(1)
	var last Progress
	resp, err := ImportContext(context.Background(), req, WithProgress(func(p Progress) { last = p }))
	if err != nil {
		t.Fatal(err)
	}
	assertCopied(t, resp, output, counts)
	if last.Done != last.Total || last.Total < 2400 {
		t.Errorf("the last report is %+v", last)
	}
	if !reflect.DeepEqual(resp.Sources, req.Sources) || resp.IntoDir != persist || resp.OutputDir != output ||
		resp.KeptDir != nil || len(resp.Undo) != 0 || resp.BytesAfter == 0 {
		t.Errorf("found %+v", resp)
	}
	c := resp.Collections[0]
	header, err := InspectIndex(InspectRequest{IndexDir: filepath.Join(output, *c.SegmentDir)})
	if err != nil || c.Metric != SpaceIP || header.Header.M != 8 || header.Header.EfConstruction != 40 {
		t.Errorf("found %+v, %+v, %v", c, header, err)
	}
	if !reflect.DeepEqual(treeOf(t, persist), before) {
		t.Error("the old store was written to")
	}
	if _, err = Import(req); !errors.Is(err, ErrIO) || !strings.Contains(err.Error(), output) {
		t.Errorf("found %v", err)
	}
}

func TestImportTakesTheColumnsOfAFile(t *testing.T) {
	persist, _ := persistFixture(t, "1.5.9")
	directory := t.TempDir()
	file := filepath.Join(directory, "papers.parquet")
	extract := loadFixture(t, "1.5.9/churn")
	_, err := ExtractIndex(ExtractRequest{
		IndexDir: extract.segment, OutputPath: file, MetadataPath: filepath.Join(extract.segment, "index_metadata.pickle"),
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := Import(ImportRequest{
		Sources: []string{file}, IntoDir: persist, OutputDir: filepath.Join(directory, "new"),
		Columns: FileColumns{ID: "user_id", Vector: "vector", Metadata: []string{"label"}},
		Tenant:  "default_tenant", Database: "default_database",
	})
	if err != nil {
		t.Fatal(err)
	}
	c := resp.Collections[0]
	if c.Name != "papers" || c.Imported != extract.truth.LiveRecords || c.Origins[0].Path != file ||
		c.Origins[0].Columns["user_id"] != "id" || len(c.Origins[0].Columns) != 3 {
		t.Errorf("found %+v", c)
	}
}

func TestImportInPlaceKeepsTheOldStore(t *testing.T) {
	persist, counts := persistFixture(t, "1.5.9")
	source := filepath.Join(t.TempDir(), "source")
	if err := os.CopyFS(source, os.DirFS(persist)); err != nil {
		t.Fatal(err)
	}
	before := treeOf(t, persist)
	req := copyRequest(persist)
	req.Sources, req.InPlace = []string{source}, true
	resp, err := Import(req)
	if err != nil {
		t.Fatal(err)
	}
	assertCopied(t, resp, persist, counts)
	if resp.KeptDir == nil || len(resp.Undo) == 0 {
		t.Fatalf("found %+v", resp)
	}
	if !reflect.DeepEqual(treeOf(t, *resp.KeptDir), before) {
		t.Error("the kept store is another")
	}
}

func TestImportRefusesSkipsOrReplacesRecordsWhoseIDExists(t *testing.T) {
	persist, _ := persistFixture(t, "1.5.9")
	directory := t.TempDir()
	for _, c := range []struct {
		conflict          OnConflict
		skipped, replaced uint64
	}{{"", 0, 0}, {OnConflictError, 0, 0}, {OnConflictSkip, 2400, 0}, {OnConflictReplace, 0, 2400}} {
		req := copyRequest(persist)
		req.Rename, req.OnConflict, req.OutputDir = nil, c.conflict, filepath.Join(directory, "new-"+string(c.conflict))
		resp, err := Import(req)
		if c.skipped+c.replaced == 0 {
			var failure *Error
			if !errors.Is(err, ErrInvalidRequest) || !errors.As(err, &failure) || failure.Field != "sources" {
				t.Errorf("%s: found %v", c.conflict, err)
			}
			continue
		}
		if err != nil || !resp.Complete || resp.Skipped != c.skipped || resp.Replaced != c.replaced || resp.Records != 4917 {
			t.Errorf("%s: found %+v, %v", c.conflict, resp, err)
		}
	}
	assertFiles(t, directory, "new-replace", "new-skip")
}

func TestImportWritesNothingWhenItIsDryStoppedOrRefused(t *testing.T) {
	persist, _ := persistFixture(t, "1.5.9")
	parent := filepath.Dir(persist)
	before := treeOf(t, parent)
	stopped, stop := context.WithCancel(context.Background())
	stop()
	req := copyRequest(persist)
	req.OutputDir = filepath.Join(parent, "new")
	inPlace := copyRequest(persist)
	inPlace.InPlace = true
	for _, req := range []ImportRequest{req, inPlace} {
		if _, err := ImportContext(stopped, req); !errors.Is(err, ErrCancelled) || !errors.Is(err, context.Canceled) {
			t.Errorf("found %v", err)
		}
		req.DryRun = true
		resp, err := Import(req)
		if err != nil || !resp.DryRun || !resp.Complete || resp.Imported != 2400 || resp.FullText != nil || resp.KeptDir != nil {
			t.Errorf("found %+v, %v", resp, err)
		}
	}
	for _, c := range []struct {
		field  string
		change func(*ImportRequest)
	}{
		{"sources", func(r *ImportRequest) { r.Sources = nil }},
		{"sources", func(r *ImportRequest) { r.Sources = []string{} }},
		{"sources", func(r *ImportRequest) { r.Sources = []string{persist, ""} }},
		{"sources", func(r *ImportRequest) { r.Sources = []string{persist, "a\x00b"} }},
		{"sources", func(r *ImportRequest) { r.Sources = []string{persist, "\xff"} }},
		{"into_dir", func(r *ImportRequest) { r.IntoDir = "" }},
		{"into_dir", func(r *ImportRequest) { r.IntoDir = "\xff" }},
		{"output_dir", func(r *ImportRequest) { r.OutputDir = "" }},
		{"output_dir", func(r *ImportRequest) { r.OutputDir = "\xff" }},
		{"output_dir", func(r *ImportRequest) { r.InPlace = true }},
		{"collections", func(r *ImportRequest) { r.Collections = []string{"\xff"} }},
		{"columns.id", func(r *ImportRequest) { r.Columns.ID = "\xff" }},
		{"columns.metadata", func(r *ImportRequest) { r.Columns.Metadata = []string{"\xff"} }},
		{"rename", func(r *ImportRequest) { r.Rename = map[string]string{"\xff": "a"} }},
		{"rename", func(r *ImportRequest) { r.Rename = map[string]string{"wal_purged": "\xff"} }},
		{"rename", func(r *ImportRequest) { r.Rename = map[string]string{"nobody": "copy"} }},
		{"database", func(r *ImportRequest) { r.Database = "\xff" }},
		{"tenant", func(r *ImportRequest) { r.Tenant = "\xff" }},
		{"metric", func(r *ImportRequest) { r.Metric = "x" }},
		{"m", func(r *ImportRequest) { r.M = pointer(1) }},
		{"m", func(r *ImportRequest) { r.M = pointer(257) }},
		{"ef_construction", func(r *ImportRequest) { r.EfConstruction = pointer(0) }},
		{"ef_construction", func(r *ImportRequest) { r.EfConstruction = pointer(65537) }},
		{"on_conflict", func(r *ImportRequest) { r.OnConflict = "x" }},
		{"lists", func(r *ImportRequest) { r.Lists = "x" }},
		{"threads", func(r *ImportRequest) { r.Threads = pointer(0) }},
	} {
		changed := req
		c.change(&changed)
		_, err := Import(changed)
		var failure *Error
		if !errors.Is(err, ErrInvalidRequest) || !errors.As(err, &failure) || failure.Field != c.field {
			t.Errorf("%s: found %v", c.field, err)
		}
	}
	if !reflect.DeepEqual(treeOf(t, parent), before) {
		t.Error("something was written")
	}
}
