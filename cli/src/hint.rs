//! Hints after an error that looks like a mix-up of Chroma's two kinds of directory and `.hnsw`
//! files.

use std::path::{Path, PathBuf};

use hnsw_toolbox::wire::{Shell, LABEL_COLUMNS};
use hnsw_toolbox::{is_hnsw, Error, ErrorKind};

use super::args::Command;

pub(super) const DATABASE: &str = "chroma.sqlite3";
const HEADER: &str = "header.bin";
const OLD_STORE: [&str; 2] = ["chroma-collections.parquet", "chroma-embeddings.parquet"];

/// The input of a command, and the kind of input that the command expects.
pub(super) struct Input {
    path: PathBuf,
    wanted: Wanted,
}

enum Wanted {
    /// A vector segment directory.
    Segment,
    /// A vector segment directory or a `.hnsw` file.
    SegmentOrGraph,
    /// A `.hnsw` file.
    Graph,
    /// A Parquet or Arrow IPC file.
    Columns,
    /// A persist directory.
    #[cfg(feature = "database")]
    Persist,
}

impl Input {
    /// Returns the input of a command, if it has one.
    pub(super) fn of(command: &Command) -> Option<Self> {
        let (path, wanted) = match command {
            Command::Extract(arguments) => (&arguments.index_dir, Wanted::Segment),
            Command::Build(arguments) => (&arguments.input, Wanted::Columns),
            Command::Inspect(arguments) => (&arguments.index, Wanted::SegmentOrGraph),
            Command::Verify(arguments) => (&arguments.index, Wanted::SegmentOrGraph),
            #[cfg(feature = "database")]
            Command::Collections(arguments) => (&arguments.persist_dir, Wanted::Persist),
            #[cfg(feature = "database")]
            Command::Export(arguments) => (&arguments.persist_dir, Wanted::Persist),
            #[cfg(feature = "database")]
            Command::Import(arguments) => (&arguments.into, Wanted::Persist),
            #[cfg(feature = "database")]
            Command::Repair(arguments)
                if arguments.collection.is_some() || is_persist_dir(&arguments.index_dir) =>
            {
                (&arguments.index_dir, Wanted::Persist)
            }
            Command::Repair(arguments) => (&arguments.index_dir, Wanted::Segment),
            Command::Search(arguments) => (&arguments.index, Wanted::Graph),
            Command::Recall(arguments) => (&arguments.index, Wanted::Graph),
            Command::Completions { .. } | Command::Man { .. } => return None,
        };
        let path = path.clone();
        Some(Self { path, wanted })
    }

    /// Returns a hint of one line for an error.
    pub(super) fn hint(&self, error: &Error) -> Option<String> {
        let path = &*self.path;
        let shown = quoted(path);
        if let Some(store) = self.old_store().map(quoted) {
            return Some(format!(
                "{store} is a store of Chroma 0.3; `hnsw-toolbox import {store} --into DIR -o \
                 NEW_DIR` adds it to a copy of a later Chroma's store"
            ));
        }
        match self.wanted {
            Wanted::Segment | Wanted::SegmentOrGraph if is_persist_dir(path) => {
                let hint = "shows the directory of each collection";
                // Without the feature there is no such command.
                cfg!(feature = "database")
                    .then(|| format!("`hnsw-toolbox collections {shown}` {hint}"))
            }
            Wanted::Segment if is_graph(path) => Some(format!(
                "{shown} is a .hnsw file; use inspect, verify, search or recall"
            )),
            Wanted::Segment | Wanted::SegmentOrGraph if path.is_file() => {
                let dir = parent(path).filter(|dir| is_segment(dir))?;
                Some(format!("give the directory of the index, {}", quoted(dir)))
            }
            Wanted::Segment => self.without_ids(error),
            Wanted::SegmentOrGraph => None,
            Wanted::Columns if is_about_labels(error) => Some(
                "--row-numbers takes the row numbers as labels, --label-column another column"
                    .into(),
            ),
            Wanted::Columns | Wanted::Graph => {
                let (what, command) = if is_segment(path) {
                    ("an index", format!("extract {shown}"))
                } else if is_persist_dir(path) && cfg!(feature = "database") {
                    ("a persist", format!("export {shown} --collection NAME"))
                } else {
                    return None;
                };
                let then = match self.wanted {
                    Wanted::Graph => ", then `hnsw-toolbox build vectors.parquet -o index.hnsw`",
                    _ => "",
                };
                Some(format!(
                    "{shown} is {what} directory of Chroma; to extract its vectors: \
                     `hnsw-toolbox {command} -o vectors.parquet`{then}"
                ))
            }
            #[cfg(feature = "database")]
            Wanted::Persist => {
                let persist = parent(path).filter(|dir| is_persist_dir(dir))?;
                Some(format!("the persist directory is {}", quoted(persist)))
            }
        }
    }

    /// Returns the store of Chroma 0.3 that is the input or has it as its index, if the command does
    /// not read those.
    fn old_store(&self) -> Option<&Path> {
        let reads_it = match self.wanted {
            #[cfg(feature = "database")]
            Wanted::Persist => true,
            _ => !cfg!(feature = "database"),
        };
        if reads_it {
            return None;
        }
        let mut candidates = [Some(&*self.path), parent(&self.path)]
            .into_iter()
            .flatten();
        candidates.find(|dir| OLD_STORE.iter().all(|name| dir.join(name).is_file()))
    }

    /// Returns the hint after a repair that found no ids.
    fn without_ids(&self, error: &Error) -> Option<String> {
        if error.kind() != ErrorKind::NoIds {
            return None;
        }
        match parent(&self.path).filter(|dir| is_persist_dir(dir)) {
            Some(persist) if cfg!(feature = "database") => {
                let persist = quoted(persist);
                Some(format!(
                    "`hnsw-toolbox repair {persist} --collection NAME -o NEW_DIR` takes the ids from \
                     the database; `hnsw-toolbox collections {persist}` shows the name"
                ))
            }
            _ => Some(format!(
                "`hnsw-toolbox extract {} --salvage -o vectors.parquet` saves the vectors",
                quoted(&self.path)
            )),
        }
    }
}

/// Returns true if a column of labels is invalid.
fn is_about_labels(error: &Error) -> bool {
    // An invalid value has the field `row N, column NAME`.
    let is_label = |field: &str| {
        let column = field.rsplit_once("column ").map(|(_, name)| name);
        column.is_some_and(|name| LABEL_COLUMNS.contains(&name))
    };
    error.kind() == ErrorKind::InvalidInput && error.field().is_some_and(is_label)
}

fn is_persist_dir(path: &Path) -> bool {
    path.join(DATABASE).is_file() && !is_segment(path)
}

fn is_segment(path: &Path) -> bool {
    path.join(HEADER).is_file()
}

fn is_graph(path: &Path) -> bool {
    // By content. An unreadable file gives no hint instead of a second error.
    path.is_file() && is_hnsw(path).unwrap_or(false)
}

/// Returns the directory that contains a path.
pub(super) fn parent(path: &Path) -> Option<&Path> {
    let parent = path.parent()?;
    Some(match parent.as_os_str().is_empty() {
        // The parent of a relative path of one component.
        true => Path::new("."),
        false => parent,
    })
}

/// Quotes a path for the shell.
fn quoted(path: &Path) -> String {
    Shell::of_system().quote_path(path)
}
