#!/bin/sh
# Compiles the C programs beside this script and runs them against the library in a directory:
#
#     ffi/c/check.sh LIBRARY_DIR [valgrind]
#
# With "valgrind", an error or a leak that it finds is also a failure.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
libraries=$(cd "$1" && pwd)
root=$(cd "$here/../.." && pwd)
index=$root/tests/fixtures/chroma/1.5.9/churn/segment
case $(uname -s) in
Darwin) library=$libraries/libhnsw_toolbox.dylib ;;
*) library=$libraries/libhnsw_toolbox.so ;;
esac

# Without "possible": the standard library keeps a handle of each calling thread as an interior pointer.
run=
if [ "${2-}" = valgrind ]; then
    run="valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-std=c11 -g -Wall -Wextra -Werror -pedantic -I $root/ffi/include"
cc=${CC:-cc}

# The header is self-contained.
echo '#include "hnsw_toolbox.h"' >"$work/alone.c"
$cc $flags -fsyntax-only "$work/alone.c"

$cc $flags -o "$work/example" "$here/example.c" -L "$libraries" -lhnsw_toolbox "-Wl,-rpath,$libraries"
$cc $flags -o "$work/collections" "$here/collections.c" -L "$libraries" -lhnsw_toolbox "-Wl,-rpath,$libraries"
$cc $flags -o "$work/stream" "$here/stream.c" -L "$libraries" -lhnsw_toolbox "-Wl,-rpath,$libraries"
$cc $flags -o "$work/hostile" "$here/hostile.c" -ldl -lpthread

mkdir "$work/example.out" "$work/collections.out" "$work/hostile.out"
$run "$work/example" "$index" "$work/example.out" >"$work/printed"
for expected in '"state":"healthy"' '"emitted":960' '"inserted":960' '960 of 960'; do
    grep -q "$expected" "$work/printed" || {
        cat "$work/printed" >&2
        echo "the example did not print $expected" >&2
        exit 1
    }
done
[ "$(head -c 4 "$work/example.out/vectors.parquet")" = PAR1 ]
[ "$(head -c 7 "$work/example.out/vectors.hnsw")" = HNSWNDX ]

$run "$work/hostile" "$library" "$index" "$work/hostile.out"
[ "$(ls "$work/hostile.out" | wc -l)" -eq 8 ]
[ ! -e "$work/hostile.out/never" ]

tar -xzf "$root/tests/fixtures/persist/1.5.9.tar.gz" -C "$work"
$run "$work/collections" "$work/persist" "$work/collections.out" >"$work/printed"
for expected in '"name":"schema_cosine"' '"rows":4917' '4917 of 4917' '"records":4917,"left_out":0' '"skipped":4917'; do
    grep -q "$expected" "$work/printed" || {
        cat "$work/printed" >&2
        echo "the collections did not print $expected" >&2
        exit 1
    }
done
[ "$(ls "$work/collections.out/all" | wc -l)" -eq 13 ]
[ "$(ls "$work/collections.out" | xargs)" = 'all imported repaired' ]

$run "$work/stream" "$index" "$work/persist" wal_purged >"$work/printed"
for expected in '^960 rows of the index' '^2400 rows of the collection'; do
    grep -q "$expected" "$work/printed" || {
        cat "$work/printed" >&2
        echo "the stream did not print $expected" >&2
        exit 1
    }
done
