//! Passes two options to the linker: the name under which programs look up the library, and that it
//! stays mapped once loaded. `dlclose` then cannot remove code or thread-local data while a thread
//! still uses it.
//!
//! The name (SONAME on ELF, install name on macOS) carries the ABI version, not the crate's:
//! `libhnsw_toolbox.so.1` as long as `HNSW_TOOLBOX_ABI_VERSION` is 1. A program linked against one
//! release therefore runs with every later one of the same ABI.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/abi.rs");
    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let abi = abi_version()?;
    match os.as_str() {
        // Android unpacks only lib*.so, so its libraries have no version.
        "android" => println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete"),
        "linux" | "freebsd" | "netbsd" | "openbsd" | "dragonfly" => {
            let name = format!("libhnsw_toolbox.so.{abi}");
            println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{name}");
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
            link_to_library("libhnsw_toolbox.so", &name);
        }
        // Mach-O has no nodelete flag and needs none: dyld never unloads an image with thread-local
        // variables.
        "macos" => {
            let name = format!("libhnsw_toolbox.{abi}.dylib");
            println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/{name}");
            link_to_library("libhnsw_toolbox.dylib", &name);
        }
        // A DLL on Windows has no version in its name. The Go binding pins the module, and C
        // callers do not call FreeLibrary.
        _ => {}
    }
    Ok(())
}

fn abi_version() -> io::Result<u32> {
    let source = fs::read_to_string("src/abi.rs")?;
    source
        .lines()
        .find_map(|line| {
            let value = line.strip_prefix("pub const HNSW_TOOLBOX_ABI_VERSION: u32 = ")?;
            value.strip_suffix(';')?.parse().ok()
        })
        .ok_or_else(|| io::Error::other("src/abi.rs: HNSW_TOOLBOX_ABI_VERSION is missing"))
}

/// Creates a symbolic link with the versioned name next to the library. Cargo knows only the plain
/// name. Without the link, a program linked against `target/release` would not start.
fn link_to_library(library: &str, name: &str) {
    // OUT_DIR is <profile directory>/build/<package>/out.
    let out = env::var_os("OUT_DIR").unwrap_or_default();
    let Some(directory) = Path::new(&out).ancestors().nth(3) else {
        return;
    };
    let link = directory.join(name);
    if fs::read_link(&link).is_ok_and(|target| target == Path::new(library)) {
        return;
    }
    if let Err(error) = symlink(library, &link) {
        println!("cargo:warning={}: {error}", link.display());
    }
}

#[cfg(unix)]
fn symlink(library: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(library, link)
}

/// Windows lets only administrators create links, and only Unix needs them.
#[cfg(not(unix))]
fn symlink(_library: &str, _link: &Path) -> io::Result<()> {
    Ok(())
}
