//! Sources that can be read only once: standard input, and pipes by path. They are copied to a file
//! first, because an import reads each source several times.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use hnsw_toolbox::{display_path, CancelToken, ImportSummary};
use tempfile::TempDir;

use super::hint::parent;
use super::Failure;

/// Name of the copy of standard input, and so of its collection if nothing else names it.
const STDIN: &str = "stdin";

/// Time between two looks at a cancellation.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);

/// The paths of the sources, with copies in the place of pipes. Drop removes the copies.
pub(super) struct Spooled {
    pub(super) paths: Vec<PathBuf>,
    /// The path that the user wrote, and the copy.
    pipes: Vec<(PathBuf, PathBuf)>,
    directory: Option<TempDir>,
}

impl Spooled {
    /// Copies pipes to a directory beside `output`, where the result needs space as well.
    pub(super) fn new(
        sources: &[PathBuf],
        output: &Path,
        cancel: &CancelToken,
    ) -> Result<Self, Failure> {
        let mut spooled = Self {
            paths: Vec::new(),
            pipes: Vec::new(),
            directory: None,
        };
        for source in sources {
            let path = match is_pipe(source) {
                true => spooled.copy(source, output, cancel)?,
                false => source.clone(),
            };
            spooled.paths.push(path);
        }
        Ok(spooled)
    }

    fn copy(
        &mut self,
        source: &Path,
        output: &Path,
        cancel: &CancelToken,
    ) -> Result<PathBuf, Failure> {
        if self.pipes.iter().any(|(pipe, _)| pipe == source) {
            return Err(Failure::Usage(format!(
                "SOURCE: found {} twice, expected each pipe once",
                display_path(source)
            )));
        }
        let failed = |error: io::Error| {
            let source = display_path(source);
            Failure::Pipe(format!("SOURCE: cannot copy {source} to a file: {error}"))
        };
        let directory = match &mut self.directory {
            Some(directory) => directory,
            none => {
                let beside = parent(output).unwrap_or(Path::new("."));
                none.insert(tempfile::tempdir_in(beside).map_err(failed)?)
            }
        };
        // One directory for each, as the name of the file becomes the name of a collection.
        let own = directory.path().join(self.pipes.len().to_string());
        std::fs::create_dir(&own).map_err(failed)?;
        let is_stdin = source.as_os_str() == "-";
        let name = match source.file_name() {
            Some(name) if !is_stdin => name,
            _ => STDIN.as_ref(),
        };
        let path = own.join(name);
        // Nothing ends a read that waits for a writer, so a thread waits, and Ctrl-C leaves it behind.
        let (done, ended) = mpsc::channel();
        let (from, to) = (source.to_path_buf(), path.clone());
        let copying = move || done.send(copy_all((!is_stdin).then_some(&*from), &to));
        thread::Builder::new().spawn(copying).map_err(failed)?;
        loop {
            match ended.recv_timeout(CANCEL_INTERVAL) {
                Ok(copied) => {
                    copied.map_err(failed)?;
                    break;
                }
                Err(RecvTimeoutError::Timeout) if !cancel.is_cancelled() => {}
                // The import itself reports a cancellation.
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(failed(io::Error::other("the copy ended early")));
                }
            }
        }
        self.pipes.push((source.to_path_buf(), path.clone()));
        Ok(path)
    }

    /// Names pipes as the user did.
    pub(super) fn restore_names(&self, summary: &mut ImportSummary) {
        let collections = summary.collections.iter_mut();
        for origin in collections.flat_map(|collection| &mut collection.origins) {
            let mut pipes = self.pipes.iter();
            if let Some((pipe, _)) = pipes.find(|(_, copy)| *copy == origin.path) {
                origin.path.clone_from(pipe);
            }
        }
    }
}

/// Copies a pipe, or standard input, to a new file.
fn copy_all(pipe: Option<&Path>, copy: &Path) -> io::Result<u64> {
    let mut file = File::create_new(copy)?;
    match pipe {
        Some(pipe) => io::copy(&mut File::open(pipe)?, &mut file),
        None => io::copy(&mut io::stdin().lock(), &mut file),
    }
}

/// Returns true for standard input, pipes and devices.
fn is_pipe(source: &Path) -> bool {
    let is_other = |found: std::fs::Metadata| !found.is_file() && !found.is_dir();
    source.as_os_str() == "-" || std::fs::metadata(source).is_ok_and(is_other)
}
