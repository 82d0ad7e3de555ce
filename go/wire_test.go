package hnswtoolbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// exchange is a kind of call with its Go types.
type exchange struct {
	op       operation
	request  any // a zero request
	response any // a pointer to a response
}

func exchanges(t *testing.T) map[string]exchange {
	segment := loadFixture(t, "1.5.9/churn").segment
	output := filepath.Join(t.TempDir(), "out.parquet")
	extract := ExtractRequest{
		IndexDir: segment, OutputPath: output, MetadataPath: filepath.Join(segment, "index_metadata.pickle"),
	}
	salvage := extract
	salvage.Salvage, salvage.MetadataPath = true, filepath.Join(segment, "missing.pickle")
	if _, err := ExtractIndex(extract); err != nil {
		t.Fatal(err)
	}
	build := BuildRequest{InputPath: output, OutputPath: output + ".hnsw"}
	repair := RepairRequest{IndexDir: segment, OutputPath: output + ".new"}
	damaged := t.TempDir()
	if err := os.CopyFS(damaged, os.DirFS(segment)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(damaged, "data_level0.bin"), 1000); err != nil {
		t.Fatal(err)
	}
	persist, _ := persistFixture(t, "1.5.9")
	repairStore := RepairStoreRequest{PersistDir: persist, OutputDir: output + ".store"}
	lossy, _ := persistFixture(t, "1.5.9")
	dropSegment(t, lossy, "wal_purged")
	inPlace := RepairStoreRequest{PersistDir: lossy, InPlace: true}
	incomplete, _ := persistFixture(t, "1.5.9")
	dropSegment(t, incomplete, "wal_purged")
	papers := extract
	papers.OutputPath = filepath.Join(t.TempDir(), "papers.parquet")
	if _, err := ExtractIndex(papers); err != nil {
		t.Fatal(err)
	}
	imported := ImportRequest{
		Sources: []string{incomplete, papers.OutputPath}, IntoDir: persist, OutputDir: output + ".imported",
		Columns: FileColumns{ID: "user_id"}, OnConflict: OnConflictSkip,
	}
	export := ExportRequest{PersistDir: incomplete, OutputPath: output + ".export"}
	return map[string]exchange{
		"extract":         {extract.operation(), ExtractRequest{}, new(ExtractResponse)},
		"salvage":         {salvage.operation(), ExtractRequest{}, new(ExtractResponse)},
		"build":           {build.operation(), BuildRequest{}, new(BuildResponse)},
		"repair":          {repair.operation(), RepairRequest{}, new(RepairResponse)},
		"repair store":    {repairStore.operation(), RepairStoreRequest{}, new(RepairStoreResponse)},
		"repair in place": {inPlace.operation(), RepairStoreRequest{}, new(RepairStoreResponse)},
		"import":          {imported.operation(), ImportRequest{}, new(ImportResponse)},
		"export":          {export.operation(), ExportRequest{}, new(ExportResponse)},
		"inspect":         {InspectRequest{IndexDir: segment}.operation(), InspectRequest{}, new(InspectResponse)},
		"verify":          {VerifyRequest{IndexDir: segment}.operation(), VerifyRequest{}, new(VerifyResponse)},
		"verify, damaged": {VerifyRequest{IndexDir: damaged}.operation(), VerifyRequest{}, new(VerifyResponse)},
	}
}

// A decoded and re-encoded response equals what the library sent: no field is missing in Go, and
// none exists only in Go.
func TestResponsesHaveTheFieldsOfTheLibrarys(t *testing.T) {
	for name, x := range exchanges(t) {
		var sent json.RawMessage
		if err := x.op.run(context.Background(), nil, &sent); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		decoder := json.NewDecoder(bytes.NewReader(sent))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(x.response); err != nil {
			t.Errorf("%s: %v in %s", name, err, sent)
			continue
		}
		again, err := json.Marshal(x.response)
		if err != nil {
			t.Fatal(err)
		}
		var expected, found any
		if err := json.Unmarshal(sent, &expected); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &found); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(found, expected) {
			t.Errorf("%s: found %s, expected %s", name, again, sent)
		}
	}
}

// The library lists its fields when it meets an unknown one.
func TestRequestsHaveTheFieldsOfTheLibrarys(t *testing.T) {
	for name, x := range exchanges(t) {
		x.op.request = func(uint64) any { return map[string]int{"?": 0} }
		err := x.op.run(context.Background(), nil, new(any))
		if err == nil {
			t.Fatalf("%s: an unknown field was taken", name)
		}
		_, list, found := strings.Cut(err.Error(), "expected one of ")
		if !found {
			t.Fatalf("%s: %v", name, err)
		}
		expected := strings.Split(list, ", ")
		request := reflect.TypeOf(x.request)
		fields := []string{"token"}
		for i := range request.NumField() {
			field, _, _ := strings.Cut(request.Field(i).Tag.Get("json"), ",")
			fields = append(fields, field)
		}
		slices.Sort(fields)
		slices.Sort(expected)
		if !slices.Equal(fields, expected) {
			t.Errorf("%s: found %q, expected %q", name, fields, expected)
		}
	}
}

func TestVerifyReportsDamageWithoutAnError(t *testing.T) {
	f := loadFixture(t, "1.5.9/churn")
	healthy, err := VerifyIndex(VerifyRequest{IndexDir: f.segment, IO: IOModeRead})
	if err != nil {
		t.Fatal(err)
	}
	if healthy.State != IndexStateHealthy || healthy.Damaged || healthy.Live != f.truth.LiveRecords {
		t.Errorf("found %+v", healthy)
	}
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "header.bin"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged, err := VerifyIndex(VerifyRequest{IndexDir: directory})
	if err != nil {
		t.Fatal(err)
	}
	if damaged.State != IndexStateBadHeader || !damaged.Damaged || len(damaged.Findings) == 0 ||
		damaged.Findings[0].Severity != SeverityError {
		t.Errorf("found %+v", damaged)
	}
}

func TestInspectTellsTheTruthAboutEveryFixture(t *testing.T) {
	for _, f := range allFixtures(t) {
		resp, err := InspectIndex(InspectRequest{IndexDir: f.segment})
		if err != nil {
			t.Fatal(err)
		}
		header := resp.Header
		if resp.Live != f.truth.LiveRecords || resp.Deleted != f.truth.DeletedRecords || resp.Dimension != f.truth.Dim ||
			header.M != f.truth.Header.M || header.EfConstruction != f.truth.Header.EfConstruction ||
			header.MaxElements != f.truth.Header.MaxElements || len(resp.Files) != 5 {
			t.Errorf("%s: found %+v", f.name, resp)
		}
	}
}

func TestInspectAndVerifyStopWithTheirContextAndReportProgress(t *testing.T) {
	index := largeIndex(t, 1000, 4)
	for name, run := range map[string]func(context.Context, ...Option) error{
		"inspect": func(ctx context.Context, opts ...Option) error {
			_, err := InspectIndexContext(ctx, InspectRequest{IndexDir: index}, opts...)
			return err
		},
		"verify": func(ctx context.Context, opts ...Option) error {
			_, err := VerifyIndexContext(ctx, VerifyRequest{IndexDir: index}, opts...)
			return err
		},
	} {
		var last Progress
		err := run(context.Background(), WithProgress(func(p Progress) { last = p }))
		if err != nil || last.Done != last.Total || last.Total < 1000 {
			t.Errorf("%s: %v, the last report is %+v", name, err, last)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := run(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrCancelled) {
			t.Errorf("%s: found %v", name, err)
		}
	}
}
