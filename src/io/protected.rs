//! Protection of input files from being replaced by an output.
//!
//! A segment cannot be recreated from anything else, so no path may lead an output to one. That
//! includes symbolic links to the directory or to a file, hard links, `..`, and segments other than
//! the input. Names protect files that are not read; the identity of files protects the inputs
//! under any name.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::path::display_path;
use crate::error::{Error, Result};
use crate::io::permissions::Sharing;

/// Files that [`AtomicFile`](super::atomic::AtomicFile) never replaces.
#[derive(Debug, Default)]
pub(crate) struct Protected {
    names: &'static [&'static str],
    inputs: Vec<(PathBuf, Identity)>,
    sharing: Sharing,
}

impl Protected {
    /// Protects every file with one of these names, in any case and in any directory.
    pub(crate) fn names(names: &'static [&'static str]) -> Self {
        Self {
            names,
            ..Self::default()
        }
    }

    /// Protects a file under any name. A missing one needs no protection.
    pub(crate) fn and_input(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        if let Ok(identity) = Identity::of(path) {
            self.inputs.push((path.to_path_buf(), identity));
        }
        self.and_sharing_of(path)
    }

    /// Limits the output's permissions by a file or directory from which it is made.
    pub(crate) fn and_sharing_of(mut self, path: &Path) -> Self {
        self.sharing = self.sharing.and_input(path);
        self
    }

    /// Sets the permissions directly, for inputs that were already examined.
    #[cfg(feature = "database")]
    pub(crate) fn with_sharing(self, sharing: Sharing) -> Self {
        Self { sharing, ..self }
    }

    /// Permissions of the group and of others for the output.
    pub(crate) fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Fails if a file at `target` would replace a protected one.
    pub(crate) fn check(&self, target: &Path) -> Result<()> {
        // The file system's own name, which resolves a link, a short name and a trailing dot.
        let real = target.canonicalize().ok();
        let names = [Some(target), real.as_deref()];
        for name in names.into_iter().flatten().filter_map(Path::file_name) {
            // Case-insensitive, as the file systems of macOS and Windows are.
            if self.names.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                return Err(Error::unusable(
                    target,
                    "the name of a file of an index or of Chroma's database",
                    "another name: Chroma's files are never replaced",
                ));
            }
        }
        let identity = match Identity::of(target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            identity => identity.map_err(Error::io(target, "look up the output path"))?,
        };
        match self.inputs.iter().find(|(_, input)| *input == identity) {
            Some((input, _)) => Err(Error::unusable(
                target,
                format!("the same file as the input {}", display_path(input)),
                "another file",
            )),
            None => Ok(()),
        }
    }
}

/// Identity of a file under all of its paths: device and inode.
#[cfg(unix)]
#[derive(Debug, PartialEq, Eq)]
struct Identity(u64, u64);

#[cfg(unix)]
impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path)?;
        Ok(Self(metadata.dev(), metadata.ino()))
    }
}

/// Identity of a file under all of its paths: volume and index, valid as long as it is open.
#[cfg(windows)]
#[derive(Debug, PartialEq, Eq)]
struct Identity(same_file::Handle);

#[cfg(windows)]
impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        same_file::Handle::from_path(path).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &["header.bin"];

    #[test]
    fn a_protected_name_is_refused_in_any_case_and_directory() {
        let directory = tempfile::tempdir().unwrap();
        let protected = Protected::names(NAMES);
        for name in ["header.bin", "HEADER.BIN", "Header.Bin", "x/../header.bin"] {
            let error = protected.check(&directory.path().join(name)).unwrap_err();
            assert!(error.to_string().contains("never replaced"), "{error}");
        }
        for name in ["header.bin.parquet", "header", "header.bin/x"] {
            protected.check(&directory.path().join(name)).unwrap();
        }
    }

    #[test]
    fn an_input_is_refused_by_every_path_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let input = directory.path().join("in");
        std::fs::write(&input, b"input").unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        let hard_link = directory.path().join("hard");
        std::fs::hard_link(&input, &hard_link).unwrap();
        let protected = Protected::default()
            .and_input(&input)
            .and_input(directory.path().join("absent"));
        let mut paths = vec![
            input.clone(),
            hard_link,
            directory.path().join("sub/../in"),
            directory.path().join("./in"),
        ];
        #[cfg(unix)]
        for (name, to) in [("file", input.as_path()), ("directory", directory.path())] {
            let link = directory.path().join(name);
            std::os::unix::fs::symlink(to, &link).unwrap();
            paths.push(if name == "file" {
                link
            } else {
                link.join("in")
            });
        }
        for path in paths {
            let error = protected.check(&path).unwrap_err().to_string();
            assert!(
                error.contains("the same file as the input"),
                "{path:?}: {error}"
            );
        }
        std::fs::write(directory.path().join("other"), b"input").unwrap();
        for name in ["other", "new", "absent"] {
            protected.check(&directory.path().join(name)).unwrap();
        }
    }
}
