//! The dynamic library exports the functions of its header and nothing else.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

#[cfg(target_os = "linux")]
use object::{
    elf,
    read::elf::{Dyn, FileHeader},
    Endianness,
};
use object::{Object, ObjectSymbol};

/// Builds the library with the profile of this test. For a test, cargo does not build a library
/// that Rust code cannot link to. The whole workspace is built with this test, as `make build`
/// does, so that the dependencies keep the features of tests and are compiled only once.
fn library() -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    let profile = executable.ancestors().nth(2).unwrap();
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "--workspace", "--locked"])
        .args(["--lib", "--bins", "--test", "exports"])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(profile.parent().unwrap());
    let is_release = profile.ends_with("release");
    build.args(["--profile", if is_release { "release" } else { "test" }]);
    assert!(build.status().unwrap().success());
    profile.join(if cfg!(windows) {
        "hnsw_toolbox.dll"
    } else if cfg!(target_os = "macos") {
        "libhnsw_toolbox.dylib"
    } else {
        "libhnsw_toolbox.so"
    })
}

/// Functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/hnsw_toolbox.h");
    let header = std::fs::read_to_string(header).unwrap();
    // A declaration starts at the start of a line and has the name before the parenthesis; comments
    // are indented.
    header
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '#', '*']))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("hnsw_toolbox_"))
        .map(str::to_string)
        .collect()
}

#[test]
fn the_library_exports_exactly_what_its_header_declares() {
    let path = library();
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = object::File::parse(bytes.as_slice()).unwrap();
    let exported: BTreeSet<String> = match file.format() {
        // All global definitions, including weak ones and data.
        object::BinaryFormat::Elf => file
            .dynamic_symbols()
            .filter(|symbol| symbol.is_global() && symbol.is_definition())
            .map(|symbol| symbol.name().unwrap().to_string())
            .collect(),
        _ => file
            .exports()
            .unwrap()
            .into_iter()
            .map(|export| String::from_utf8_lossy(export.name()).into_owned())
            .map(|name| name.strip_prefix('_').unwrap_or(&name).to_string())
            .collect(),
    };
    let declared = declared();
    assert!(declared.len() >= 11, "{declared:?}");
    let missing: Vec<_> = declared.difference(&exported).collect();
    assert!(missing.is_empty(), "not exported: {missing:?}");
    // Other formats may export more: see `src/hidden.rs`.
    if file.format() == object::BinaryFormat::Elf {
        let foreign: Vec<_> = exported.difference(&declared).collect();
        assert!(foreign.is_empty(), "exported but not declared: {foreign:?}");
    }
}

/// Programs look up a library by its SONAME, which must state the ABI version.
#[cfg(target_os = "linux")]
#[test]
fn the_soname_is_the_abi_version_and_leads_to_the_library() {
    let path = library();
    let bytes = std::fs::read(&path).unwrap();
    let header = elf::FileHeader64::<Endianness>::parse(bytes.as_slice()).unwrap();
    let endian = header.endian().unwrap();
    let sections = header.sections(endian, bytes.as_slice()).unwrap();
    let (entries, strings) = sections.dynamic(endian, bytes.as_slice()).unwrap().unwrap();
    let strings = sections.strings(endian, bytes.as_slice(), strings).unwrap();
    let soname = entries
        .iter()
        .find(|entry| entry.tag32(endian) == Some(elf::DT_SONAME))
        .unwrap()
        .string(endian, strings)
        .unwrap();
    let soname = String::from_utf8_lossy(soname).into_owned();

    let c_header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/hnsw_toolbox.h");
    let c_header = std::fs::read_to_string(c_header).unwrap();
    let version = c_header
        .lines()
        .find_map(|line| line.strip_prefix("#define HNSW_TOOLBOX_ABI_VERSION "))
        .unwrap();
    assert_eq!(soname, format!("libhnsw_toolbox.so.{version}"));
    let link = path.with_file_name(soname);
    assert_eq!(
        link.canonicalize().unwrap(),
        path.canonicalize().unwrap(),
        "{}",
        link.display()
    );
}
