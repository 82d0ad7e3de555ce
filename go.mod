module github.com/amikos-tech/hnsw-toolbox

// purego demands it.
go 1.25.0

require github.com/ebitengine/purego v0.11.3

// Build directories hold Go files of others, such as those in Python wheels.
ignore target
