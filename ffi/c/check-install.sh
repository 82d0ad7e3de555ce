#!/bin/sh
# Installs into a scratch directory, and checks that a C and a Go program find their files in it:
#
#     ffi/c/check-install.sh [release|debug]
set -eu

profile=${1:-release}
root=$(cd "$(dirname "$0")/../.." && pwd)
segment=$root/tests/fixtures/chroma/1.5.9/cosine/segment
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Runs a command and keeps its output for expect().
run() {
    "$@" >"$work/printed" 2>&1 || {
        cat "$work/printed" >&2
        fail "failed: $*"
    }
}

expect() {
    grep -qF -- "$1" "$work/printed" || {
        cat "$work/printed" >&2
        fail "not printed: $1"
    }
}

cd "$root"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
case $(uname -s) in
Darwin) suffixes=".1.$version.dylib .1.dylib .dylib" library_path=DYLD_LIBRARY_PATH ;;
*) suffixes=".so.1.$version .so.1 .so" library_path=LD_LIBRARY_PATH ;;
esac

# A package is staged with DESTDIR; its tree can then be moved.
make --no-print-directory install PROFILE="$profile" DESTDIR="$work/stage" PREFIX=/usr/local >/dev/null
prefix=$work/prefix
mv "$work/stage/usr/local" "$prefix"
[ -z "$(find "$work/stage" -type f)" ] || fail "installed outside of PREFIX: $(find "$work/stage" -type f)"
for suffix in $suffixes; do
    [ -f "$prefix/lib/libhnsw_toolbox$suffix" ] || fail "not installed: libhnsw_toolbox$suffix"
done
for file in include/hnsw_toolbox.h lib/pkgconfig/hnsw-toolbox.pc share/man/man1/hnsw-toolbox.1 \
    share/man/man1/hnsw-toolbox-extract.1 share/bash-completion/completions/hnsw-toolbox \
    share/fish/vendor_completions.d/hnsw-toolbox.fish share/zsh/site-functions/_hnsw-toolbox; do
    [ -s "$prefix/$file" ] || fail "not installed, or empty: $file"
done
[ "$("$prefix/bin/hnsw-toolbox" --version)" = "hnsw-toolbox $version" ]

# A C program, with the flags of pkg-config.
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
[ "$(pkg-config --modversion hnsw-toolbox)" = "$version" ]
# Unquoted on purpose: the flags are separate words.
# shellcheck disable=SC2046
${CC:-cc} -o "$work/example" ffi/c/example.c $(pkg-config --cflags --libs hnsw-toolbox)
mkdir "$work/out"
run env "$library_path=$prefix/lib" "$work/example" "$segment" "$work/out"
expect "hnsw-toolbox $version"
expect '"state":"healthy"'
expect 'distance'

# A Go program, which searches for the library in the order in go/locate.go.
unset HNSW_TOOLBOX_LIB XDG_DATA_HOME
cat >"$work/program.go" <<'GO'
package main

import (
	"fmt"
	"os"

	hnswtoolbox "github.com/amikos-tech/hnsw-toolbox"
)

func main() {
	if err := hnswtoolbox.Init(""); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	version, err := hnswtoolbox.Version()
	fmt.Println("loaded", version, err)
}
GO
mkdir "$work/bin" "$work/home"
CGO_ENABLED=0 ${GO:-go} build -o "$work/bin/program" "$work/program.go"
cp "$work/bin/program" "$prefix/bin/program"
home=$HOME
export HOME="$work/home"

if ! "$work/bin/program" >"$work/printed"; then
    expect 'library not found'
    expect 'HNSW_TOOLBOX_LIB'
    expect "$work/home"
else
    echo 'the library is also installed on this machine: the error of a program without it is not checked'
fi
run "$prefix/bin/program"
expect "loaded $version"
run env "$library_path=$prefix/lib" "$work/bin/program"
expect "loaded $version"
case $(uname -s) in
Darwin) data="$HOME/Library/Application Support/hnsw-toolbox" ;;
*) data="$HOME/.local/share/hnsw-toolbox" ;;
esac
HOME=$home make --no-print-directory install-lib PROFILE="$profile" PREFIX="$data" >/dev/null
run "$work/bin/program"
expect "loaded $version"

HOME=$home make --no-print-directory uninstall PREFIX="$prefix" >/dev/null
rm "$prefix/bin/program"
[ -z "$(find "$prefix" ! -type d)" ] || fail "not removed: $(find "$prefix" ! -type d)"
