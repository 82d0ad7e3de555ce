// A separate module keeps the fixtures (12 MB) out of the archive that `go get` downloads.
module github.com/amikos-tech/hnsw-toolbox/tests

go 1.25.0
