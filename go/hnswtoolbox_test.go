package hnswtoolbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func pointer[T any](value T) *T { return &value }

func TestVersionIsTheLibrarys(t *testing.T) {
	version, err := Version()
	if err != nil || strings.Count(version, ".") != 2 {
		t.Fatalf("found %q, %v", version, err)
	}
}

func TestExtractReportsEveryFixtureAsItIs(t *testing.T) {
	for _, f := range allFixtures(t) {
		for _, format := range []OutputFormat{OutputFormatParquet, OutputFormatArrowIPC} {
			for _, includeDeleted := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%v", f.name, format, includeDeleted), func(t *testing.T) {
					output := filepath.Join(t.TempDir(), "out")
					resp, err := ExtractIndex(ExtractRequest{
						IndexDir: f.segment, OutputPath: output, OutputFormat: format, IncludeDeleted: includeDeleted,
					})
					if err != nil {
						t.Fatal(err)
					}
					expected := ExtractResponse{
						Complete:     true,
						OutputPath:   output,
						OutputFormat: format,
						Summary: ExtractSummary{
							Scanned:        f.truth.LiveRecords + f.truth.DeletedRecords,
							Emitted:        f.truth.LiveRecords,
							DeletedSkipped: f.truth.DeletedRecords,
							Dimension:      f.truth.Dim,
							IndexProperties: IndexProperties{
								M:                f.truth.Header.M,
								EfConstruction:   f.truth.Header.EfConstruction,
								CurElementCount:  f.truth.Header.CurElementCount,
								MaxElements:      f.truth.Header.MaxElements,
								PersistedVersion: f.truth.Header.Version,
								WordSizeBytes:    8,
							},
						},
					}
					if includeDeleted {
						expected.Summary.Emitted += expected.Summary.DeletedSkipped
						expected.Summary.DeletedSkipped = 0
					}
					if *resp != expected {
						t.Errorf("found %+v, expected %+v", *resp, expected)
					}
					magic := map[OutputFormat]string{OutputFormatParquet: "PAR1", OutputFormatArrowIPC: "ARROW1"}[format]
					content := string(mustRead(t, output))
					if !strings.HasPrefix(content, magic) || !strings.HasSuffix(content, magic) {
						t.Errorf("the output does not begin and end with %s", magic)
					}
					assertFiles(t, filepath.Dir(output), "out")
				})
			}
		}
	}
}

func TestMetadataPathPutsUserIDsIntoTheOutput(t *testing.T) {
	f := loadFixture(t, "0.6.3/cosine")
	directory := t.TempDir()
	for _, joined := range []bool{false, true} {
		req := ExtractRequest{
			IndexDir: f.segment, OutputPath: filepath.Join(directory, "out.arrow"), OutputFormat: OutputFormatArrowIPC,
		}
		if joined {
			req.MetadataPath = filepath.Join(f.segment, "index_metadata.pickle")
		}
		if _, err := ExtractIndex(req); err != nil {
			t.Fatal(err)
		}
		content := string(mustRead(t, req.OutputPath))
		for id := range f.truth.Labels {
			// A short id can occur among the vectors' bytes by chance.
			if len(id) > 6 && strings.Contains(content, id) != joined {
				t.Fatalf("metadata joined: %v; id %q found: %v", joined, id, !joined)
			}
		}
	}
}

// extracted writes the fixture's live records to a file to build from.
func extracted(t testing.TB, f fixture, format OutputFormat) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "extracted")
	if _, err := ExtractIndex(ExtractRequest{IndexDir: f.segment, OutputPath: path, OutputFormat: format}); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExtractThenBuildKeepsVectorsAndLabels(t *testing.T) {
	for _, name := range []string{"0.4.24/churn", "1.5.9/churn"} {
		for _, format := range []OutputFormat{OutputFormatParquet, OutputFormatArrowIPC} {
			t.Run(name+"/"+string(format), func(t *testing.T) {
				f := loadFixture(t, name)
				input := extracted(t, f, format)
				output := filepath.Join(t.TempDir(), "out.hnsw")
				resp, err := BuildIndex(BuildRequest{
					InputPath: input, OutputPath: output, InputFormat: InputFormat(format),
					Metric: DistanceMetricSquaredEuclidean, Seed: pointer(uint64(math.MaxUint64)),
				})
				if err != nil {
					t.Fatal(err)
				}
				expected := BuildResponse{
					Complete:  true,
					InputPath: input, OutputPath: output, InputFormat: InputFormat(format),
					Metric: DistanceMetricSquaredEuclidean,
					Summary: BuildSummary{
						Scanned: f.truth.LiveRecords, Inserted: f.truth.LiveRecords, Dimension: f.truth.Dim,
					},
				}
				if !reflect.DeepEqual(*resp, expected) {
					t.Errorf("found %+v, expected %+v", *resp, expected)
				}

				built := readHNSW(t, output)
				byLabel := map[uint64][]float32{}
				for i, label := range built.labels {
					byLabel[label] = built.vectors[i]
				}
				changed := map[string]bool{}
				for _, id := range append(f.truth.IndexOnly, f.truth.Stale...) {
					changed[id] = true
				}
				for id, label := range f.truth.Labels {
					found, ok := byLabel[label]
					if !ok {
						t.Fatalf("label %d of %q is missing", label, id)
					}
					if changed[id] {
						continue
					}
					for i, expected := range f.truth.Embeddings[id] {
						if math.Float32bits(found[i]) != math.Float32bits(expected) {
							t.Fatalf("%q: component %d: found %v, expected %v", id, i, found[i], expected)
						}
					}
				}
				if len(byLabel) != len(f.truth.Labels) {
					t.Errorf("found %d labels, expected %d", len(byLabel), len(f.truth.Labels))
				}
			})
		}
	}
}

func TestBuildTakesVectorsAndLabelsFromColumnsByName(t *testing.T) {
	req := BuildRequest{
		InputPath:  "../tests/fixtures/columnar/pyarrow-named.parquet",
		OutputPath: filepath.Join(t.TempDir(), "out.hnsw"),
	}
	_, err := BuildIndex(req)
	if !errors.Is(err, ErrInvalidInput) || !strings.Contains(err.Error(), "embedding, key") {
		t.Errorf("found %v, expected the columns that there are", err)
	}
	req.VectorColumn, req.LabelColumn = "embedding", "key"
	resp, err := BuildIndex(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Summary.Inserted != 50 || resp.Summary.Dimension != 4 {
		t.Errorf("found %+v, expected 50 vectors of dimension 4", resp.Summary)
	}
}

func TestBuildDefaultsAndParametersReachTheIndex(t *testing.T) {
	input := extracted(t, loadFixture(t, "0.4.24/churn"), OutputFormatParquet)
	directory := t.TempDir()
	for _, c := range []struct {
		req      BuildRequest
		expected hnswFile
		metric   DistanceMetric
	}{
		{BuildRequest{}, hnswFile{m: 16, m0: 32, efConstruction: 200}, DistanceMetricEuclidean},
		{BuildRequest{M: 5, EfConstruction: 30, Metric: DistanceMetricManhattan, Engine: EnginePartition},
			hnswFile{m: 5, m0: 10, efConstruction: 30}, DistanceMetricManhattan},
		{BuildRequest{M: 5, M0: pointer(10), Metric: DistanceMetricCosine, Capacity: pointer(100000), BatchSize: 7,
			Threads: 2, IO: IOModeRead, Engine: EngineHNSWRS},
			hnswFile{m: 5, m0: 10, efConstruction: 200}, DistanceMetricCosine},
	} {
		c.req.InputPath, c.req.OutputPath = input, filepath.Join(directory, "out.hnsw")
		resp, err := BuildIndex(c.req)
		if err != nil {
			t.Fatalf("%+v: %v", c.req, err)
		}
		if resp.Metric != c.metric || resp.InputFormat != InputFormatParquet {
			t.Errorf("%+v: found %+v", c.req, *resp)
		}
		f := readHNSW(t, c.req.OutputPath)
		if f.m != c.expected.m || f.m0 != c.expected.m0 || f.efConstruction != c.expected.efConstruction {
			t.Errorf("%+v: found m %d, m0 %d, ef_construction %d", c.req, f.m, f.m0, f.efConstruction)
		}
	}
}

func TestErrorsMatchTheirSentinelAndNameWhatIsWrong(t *testing.T) {
	good := loadFixture(t, "1.5.9/l2")
	directory := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	corrupt := filepath.Join(directory, "corrupt")
	if err := os.CopyFS(corrupt, os.DirFS(good.segment)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(corrupt, "data_level0.bin"), 1000); err != nil {
		t.Fatal(err)
	}
	file := write("file", "something")
	out := filepath.Join(directory, "out")
	extract := func(req ExtractRequest) func() error {
		return func() error { _, err := ExtractIndex(req); return err }
	}
	build := func(req BuildRequest) func() error {
		return func() error { _, err := BuildIndex(req); return err }
	}
	for _, c := range []struct {
		name     string
		call     func() error
		sentinel error
		says     string
	}{
		{"no index_dir", extract(ExtractRequest{OutputPath: out}), ErrInvalidRequest, "index_dir"},
		{"no output_path", extract(ExtractRequest{IndexDir: good.segment}), ErrInvalidRequest, "output_path"},
		{"NUL in a path", extract(ExtractRequest{IndexDir: "a\x00b", OutputPath: out}), ErrInvalidRequest, "index_dir"},
		{"path that is not UTF-8", extract(ExtractRequest{IndexDir: good.segment, OutputPath: out + "\xff"}), ErrInvalidRequest, "output_path"},
		{"unknown format", extract(ExtractRequest{IndexDir: good.segment, OutputPath: out, OutputFormat: "csv"}), ErrInvalidRequest, "output_format"},
		{"negative batch size", extract(ExtractRequest{IndexDir: good.segment, OutputPath: out, BatchSize: -1}), ErrInvalidRequest, "batch_size"},
		{"huge batch size", extract(ExtractRequest{IndexDir: good.segment, OutputPath: out, BatchSize: math.MaxInt}), ErrInvalidRequest, "batch_size"},
		{"missing index", extract(ExtractRequest{IndexDir: filepath.Join(directory, "nowhere"), OutputPath: out}), ErrIO, "nowhere"},
		{"index that is a file", extract(ExtractRequest{IndexDir: file, OutputPath: out}), ErrIO, "file"},
		{"output that is a directory", extract(ExtractRequest{IndexDir: good.segment, OutputPath: corrupt}), ErrIO, "corrupt"},
		{"output below a file", extract(ExtractRequest{IndexDir: good.segment, OutputPath: filepath.Join(file, "out")}), ErrIO, "file"},
		{"missing metadata", extract(ExtractRequest{IndexDir: good.segment, OutputPath: out, MetadataPath: out + ".pickle"}), ErrIO, "out.pickle"},
		{"corrupt metadata", extract(ExtractRequest{IndexDir: good.segment, OutputPath: out, MetadataPath: file}), ErrCorruptIndex, "file"},
		{"corrupt index", extract(ExtractRequest{IndexDir: corrupt, OutputPath: out}), ErrCorruptIndex, "data_level0.bin"},
		{"missing input", build(BuildRequest{InputPath: filepath.Join(directory, "nowhere"), OutputPath: out}), ErrIO, "nowhere"},
		{"input that is not Parquet", build(BuildRequest{InputPath: file, OutputPath: out}), ErrInvalidInput, "file"},
		{"unknown metric", build(BuildRequest{InputPath: file, OutputPath: out, Metric: "hamming"}), ErrInvalidRequest, "metric"},
		{"negative m", build(BuildRequest{InputPath: file, OutputPath: out, M: -3}), ErrInvalidRequest, "m:"},
		{"m of 1", build(BuildRequest{InputPath: file, OutputPath: out, M: 1}), ErrInvalidRequest, "m:"},
		{"huge m", build(BuildRequest{InputPath: file, OutputPath: out, M: 1 << 40}), ErrInvalidRequest, "m:"},
		{"negative m0", build(BuildRequest{InputPath: file, OutputPath: out, M0: pointer(-1)}), ErrInvalidRequest, "m0"},
		{"huge ef_construction", build(BuildRequest{InputPath: file, OutputPath: out, EfConstruction: math.MaxInt}), ErrInvalidRequest, "ef_construction"},
		{"capacity of 0", build(BuildRequest{InputPath: file, OutputPath: out, Capacity: pointer(0)}), ErrInvalidRequest, "capacity"},
		{"negative threads", build(BuildRequest{InputPath: file, OutputPath: out, Threads: -1}), ErrInvalidRequest, "threads"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.call()
			if !errors.Is(err, c.sentinel) {
				t.Fatalf("found %v, expected one that is %q", err, c.sentinel)
			}
			for _, other := range []error{ErrInvalidRequest, ErrInvalidInput, ErrIO, ErrCancelled, ErrInternal, ErrNotInitialized} {
				inside := other == ErrInvalidInput && c.sentinel == ErrCorruptIndex
				if other != c.sentinel && !inside && errors.Is(err, other) {
					t.Errorf("%v also matches %q", err, other)
				}
			}
			var typed *Error
			if !errors.As(err, &typed) || !strings.Contains(typed.Message, c.says) {
				t.Errorf("found %v, expected it to say %q", err, c.says)
			}
			if !strings.Contains(err.Error(), fmt.Sprintf("[E%d] %s", typed.Code, typed.Message)) || strings.HasPrefix(typed.Message, "[") {
				t.Errorf("the code and the message are not told apart: %v", err)
			}
			if LastError() != err.Error() {
				t.Errorf("LastError: found %q, expected %q", LastError(), err)
			}
			if _, err := os.Stat(out); err == nil {
				t.Errorf("an output was written")
			}
		})
	}
	if err := extract(ExtractRequest{IndexDir: good.segment, OutputPath: out})(); err != nil || LastError() != "" {
		t.Errorf("after a success: %v, LastError %q", err, LastError())
	}
}

func TestErrorsHaveTheirParts(t *testing.T) {
	good := loadFixture(t, "1.5.9/tiny")
	directory := t.TempDir()
	index := filepath.Join(directory, "index")
	if err := os.CopyFS(index, os.DirFS(good.segment)); err != nil {
		t.Fatal(err)
	}
	header, pickle := filepath.Join(index, "header.bin"), filepath.Join(directory, "short.pickle")
	for path, content := range map[string][]byte{header: make([]byte, 7), pickle: {0x80, 4}} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	none := filepath.Join(directory, "none")
	inspect := func(index string) error { _, err := InspectIndex(InspectRequest{IndexDir: index}); return err }
	stream := func(req ExtractRequest) (found error) {
		for _, err := range Batches(context.Background(), req) {
			found = err
		}
		return found
	}
	graph, err := OpenIndex(emptyIndex(t, 3), WithMetric(DistanceMetricCosine))
	if err != nil {
		t.Fatal(err)
	}
	defer graph.Close()
	_, tooFew := graph.Search(make([]float32, 3), 0, 1)
	for name, c := range map[string]struct {
		err      error
		expected Error
	}{
		"corrupt index": {inspect(index), Error{
			Code: 200, Path: header, Field: "length", Found: "7 bytes",
		}},
		"missing directory": {inspect(none), Error{Code: 300, Path: none}},
		"pickle": {stream(ExtractRequest{IndexDir: good.segment, MetadataPath: pickle}), Error{
			Code: 201, Path: pickle, Offset: pointer(uint64(2)),
		}},
		"rejected by the library": {stream(ExtractRequest{IndexDir: good.segment, BatchSize: -1}), Error{
			Code: 101, Field: "batch_size", Found: "-1",
		}},
		"rejected before the call": {inspect("\xff"), Error{Code: 101, Field: "index_dir", Found: `"\xff"`, Expected: "UTF-8"}},
		"k":                        {tooFew, Error{Code: 101, Field: "k", Found: "0", Expected: "at least 1"}},
	} {
		var found *Error
		if !errors.As(c.err, &found) {
			t.Errorf("%s: found %v", name, c.err)
			continue
		}
		parts := *found
		parts.Op, parts.Message, parts.cause = "", "", nil
		if c.expected.Expected == "" && found.Expected != "" {
			// In the library's words.
			c.expected.Expected = found.Expected
			if !strings.HasSuffix(found.Message, ": found "+found.Found+", expected "+found.Expected) {
				t.Errorf("%s: the parts %q and %q are not those of %q", name, found.Found, found.Expected, found.Message)
			}
		}
		if c.expected.Code == 201 {
			c.expected.Found = found.Found
		}
		if !reflect.DeepEqual(parts, c.expected) {
			t.Errorf("%s: found %+v, expected %+v", name, parts, c.expected)
		}
		if found.Code != 300 && (found.Found == "" || found.Expected == "") {
			t.Errorf("%s: found %q, expected %q", name, found.Found, found.Expected)
		}
	}
}

func TestTheTextAndThePartsOfAnErrorAgree(t *testing.T) {
	lib, err := current.acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer lib.release()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	request := append([]byte(`{"index_dir": "/no\u0000where\n"}`), 0)
	if lib.inspect(&request[0]) != nil {
		t.Fatal("the path was taken")
	}
	parts := lib.failure("inspect")
	if parts.Code != int(lib.lastErrorCode()) {
		t.Errorf("found %d, expected %d", parts.Code, lib.lastErrorCode())
	}
	if text := goString(lib.lastError()); text != fmt.Sprintf("[E%d] %s", parts.Code, parts.Message) {
		t.Errorf("found %q, expected %q", parts.Message, text)
	}
}

func TestConcurrentCallsGiveTheRightFilesAndTheirOwnErrors(t *testing.T) {
	f := loadFixture(t, "0.6.3/churn")
	input := extracted(t, f, OutputFormatParquet)
	directory := t.TempDir()
	extract := func(name string) error {
		_, err := ExtractIndex(ExtractRequest{IndexDir: f.segment, OutputPath: filepath.Join(directory, name)})
		return err
	}
	build := func(name string) error {
		_, err := BuildIndex(BuildRequest{
			InputPath: input, OutputPath: filepath.Join(directory, name), Seed: pointer(uint64(42)), EfConstruction: 40,
		})
		return err
	}
	if err := errors.Join(extract("alone.parquet"), build("alone.hnsw")); err != nil {
		t.Fatal(err)
	}
	parquet := string(mustRead(t, filepath.Join(directory, "alone.parquet")))
	hnsw := string(mustRead(t, filepath.Join(directory, "alone.hnsw")))

	var running sync.WaitGroup
	for worker := range 8 {
		running.Add(1)
		go func() {
			defer running.Done()
			for round := range 4 {
				name := fmt.Sprintf("worker-%d-%d", worker, round)
				call, expected := extract, parquet
				if (worker+round)%2 == 0 {
					call, expected = build, hnsw
				}
				if err := call(name); err != nil {
					t.Errorf("%s: %v", name, err)
				} else if string(mustRead(t, filepath.Join(directory, name))) != expected {
					t.Errorf("%s: not the file that a call alone writes", name)
				}
				missing := filepath.Join(directory, "missing", name)
				_, err := ExtractIndex(ExtractRequest{IndexDir: missing, OutputPath: filepath.Join(directory, "out")})
				if !errors.Is(err, ErrIO) || !strings.Contains(err.Error(), missing) {
					t.Errorf("%s: found the error %v", name, err)
				}
				_, err = BuildIndex(BuildRequest{InputPath: input, OutputPath: name, Metric: DistanceMetric(name)})
				if !errors.Is(err, ErrInvalidRequest) || !strings.Contains(err.Error(), name) {
					t.Errorf("%s: found the error %v", name, err)
				}
			}
		}()
	}
	running.Wait()
}

// longCalls are an extraction that takes minutes and a build that takes seconds unless stopped.
func longCalls(t *testing.T, directory string) map[string]func(context.Context, ...Option) error {
	index := endlessIndex(t)
	input := filepath.Join(t.TempDir(), "input.parquet")
	if _, err := ExtractIndex(ExtractRequest{IndexDir: largeIndex(t, 100_000, 64), OutputPath: input}); err != nil {
		t.Fatal(err)
	}
	return map[string]func(context.Context, ...Option) error{
		"extract": func(ctx context.Context, opts ...Option) error {
			_, err := ExtractIndexContext(ctx, ExtractRequest{
				IndexDir: index, OutputPath: filepath.Join(directory, "out"), BatchSize: 1, Compression: CompressionZstd,
			}, opts...)
			return err
		},
		"build": func(ctx context.Context, opts ...Option) error {
			_, err := BuildIndexContext(ctx, BuildRequest{
				InputPath: input, OutputPath: filepath.Join(directory, "out"), M: 16, EfConstruction: 400,
			}, opts...)
			return err
		},
	}
}

// On a busy machine, a thread can wait longer for a processor than a call is allowed to take to
// stop. The minimum of several times is therefore compared: a call that checks too seldom is late
// each time.
func TestCancelledContextStopsACallWithin200MillisecondsAndLeavesNoFile(t *testing.T) {
	const limit, attempts = 200 * time.Millisecond, 10
	directory := t.TempDir()
	for name, call := range longCalls(t, directory) {
		for _, after := range []time.Duration{0, 50 * time.Millisecond, 400 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s/%v", name, after), func(t *testing.T) {
				least := time.Hour
				for range attempts {
					ctx, cancel := context.WithCancel(context.Background())
					var cancelled time.Time
					time.AfterFunc(after, func() {
						cancelled = time.Now()
						cancel()
					})
					err := call(ctx)
					least = min(least, time.Since(cancelled))
					if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrCancelled) {
						t.Fatalf("found %v, expected a cancelled context", err)
					}
					assertFiles(t, directory)
					if least <= limit {
						return
					}
				}
				t.Errorf("the call returned %v or more after it was cancelled", least)
			})
		}
	}
}

func TestDeadlineStopsACallWithTheContextsError(t *testing.T) {
	directory := t.TempDir()
	for name, call := range longCalls(t, directory) {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		err := call(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrCancelled) {
			t.Errorf("%s: found %v, expected an exceeded deadline", name, err)
		}
		assertFiles(t, directory)
	}
}

func TestCancellationLeavesAnEarlierOutputAsItWas(t *testing.T) {
	directory := t.TempDir()
	output := filepath.Join(directory, "out")
	for name, call := range longCalls(t, directory) {
		if err := os.WriteFile(output, []byte("earlier"), 0o644); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		err := call(ctx)
		cancel()
		if !errors.Is(err, ErrCancelled) || string(mustRead(t, output)) != "earlier" {
			t.Errorf("%s: the earlier output is gone (%v)", name, err)
		}
		assertFiles(t, directory, "out")
	}
}

func TestProgressIsReportedWhileACallRunsAndWhenItHasSucceeded(t *testing.T) {
	directory := t.TempDir()
	index := largeIndex(t, 50_000, 16)
	interval := progressInterval
	progressInterval = time.Millisecond
	t.Cleanup(func() { progressInterval = interval })
	var reports []Progress
	_, err := ExtractIndexContext(context.Background(), ExtractRequest{
		IndexDir: index, OutputPath: filepath.Join(directory, "out"), BatchSize: 4, Compression: CompressionZstd,
	}, WithProgress(func(p Progress) { reports = append(reports, p) }))
	if err != nil {
		t.Fatal(err)
	}
	if len(reports) < 2 {
		t.Fatalf("found %d reports", len(reports))
	}
	for i, p := range reports {
		if p.Done > p.Total || i > 0 && p.Done < reports[i-1].Done {
			t.Errorf("report %d: found %+v after %+v", i, p, reports[max(i-1, 0)])
		}
	}
	if last := reports[len(reports)-1]; last.Done != last.Total || last.Total < 50_000 {
		t.Errorf("the last report is %+v", last)
	}
}

func TestProgressOfACancelledBuildMovesBeforeItStops(t *testing.T) {
	directory := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var last Progress
	err := longCalls(t, directory)["build"](ctx, WithProgress(func(p Progress) {
		if last = p; p.Done > 0 {
			cancel()
		}
	}))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("found %v", err)
	}
	if last.Done == 0 || last.Done >= last.Total {
		t.Errorf("the last report is %+v", last)
	}
}

func TestSalvageTakesTheWholeRecordsOfATornIndex(t *testing.T) {
	f := loadFixture(t, "0.6.3/churn")
	torn := t.TempDir()
	header := mustRead(t, filepath.Join(f.segment, "header.bin"))
	data := mustRead(t, filepath.Join(f.segment, "data_level0.bin"))
	pickle := mustRead(t, filepath.Join(f.segment, "index_metadata.pickle"))
	for name, content := range map[string][]byte{
		"header.bin":            header,
		"data_level0.bin":       data[:len(data)/2],
		"index_metadata.pickle": pickle,
	} {
		if err := os.WriteFile(filepath.Join(torn, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	request := ExtractRequest{
		IndexDir:     torn,
		OutputPath:   filepath.Join(t.TempDir(), "out"),
		MetadataPath: filepath.Join(torn, "index_metadata.pickle"),
	}
	if _, err := ExtractIndex(request); !errors.Is(err, ErrCorruptIndex) {
		t.Fatalf("without salvage: found %v", err)
	}
	request.Salvage = true
	resp, err := ExtractIndex(request)
	if err != nil {
		t.Fatal(err)
	}
	salvage, metadata := resp.Summary.Salvage, resp.Summary.Metadata
	if salvage == nil || metadata == nil {
		t.Fatalf("found %+v", resp.Summary)
	}
	if salvage.CountedRecords == nil || *salvage.CountedRecords != f.truth.Header.CurElementCount {
		t.Errorf("counted: found %v", salvage.CountedRecords)
	}
	emitted := resp.Summary.Emitted
	if emitted == 0 || emitted >= f.truth.LiveRecords || emitted > salvage.WholeRecords {
		t.Errorf("emitted %d of %d whole records", emitted, salvage.WholeRecords)
	}
	if metadata.RowsWithUserID != emitted || metadata.LabelsWithoutRecord != f.truth.LiveRecords-emitted {
		t.Errorf("found %+v for %d rows", *metadata, emitted)
	}
}

func TestRepairGivesADirectoryWithTheSameRecords(t *testing.T) {
	f := loadFixture(t, "0.6.3/churn")
	output := filepath.Join(t.TempDir(), "new")
	var last Progress
	resp, err := RepairIndexContext(context.Background(), RepairRequest{
		IndexDir: f.segment, OutputPath: output, Links: LinksBuild, Metric: SpaceL2,
	}, WithProgress(func(p Progress) { last = p }))
	if err != nil {
		t.Fatal(err)
	}
	summary := resp.Summary
	if resp.OutputPath != output || *summary.StateBefore != "healthy" || summary.Links != LinksBuild {
		t.Errorf("found %+v", resp)
	}
	if summary.Metric == nil || *summary.Metric != SpaceL2 || summary.MetricSource != "option" {
		t.Errorf("found metric %v from %s", summary.Metric, summary.MetricSource)
	}
	if summary.Records != f.truth.LiveRecords || len(summary.Steps) == 0 {
		t.Errorf("found %+v", summary)
	}
	if last.Total == 0 || last.Done != last.Total {
		t.Errorf("the last report is %+v", last)
	}
	extracted, err := ExtractIndex(ExtractRequest{IndexDir: output, OutputPath: output + ".parquet"})
	if err != nil {
		t.Fatal(err)
	}
	if extracted.Summary.Emitted != f.truth.LiveRecords || extracted.Summary.DeletedSkipped != 0 {
		t.Errorf("found %+v", extracted.Summary)
	}

	if _, err := RepairIndex(RepairRequest{IndexDir: f.segment, OutputPath: output}); !errors.Is(err, ErrIO) {
		t.Errorf("over an existing directory: found %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	other := filepath.Join(t.TempDir(), "other")
	_, err = RepairIndexContext(ctx, RepairRequest{IndexDir: f.segment, OutputPath: other})
	if !errors.Is(err, ErrCancelled) {
		t.Errorf("cancelled: found %v", err)
	}
	if _, err := os.Stat(other); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("cancelled: found %v", err)
	}
}
