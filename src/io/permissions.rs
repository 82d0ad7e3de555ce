//! Permissions of outputs: private inputs make private outputs.
//!
//! An output has the permissions that the umask leaves, minus each permission of the group or of
//! others that one of its inputs lacks. A file in a directory that others cannot enter counts as
//! private. Files are created with these permissions, so that they are never briefly readable.

use std::fs::{DirBuilder, Metadata, OpenOptions, Permissions};
use std::path::Path;

/// Permissions of the group and of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sharing {
    /// The read and write bits of the group and of others.
    bits: u32,
}

/// All permissions that the umask leaves.
impl Default for Sharing {
    fn default() -> Self {
        Self { bits: 0o066 }
    }
}

impl Sharing {
    /// Only the owner has access.
    #[cfg(any(test, feature = "database"))]
    pub(crate) const PRIVATE: Self = Self { bits: 0 };

    /// Removes the permissions that an input lacks. A missing input has nothing to protect.
    pub(crate) fn and_input(self, path: &Path) -> Self {
        std::fs::metadata(path).map_or(self, |metadata| self.and(&metadata))
    }
}

#[cfg(unix)]
impl Sharing {
    fn and(self, input: &Metadata) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let mode = input.permissions().mode();
        // Reading a directory's files also takes permission to enter it.
        let readable = match input.is_dir() {
            // Shifts the enter bits (0o011) onto the read bits (0o044).
            true => mode & mode << 2,
            false => mode,
        };
        Self {
            bits: self.bits & (readable & 0o044 | mode & 0o022),
        }
    }

    /// Adds the permission to enter a directory to everyone who may read it.
    fn with_entry(self) -> u32 {
        self.bits | (self.bits & 0o044) >> 2
    }

    pub(crate) fn of_new_file(self, options: &mut OpenOptions) -> &mut OpenOptions {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600 | self.bits)
    }

    pub(crate) fn of_new_directory(self, builder: &mut DirBuilder) -> &mut DirBuilder {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700 | self.with_entry())
    }

    /// Permissions of a replaced file, limited by the inputs' permissions.
    pub(crate) fn of_replaced(self, existing: &Metadata) -> Permissions {
        use std::os::unix::fs::PermissionsExt;
        Permissions::from_mode(existing.permissions().mode() & (0o7700 | self.with_entry()))
    }
}

/// On other systems a new file inherits the access list of its directory.
#[cfg(not(unix))]
impl Sharing {
    fn and(self, _: &Metadata) -> Self {
        self
    }

    pub(crate) fn of_new_file(self, options: &mut OpenOptions) -> &mut OpenOptions {
        options
    }

    pub(crate) fn of_new_directory(self, builder: &mut DirBuilder) -> &mut DirBuilder {
        builder
    }

    pub(crate) fn of_replaced(self, existing: &Metadata) -> Permissions {
        existing.permissions()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_strictest_of_the_inputs_decides() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, b"x").unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        for (file, dir, bits) in [
            (0o644, 0o755, 0o044),
            (0o664, 0o775, 0o064),
            (0o600, 0o755, 0),
            (0o640, 0o755, 0o040),
            (0o644, 0o700, 0),
            (0o644, 0o750, 0o040),
            (0o644, 0o711, 0),
            (0o644, 0o744, 0),
            (0o444, 0o555, 0o044),
        ] {
            set(&path, file);
            set(directory.path(), dir);
            let sharing = Sharing::default()
                .and_input(&path)
                .and_input(directory.path())
                .and_input(Path::new("/nowhere"));
            assert_eq!(sharing.bits, bits, "{file:o} in {dir:o}");
        }
        set(directory.path(), 0o700);
    }
}
