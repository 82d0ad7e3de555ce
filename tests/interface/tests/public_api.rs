//! Checks that the committed list of the public API matches the source: `make api`.
//!
//! The list is derived from rustdoc's JSON, whose format changes with the compiler. A new compiler
//! can need another version of the package public-api; the error then says so.

use std::path::Path;

/// With `UPDATE_API=1`, writes the list instead.
#[test]
fn committed_public_api_is_the_one_of_the_source() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let json = root.join("target/doc/hnsw_toolbox.json");
    let found = public_api::Builder::from_rustdoc_json(&json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .unwrap_or_else(|error| panic!("{}: {error}", json.display()));
    let found = found.to_string();

    let path = root.join("docs/public-api.txt");
    if std::env::var_os("UPDATE_API").is_some_and(|value| value == "1") {
        std::fs::write(&path, &found).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let (before, now): (Vec<_>, Vec<_>) = (committed.lines().collect(), found.lines().collect());
    let gone = before.iter().filter(|line| !now.contains(line));
    let new = now.iter().filter(|line| !before.contains(line));
    let changes = gone.map(|line| format!("-{line}\n"));
    let changes: String = changes
        .chain(new.map(|line| format!("+{line}\n")))
        .collect();
    assert!(
        changes.is_empty(),
        "the public API is not that of {}. If that is meant: make api UPDATE=1\n{changes}",
        path.display()
    );
}
