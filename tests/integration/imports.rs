//! Imports of the library run one way: see "The house" in `docs/design.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::REPOSITORY;

/// The rooms that each room may import. `error.rs` is on the floor of `base`, whose parts use it.
const ALLOWED: [(&str, &[&str]); 8] = [
    ("base", &["error"]),
    ("error", &["base"]),
    ("io", &["base", "error"]),
    ("segment", &["base", "error", "io"]),
    ("columnar", &["base", "error", "io"]),
    ("graph", &["base", "error", "io"]),
    ("store", &["base", "error", "io", "segment"]),
    (
        "verbs",
        &[
            "base", "error", "io", "segment", "columnar", "graph", "store",
        ],
    ),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules from the root to a file: `src/io/file.rs` is `io::file`.
fn module(file: &Path) -> Vec<String> {
    let mut parts: Vec<_> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_string())
        .collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Tests may import anything: they stand on the roof.
fn is_test(module: &[String]) -> bool {
    let of_tests = |part: &String| part == "tests" || part.ends_with("_tests");
    module.iter().any(of_tests)
}

/// A line without its comment and without text in quotes.
fn code(line: &str) -> String {
    let line = line.split("//").next().unwrap_or_default();
    line.split('"').step_by(2).collect()
}

/// The names that follow a prefix such as `crate::`, those in braces included.
fn names_after(prefix: &str, text: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        // Not the end of a longer path or name.
        if text[..at].ends_with(|c: char| is_name(c) || c == ':' || c == '$') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => names.extend(rest.split(|c| !is_name(c)).next().map(str::to_string)),
            Some(group) => {
                let (mut depth, mut name) = (1, String::new());
                let mut is_first = true;
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    let ends_item = depth == 0 || depth == 1 && c == ',';
                    if ends_item {
                        names.push(std::mem::take(&mut name));
                        is_first = true;
                    } else if !is_name(c) && !name.is_empty() {
                        is_first = false;
                    } else if is_first && is_name(c) {
                        name.push(c);
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Each name at the root of the crate that a file outside tests imports.
fn imports(source: &str, module: &[String]) -> BTreeSet<String> {
    let mut lines = Vec::new();
    let mut is_in_tests = false;
    for line in source.lines() {
        is_in_tests = match line {
            "mod tests {" => true,
            "}" => false,
            _ => is_in_tests,
        };
        if !is_in_tests {
            lines.push(code(line));
        }
    }
    let text = lines.join(" ");
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.replace("{ ", "{");
    let mut found: BTreeSet<String> = names_after("crate::", &text).into_iter().collect();
    // One `super::` for each module leads to the root.
    found.extend(names_after(&"super::".repeat(module.len()), &text));
    found
}

fn library_imports() -> BTreeMap<String, BTreeMap<String, String>> {
    let root = Path::new(REPOSITORY).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut rooms: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for file in files {
        let module = module(file.strip_prefix(&root).unwrap());
        // Properties for the fuzz targets use the library from above, as the front ends do.
        if module == ["lib"] || module[0] == "fuzzing" || is_test(&module) {
            continue;
        }
        let source = std::fs::read_to_string(&file).unwrap();
        let room = rooms.entry(module[0].clone()).or_default();
        for name in imports(&source, &module) {
            if name != module[0] {
                room.insert(name, file.display().to_string());
            }
        }
    }
    rooms
}

#[test]
fn rooms_import_only_what_the_design_allows() {
    let rooms = library_imports();
    let known: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let mut wrong = Vec::new();
    for (room, imports) in &rooms {
        let Some(allowed) = known.get(room.as_str()) else {
            panic!("{room} is not in the list");
        };
        for (name, file) in imports {
            if !allowed.contains(&name.as_str()) {
                wrong.push(format!("{file}: {room} imports {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The scan finds the imports there are.
    for (room, import) in [("verbs", "store"), ("store", "segment"), ("segment", "io")] {
        assert!(rooms[room].contains_key(import), "{room} imports {import}");
    }
}

#[test]
fn no_two_rooms_import_each_other() {
    let known: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    for (room, allowed) in &known {
        for import in *allowed {
            let is_mutual = known[import].contains(room);
            let is_floor = ["base", "error"].contains(room) && ["base", "error"].contains(import);
            assert!(!is_mutual || is_floor, "{room} and {import}");
        }
    }
}

#[test]
fn every_form_of_import_is_found() {
    let module = ["graph".to_string(), "native".to_string()];
    let source = "
use crate::io::file;
use crate::{error::{Error, Result}, Monitor};
use super::super::store::Database;
use super::links;
fn f() { crate::segment::g(); $crate::ignored(); } // crate::comment
const TEXT: &str = \"crate::text\";
mod tests {
    use crate::verbs;
}
pub(crate) use self::inner as crate_;
";
    let found = imports(source, &module);
    let expected = ["Monitor", "error", "io", "segment", "store"];
    assert_eq!(found, expected.map(str::to_string).into());
}
