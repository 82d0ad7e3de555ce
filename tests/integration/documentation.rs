//! Tests of the documentation: its commands are run, and its examples must be excerpts of programs
//! that are compiled and run elsewhere. (Rust blocks are doc tests of `src/lib.rs`.)

use std::path::Path;
use std::process::Command;

use crate::support::persist::{empty_database_of, PersistFixture};
use crate::support::{BINARY, REPOSITORY};

/// The fixture that the documentation calls `chroma`, and its collection.
const FIXTURE: &str = "1.5.9";
const COLLECTION: &str = "articles";

fn read(path: &str) -> String {
    let text = std::fs::read_to_string(Path::new(REPOSITORY).join(path)).unwrap();
    text.replace("\r\n", "\n")
}

/// The lines of a language's code blocks, without trailing comments.
fn blocks(text: &str, language: &str) -> Vec<Vec<String>> {
    let mut blocks = Vec::new();
    let mut block: Option<Vec<String>> = None;
    for line in text.lines() {
        let line = line.trim();
        match &mut block {
            Some(_) if line == "```" => blocks.extend(block.take()),
            Some(lines) => lines.push(line.to_string()),
            None if line == format!("```{language}") => block = Some(Vec::new()),
            None => {}
        }
    }
    assert!(block.is_none(), "a block without an end");
    blocks
}

/// Moves the fixture into a new directory, under the name that the documentation uses.
fn directory_with(fixture: &PersistFixture) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::rename(fixture.dir(), directory.path().join("chroma")).unwrap();
    directory
}

/// Runs the commands of a page in a directory that contains the files they name.
fn run_commands(page: &str) {
    let fixture = PersistFixture::unpack(FIXTURE);
    let directory = directory_with(&fixture);
    let at = |name: &str| directory.path().join(name);
    let segment = fixture.segment(COLLECTION);
    let segment = segment.file_name().unwrap().to_str().unwrap();
    let run = |line: &str| {
        let words = line.split_whitespace().map(|word| {
            word.replace("chroma/SEGMENT", &format!("chroma/{segment}"))
                .replace("INDEX_DIR", &format!("chroma/{segment}"))
                .replace("PERSIST_DIR", "chroma")
                .replace("tests/", &format!("{REPOSITORY}/tests/"))
        });
        // On Windows, a repair in place gives new names to the segments, which later lines use.
        let aside = line.contains("--in-place");
        let aside = aside.then(|| directory_with(&PersistFixture::unpack(FIXTURE)));
        let directory = aside.as_ref().unwrap_or(&directory);
        let mut command = Command::new(BINARY);
        command.args(words).current_dir(directory.path());
        if line.contains(&format!("--collection {COLLECTION}")) {
            // Other databases have collections of the same name.
            command.args(["--database", "default_database"]);
        }
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{page}: {line}\n{errors}");
    };
    for store in ["laptop-chroma", "server-chroma"] {
        std::fs::rename(PersistFixture::unpack(FIXTURE).dir(), at(store)).unwrap();
    }
    std::fs::create_dir(at("empty")).unwrap();
    std::fs::write(at("empty/chroma.sqlite3"), empty_database_of(FIXTURE)).unwrap();
    run("export chroma --collection l2_small -o papers.parquet");
    run("extract INDEX_DIR -o vectors.parquet");
    std::fs::copy(at("vectors.parquet"), at("queries.parquet")).unwrap();
    let mut commands = 0;
    for line in blocks(&read(page), "sh").into_iter().flatten() {
        let line = line.split(" #").next().unwrap().trim();
        let ours = ["hnsw-toolbox ", "cargo run -- "];
        match ours.iter().find_map(|prefix| line.strip_prefix(prefix)) {
            Some(arguments) => run(arguments),
            None => assert!(["", "make test"].contains(&line), "{page}: {line}"),
        }
        commands += 1;
    }
    assert!(commands > 3, "{page}: {commands} commands");
}

#[test]
fn commands_of_the_front_page_work() {
    run_commands("README.md");
}

#[test]
fn commands_of_the_reference_work() {
    run_commands("docs/cli.md");
}

#[test]
fn commands_of_the_rescue_guide_work() {
    run_commands("docs/rescue.md");
}

#[test]
fn examples_in_other_languages_are_excerpts_of_tested_programs() {
    let readme = read("README.md");
    for (language, program) in [
        ("go", "go/example_test.go"),
        ("c", "ffi/c/example.c"),
        ("python", "examples/stream.py"),
    ] {
        let program_text = read(program);
        let lines: Vec<_> = program_text.lines().map(str::trim).collect();
        let blocks = blocks(&readme, language);
        assert!(!blocks.is_empty(), "{language}");
        for block in blocks {
            let found = lines.windows(block.len()).any(|window| *window == block);
            assert!(found, "{program} has not:\n{}", block.join("\n"));
        }
    }
}

#[test]
fn links_lead_to_files() {
    for page in [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "go/README.md",
        "docs/BENCHMARKS.md",
        "docs/cli.md",
        "docs/design.md",
        "docs/format.md",
        "docs/glossary.md",
        "docs/passes.md",
        "docs/rescue.md",
        "docs/scale.md",
    ] {
        let text = read(page);
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            let file = link.split('#').next().unwrap();
            if file.is_empty() || link.contains("://") {
                continue;
            }
            let target = Path::new(REPOSITORY)
                .join(page)
                .parent()
                .unwrap()
                .join(file);
            assert!(target.exists(), "{page}: {link}");
        }
    }
}
