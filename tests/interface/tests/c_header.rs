//! Checks that the committed header equals the generated one: `make header`.

use std::path::Path;

/// With `UPDATE_HEADER=1`, writes the header instead.
#[test]
fn committed_header_is_the_generated_one() {
    let crate_dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../ffi"));
    let config = cbindgen::Config::from_file(crate_dir.join("cbindgen.toml")).unwrap();
    let mut generated = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_src(crate_dir.join("src/abi.rs"))
        .generate()
        .expect("src/abi.rs is understood by cbindgen")
        .write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();

    let path = crate_dir.join("include/hnsw_toolbox.h");
    if std::env::var_os("UPDATE_HEADER").is_some_and(|value| value == "1") {
        std::fs::write(&path, &generated).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "{} is out of date: make header UPDATE=1",
        path.display()
    );
}
