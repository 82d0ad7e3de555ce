//! Tells the linker two things about the library: the name under which programs look for it, and
//! that it stays mapped once it is loaded, so that `dlclose` cannot pull code or thread-local data
//! from under a thread that still uses it.
//!
//! The name (SONAME on ELF, install name on macOS) carries the version of the ABI, not that of the
//! crate: `libhnsw_toolbox.so.1` as long as `HNSW_TOOLBOX_ABI_VERSION` is 1. A program that was
//! linked against one release therefore runs with every later one of the same ABI.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/abi.rs");
    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let abi = abi_version()?;
    match os.as_str() {
        // Android unpacks lib*.so only, so its libraries have no version.
        "android" => println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete"),
        "linux" | "freebsd" | "netbsd" | "openbsd" | "dragonfly" => {
            let name = format!("libhnsw_toolbox.so.{abi}");
            println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{name}");
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
            link_to_library("libhnsw_toolbox.so", &name);
        }
        // Mach-O has no such flag as nodelete, and needs none: dyld never unloads an image with
        // thread-local variables.
        "macos" => {
            let name = format!("libhnsw_toolbox.{abi}.dylib");
            println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/{name}");
            link_to_library("libhnsw_toolbox.dylib", &name);
        }
        // On Windows a DLL has no version in its name, the Go binding pins the module, and C
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

/// Leaves a symbolic link with the versioned name next to the library. Cargo knows the plain name
/// only, and without the link a program that is linked against `target/release` would not start.
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

/// Windows lets administrators only make links; they are of use on Unix only.
#[cfg(not(unix))]
fn symlink(_library: &str, _link: &Path) -> io::Result<()> {
    Ok(())
}
