package hnswtoolbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// dropSegment deletes the segment directory of a collection.
func dropSegment(t testing.TB, persist, name string) {
	t.Helper()
	list, err := ListCollections(ListCollectionsRequest{PersistDir: persist})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.Collections {
		if c.Name == name {
			if err := os.RemoveAll(filepath.Join(persist, *c.SegmentDir)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// treeOf returns the content of each file below a directory, and "" for a directory.
func treeOf(t testing.TB, root string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		tree[name] = ""
		if !entry.IsDir() {
			tree[name] = string(mustRead(t, path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// assertRepaired compares a response and the new store with the records of each collection by id.
func assertRepaired(t *testing.T, resp *RepairStoreResponse, dir string, counts map[string]uint64) {
	t.Helper()
	if !resp.Complete || resp.Records != 4917 || resp.LeftOut != 0 || resp.LeftOutDir != nil {
		t.Errorf("found %+v", resp)
	}
	list, err := ListCollections(ListCollectionsRequest{PersistDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if !list.Complete || len(list.Collections) != len(counts) || len(resp.Collections) != len(counts) {
		t.Fatalf("found %+v", list)
	}
	for _, c := range list.Collections {
		if c.Records != counts[c.ID] || c.WithoutVector != 0 {
			t.Errorf("%s: found %+v, expected %d records", c.Name, c, counts[c.ID])
		}
	}
	for _, c := range resp.Collections {
		sources := c.VectorsFromSegment + c.VectorsFromQueue + c.VectorsFromElsewhere
		if c.Records != counts[c.ID] || c.Records != sources+c.WithoutVector {
			t.Errorf("%s: found %+v, expected %d records", c.Name, c, counts[c.ID])
		}
	}
}

func TestRepairStoreWritesANewStore(t *testing.T) {
	persist, counts := persistFixture(t, "1.5.9")
	before := treeOf(t, persist)
	output := filepath.Join(t.TempDir(), "new")
	req := RepairStoreRequest{PersistDir: persist, OutputDir: output, Links: LinksBuild, Threads: pointer(1), IO: IOModeMmap}
	var last Progress
	resp, err := RepairStoreContext(context.Background(), req, WithProgress(func(p Progress) { last = p }))
	if err != nil {
		t.Fatal(err)
	}
	assertRepaired(t, resp, output, counts)
	if last.Done != last.Total || last.Total < 4917 {
		t.Errorf("the last report is %+v", last)
	}
	if resp.PersistDir != persist || resp.OutputDir != output || resp.DryRun || resp.FullText == nil ||
		resp.KeptDir != nil || len(resp.Undo) != 0 || len(resp.LeftoverDirectories) != 1 || resp.BytesAfter == 0 {
		t.Errorf("found %+v", resp)
	}
	for _, c := range resp.Collections {
		if c.SegmentDir != nil && (c.Links == nil || *c.Links != LinksBuild) {
			t.Errorf("found %+v", c)
		}
		if c.Name == "schema_cosine" && (c.Metric != SpaceCosine || *c.Dimension != 6) {
			t.Errorf("found %+v", c)
		}
	}
	if !reflect.DeepEqual(treeOf(t, persist), before) {
		t.Error("the old store was written to")
	}
	if _, err = RepairStore(req); !errors.Is(err, ErrIO) || !strings.Contains(err.Error(), output) {
		t.Errorf("found %v", err)
	}
}

func TestRepairStoreInPlaceKeepsTheOldStore(t *testing.T) {
	persist, counts := persistFixture(t, "1.5.9")
	before := treeOf(t, persist)
	resp, err := RepairStore(RepairStoreRequest{PersistDir: persist, InPlace: true})
	if err != nil {
		t.Fatal(err)
	}
	assertRepaired(t, resp, persist, counts)
	if resp.KeptDir == nil || len(resp.Undo) == 0 {
		t.Fatalf("found %+v", resp)
	}
	if !reflect.DeepEqual(treeOf(t, *resp.KeptDir), before) {
		t.Error("the kept store is another")
	}
}

func TestRepairStoreExportsRecordsWithoutAVector(t *testing.T) {
	// The queue has the vectors of 51 of the 2400 records.
	const lost = 2349
	persist, _ := persistFixture(t, "1.5.9")
	dropSegment(t, persist, "wal_purged")
	output := filepath.Join(t.TempDir(), "new")
	resp, err := RepairStore(RepairStoreRequest{PersistDir: persist, OutputDir: output})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Complete || resp.LeftOut != lost || resp.Records != 4917-lost || resp.LeftOutDir == nil {
		t.Fatalf("found %+v", resp)
	}
	if _, err := os.Stat(filepath.Join(*resp.LeftOutDir, "manifest.json")); err != nil {
		t.Error(err)
	}
	for _, c := range resp.Collections {
		if c.Name == "wal_purged" && (c.WithoutVector != lost || c.Records != 51 || len(c.FirstIDsWithoutVector) != 100) {
			t.Errorf("found %+v", c)
		}
	}
}

func TestRepairStoreWritesNothingWhenItIsDryStoppedOrRefused(t *testing.T) {
	persist, _ := persistFixture(t, "1.5.9")
	parent := filepath.Dir(persist)
	before := treeOf(t, parent)
	output := filepath.Join(parent, "new")
	stopped, stop := context.WithCancel(context.Background())
	stop()
	for _, req := range []RepairStoreRequest{
		{PersistDir: persist, OutputDir: output},
		{PersistDir: persist, InPlace: true},
	} {
		if _, err := RepairStoreContext(stopped, req); !errors.Is(err, ErrCancelled) || !errors.Is(err, context.Canceled) {
			t.Errorf("found %v", err)
		}
		req.DryRun = true
		resp, err := RepairStore(req)
		if err != nil || !resp.DryRun || !resp.Complete || resp.Records != 4917 || resp.FullText != nil || resp.KeptDir != nil {
			t.Errorf("found %+v, %v", resp, err)
		}
	}
	for _, c := range []struct {
		req   RepairStoreRequest
		field string
	}{
		{RepairStoreRequest{OutputDir: output}, "persist_dir"},
		{RepairStoreRequest{PersistDir: persist}, "output_dir"},
		{RepairStoreRequest{PersistDir: persist, OutputDir: output, InPlace: true}, "output_dir"},
		{RepairStoreRequest{PersistDir: persist, OutputDir: output, Links: "x"}, "links"},
		{RepairStoreRequest{PersistDir: persist, OutputDir: output, Metric: "x"}, "metric"},
		{RepairStoreRequest{PersistDir: persist, OutputDir: output, IO: "x"}, "io"},
		{RepairStoreRequest{PersistDir: persist, OutputDir: output, Threads: pointer(0)}, "threads"},
		{RepairStoreRequest{PersistDir: persist, OutputDir: output, Template: "\xff"}, "template"},
		{RepairStoreRequest{PersistDir: persist, OutputDir: "\xff"}, "output_dir"},
	} {
		_, err := RepairStore(c.req)
		var failure *Error
		if !errors.Is(err, ErrInvalidRequest) || !errors.As(err, &failure) || failure.Field != c.field {
			t.Errorf("%s: found %v", c.field, err)
		}
	}
	if !reflect.DeepEqual(treeOf(t, parent), before) {
		t.Error("something was written")
	}
}
