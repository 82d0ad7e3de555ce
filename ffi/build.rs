//! Keeps the library mapped for good once it is loaded, so that `dlclose` cannot pull code or
//! thread-local data from under a thread that still uses it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    // Mach-O has no such flag, and needs none: dyld never unloads an image with thread-local
    // variables. On Windows the Go binding pins the module; C callers do not call FreeLibrary.
    if matches!(
        os.as_str(),
        "linux" | "android" | "freebsd" | "netbsd" | "openbsd" | "dragonfly"
    ) {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
