package hnswtoolbox_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	hnswtoolbox "github.com/amikos-tech/hnsw-toolbox/go"
)

// A real Chroma directory of this repository.
const segment = "../tests/fixtures/chroma/1.5.9/churn/segment"

func Example() {
	if err := hnswtoolbox.Init(""); err != nil { // the path in HNSW_TOOLBOX_LIB
		log.Fatal(err)
	}
	directory, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(directory)

	extracted, err := hnswtoolbox.ExtractIndex(hnswtoolbox.ExtractRequest{
		IndexDir:     segment,
		OutputPath:   filepath.Join(directory, "vectors.parquet"),
		OutputFormat: hnswtoolbox.OutputFormatParquet,
		MetadataPath: filepath.Join(segment, "index_metadata.pickle"),
	})
	if err != nil {
		log.Fatal(err)
	}
	summary := extracted.Summary
	fmt.Printf("%d of %d records, ef_construction %d\n",
		summary.Emitted, summary.Scanned, summary.IndexProperties.EfConstruction)

	seed := uint64(42)
	built, err := hnswtoolbox.BuildIndex(hnswtoolbox.BuildRequest{
		InputPath:  extracted.OutputPath,
		OutputPath: filepath.Join(directory, "vectors.hnsw"),
		Metric:     hnswtoolbox.DistanceMetricSquaredEuclidean,
		Seed:       &seed,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d vectors of dimension %d, %s\n", built.Summary.Inserted, built.Summary.Dimension, built.Metric)

	index, err := hnswtoolbox.OpenIndex(built.OutputPath)
	if err != nil {
		log.Fatal(err)
	}
	defer index.Close()
	neighbours, err := index.Search(make([]float32, index.Dimension()), 3, 50)
	if err != nil {
		log.Fatal(err)
	}
	nearest := neighbours[0]
	fmt.Printf("%d neighbours of the origin, the nearest at a distance below 1: %t\n",
		len(neighbours), nearest.Distance < 1)
	// Output:
	// 960 of 1140 records, ef_construction 100
	// 960 vectors of dimension 5, squared_euclidean
	// 3 neighbours of the origin, the nearest at a distance below 1: true
}

func ExampleRecords() {
	req := hnswtoolbox.ExtractRequest{
		IndexDir:     segment,
		MetadataPath: filepath.Join(segment, "index_metadata.pickle"),
	}
	count := 0
	for record, err := range hnswtoolbox.Records(context.Background(), req) {
		if err != nil {
			log.Fatal(err)
		}
		if record.UserID != nil && len(record.Vector) == 5 {
			count++
		}
	}
	fmt.Println(count, "records with an id")
	// Output:
	// 960 records with an id
}

func ExampleError() {
	_, err := hnswtoolbox.ExtractIndex(hnswtoolbox.ExtractRequest{
		IndexDir: segment, OutputPath: "out.csv", OutputFormat: "csv",
	})
	var failure *hnswtoolbox.Error
	if errors.Is(err, hnswtoolbox.ErrInvalidRequest) && errors.As(err, &failure) {
		fmt.Println(failure.Code, failure.Message)
	}
	// Output:
	// 101 output_format: found "csv", expected parquet or arrow_ipc
}

func ExampleExtractIndexContext() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	directory, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(directory)

	var last hnswtoolbox.Progress
	_, err = hnswtoolbox.ExtractIndexContext(ctx, hnswtoolbox.ExtractRequest{
		IndexDir:   segment,
		OutputPath: filepath.Join(directory, "vectors.parquet"),
	}, hnswtoolbox.WithProgress(func(p hnswtoolbox.Progress) { last = p }))
	if errors.Is(err, context.DeadlineExceeded) {
		fmt.Println("it took more than a minute")
	}
	fmt.Printf("%d of %d\n", last.Done, last.Total)
	// Output:
	// 1140 of 1140
}

func ExampleBuildIndexContext() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := hnswtoolbox.BuildIndexContext(ctx, hnswtoolbox.BuildRequest{
		InputPath: "vectors.parquet", OutputPath: "vectors.hnsw",
	})
	fmt.Println(errors.Is(err, context.Canceled), errors.Is(err, hnswtoolbox.ErrCancelled))
	// Output:
	// true true
}
