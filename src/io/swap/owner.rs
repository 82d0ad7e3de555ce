//! Owner, group, mode and access lists of a new store.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use super::{walk, DATABASE};
use crate::error::Result;

/// Gives every file below `to`, and `to` itself, the owner, group, mode and access list of its
/// counterpart below `from`. Returns the number of files for which that was impossible.
///
/// A file in a directory without counterpart, such as a new segment, follows the file of that name
/// in an old segment, or the database. Other files follow the database, and directories an old
/// segment.
///
/// To be called before the files are synced.
#[cfg(unix)]
pub(crate) fn copy_owner(from: &Path, to: &Path) -> Result<usize> {
    let models = Models::of(from)?;
    let mut impossible = 0;
    let mut follow = |path: &Path, model: &Path, metadata: &Metadata| {
        if !metadata.is_symlink() && follow(model, path, metadata).is_err() {
            impossible += 1;
        }
    };
    // A directory may become read-only, so it follows after its content.
    let mut directories = Vec::new();
    walk(to, &mut |entry, metadata| {
        match metadata.is_dir() {
            true => directories.push((entry.to_path_buf(), metadata.clone())),
            false => follow(&to.join(entry), &models.of_file(entry), metadata),
        }
        Ok(())
    })?;
    for (entry, metadata) in directories.iter().rev() {
        follow(&to.join(entry), &models.of_directory(entry), metadata);
    }
    match to.symlink_metadata() {
        Ok(metadata) => follow(to, from, &metadata),
        Err(_) => impossible += 1,
    }
    Ok(impossible)
}

/// On other systems a new file inherits the access list of its directory.
#[cfg(not(unix))]
pub(crate) fn copy_owner(_: &Path, _: &Path) -> Result<usize> {
    Ok(0)
}

/// Files of the old store whose owner and mode new files get.
#[cfg(unix)]
struct Models<'a> {
    from: &'a Path,
    /// A directory with files of hnswlib.
    segment: Option<PathBuf>,
}

#[cfg(unix)]
impl<'a> Models<'a> {
    fn of(from: &'a Path) -> Result<Self> {
        let mut segment = None;
        walk(from, &mut |entry, _| {
            if segment.is_none() && entry.ends_with("header.bin") {
                segment = entry.parent().map(|parent| from.join(parent));
            }
            Ok(())
        })?;
        Ok(Self { from, segment })
    }

    fn of_file(&self, entry: &Path) -> PathBuf {
        let counterpart = self.from.join(entry);
        let in_segment = || Some(self.segment.as_ref()?.join(entry.file_name()?));
        let is_in_directory = entry.components().count() > 1;
        Some(counterpart)
            .filter(|model| model.is_file())
            .or_else(|| in_segment().filter(|model| is_in_directory && model.is_file()))
            .unwrap_or_else(|| self.from.join(DATABASE))
    }

    fn of_directory(&self, entry: &Path) -> PathBuf {
        let counterpart = self.from.join(entry);
        match (&self.segment, counterpart.is_dir()) {
            (Some(segment), false) => segment.clone(),
            (None, false) => self.from.to_path_buf(),
            (_, true) => counterpart,
        }
    }
}

/// Gives one file the owner, group, mode and access lists of another. Does as much as it can before
/// it returns an error.
#[cfg(unix)]
pub(super) fn follow(from: &Path, to: &Path, now: &Metadata) -> std::io::Result<()> {
    use std::fs::Permissions;
    use std::os::unix::fs::{chown, MetadataExt, PermissionsExt};

    let model = from.metadata()?;
    let (uid, gid) = (Some(model.uid()), Some(model.gid()));
    let has_owner = now.uid() == model.uid();
    let has_group = now.gid() == model.gid();
    let (owner, group) = match has_owner && has_group {
        true => (Ok(()), Ok(())),
        // Only root may change the owner. The owner may choose among his groups.
        false => match chown(to, uid, gid) {
            Ok(()) => (Ok(()), Ok(())),
            Err(error) if has_group => (Err(error), Ok(())),
            Err(error) => (
                if has_owner { Ok(()) } else { Err(error) },
                chown(to, None, gid),
            ),
        },
    };
    let mut mode = model.mode() & 0o7777;
    if group.is_err() {
        // Another group gets no more than everybody.
        mode &= 0o707 | (mode & 0o007) << 3;
    }
    std::fs::set_permissions(to, Permissions::from_mode(mode))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if group.is_ok() {
        attributes::copy(from, to, model.is_dir())?;
    }
    owner.and(group)
}

/// Access lists, which Linux keeps in extended attributes.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod attributes {
    use std::io;
    use std::path::Path;

    use rustix::fs::{getxattr, removexattr, setxattr, XattrFlags};
    use rustix::io::Errno;

    /// Size limit of an attribute in Linux (`XATTR_SIZE_MAX`).
    const MAX_BYTES: usize = 64 << 10;

    const ACCESS: &str = "system.posix_acl_access";
    /// The list that new files in a directory get.
    const DEFAULT: &str = "system.posix_acl_default";
    /// Decides with SELinux whether a container may read a file.
    const LABEL: &str = "security.selinux";

    pub(super) fn copy(from: &Path, to: &Path, is_directory: bool) -> io::Result<()> {
        let names: &[_] = match is_directory {
            true => &[ACCESS, DEFAULT, LABEL],
            false => &[ACCESS, LABEL],
        };
        for name in names {
            let wanted = value(from, name)?;
            if wanted == value(to, name)? {
                continue;
            }
            match wanted {
                Some(value) => setxattr(to, *name, &value, XattrFlags::empty())?,
                None => removexattr(to, *name)?,
            }
        }
        Ok(())
    }

    /// Reads an attribute. `None` if the file has none of that name.
    fn value(path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; MAX_BYTES];
        match getxattr(path, name, &mut value[..]) {
            Ok(len) => {
                value.truncate(len);
                Ok(Some(value))
            }
            Err(Errno::NODATA | Errno::NOTSUP | Errno::NOSYS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{chown, MetadataExt, PermissionsExt};
    use std::process::Command;

    use rustix::fs::{getxattr, setxattr, XattrFlags};

    use super::*;

    const ACCESS: &str = "system.posix_acl_access";
    const DEFAULT: &str = "system.posix_acl_default";

    const OLD: &str = "HNSW_TOOLBOX_TEST_OLD";
    const NEW: &str = "HNSW_TOOLBOX_TEST_NEW";

    /// An old store with a segment, and a new one with the same and a further segment.
    fn stores() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| parent.path().join(name));
        for (store, segments) in [(&old, &["a"][..]), (&new, &["a", "b"])] {
            for segment in segments {
                std::fs::create_dir_all(store.join(segment)).unwrap();
                for file in ["header.bin", "length.bin"] {
                    std::fs::write(store.join(segment).join(file), b"x").unwrap();
                }
            }
            std::fs::write(store.join(DATABASE), b"x").unwrap();
        }
        std::fs::write(new.join("b/only_new.bin"), b"x").unwrap();
        (parent, old, new)
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o7777
    }

    /// The format of Linux: version 2, then tag, permissions and id of each entry.
    fn access_list() -> Vec<u8> {
        let none = u32::MAX;
        let entries = [
            (0x01_u16, 6_u16, none), // the owner
            (0x02, 4, 12345),        // a user
            (0x04, 0, none),         // the group
            (0x10, 4, none),         // the mask
            (0x20, 0, none),         // others
        ];
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 1000];
        let len = getxattr(path, name, &mut value[..]).ok()?;
        value.truncate(len);
        Some(value)
    }

    #[test]
    fn modes_follow_counterparts_and_old_segments() {
        let (_parent, old, new) = stores();
        set(&old, 0o750);
        set(&old.join(DATABASE), 0o660);
        set(&old.join("a"), 0o2770);
        set(&old.join("a/header.bin"), 0o640);
        set(&old.join("a/length.bin"), 0o400);
        assert_eq!(copy_owner(&old, &new).unwrap(), 0);
        for (path, expected) in [
            ("", 0o750),
            (DATABASE, 0o660),
            ("a", 0o2770),
            ("a/header.bin", 0o640),
            ("a/length.bin", 0o400),
            ("b", 0o2770),
            ("b/header.bin", 0o640),
            ("b/length.bin", 0o400),
            ("b/only_new.bin", 0o660),
        ] {
            assert_eq!(mode(&new.join(path)), expected, "{path}");
        }
    }

    #[test]
    fn access_lists_follow_and_inherited_ones_go() {
        let (_parent, old, new) = stores();
        let list = access_list();
        let add = |path: &Path, name| {
            setxattr(path, name, &list, XattrFlags::empty()).unwrap();
        };
        add(&old.join(DATABASE), ACCESS);
        add(&old.join("a"), DEFAULT);
        // As if inherited from the directory above.
        add(&new, DEFAULT);
        add(&new.join("a/header.bin"), ACCESS);
        assert_eq!(copy_owner(&old, &new).unwrap(), 0);
        assert_eq!(attribute(&new.join(DATABASE), ACCESS), Some(list.clone()));
        assert_eq!(attribute(&new.join("b"), DEFAULT), Some(list));
        assert_eq!(attribute(&new, DEFAULT), None);
        assert_eq!(attribute(&new.join("a/header.bin"), ACCESS), None);
        assert_eq!(mode(&new.join(DATABASE)), 0o640);
    }

    #[test]
    #[ignore = "changes owners: make test-root"]
    fn owners_follow_and_failures_are_counted_as_root() {
        let (parent, old, new) = stores();
        set(parent.path(), 0o755);
        for path in ["", DATABASE, "a", "a/header.bin", "a/length.bin"] {
            chown(old.join(path), Some(12345), Some(54321)).unwrap();
        }
        set(&old.join(DATABASE), 0o660);
        set(&old.join("a/header.bin"), 0o664);
        // Another user may do no such thing.
        let status = Command::new("chown")
            .args(["-R", "65534:65534"])
            .arg(&new)
            .status();
        assert!(status.unwrap().success());
        let another = std::os::unix::process::CommandExt::uid(
            &mut Command::new(std::env::current_exe().unwrap()),
            65534,
        )
        .args([
            "--exact",
            "io::swap::owner::tests::another_user",
            "--nocapture",
        ])
        .env(OLD, &old)
        .env(NEW, &new)
        .output()
        .unwrap();
        let text = String::from_utf8_lossy(&another.stdout).into_owned();
        assert!(another.status.success(), "{text}");
        assert!(text.contains("impossible: 9"), "{text}");
        assert_eq!(mode(&new.join(DATABASE)), 0o600);
        assert_eq!(mode(&new.join("a/header.bin")), 0o644);

        assert_eq!(copy_owner(&old, &new).unwrap(), 0);
        for path in ["", DATABASE, "a", "b", "b/header.bin", "b/only_new.bin"] {
            let found = new.join(path).metadata().unwrap();
            assert_eq!((found.uid(), found.gid()), (12345, 54321), "{path}");
        }
        assert_eq!(mode(&new.join(DATABASE)), 0o660);
    }

    /// Started by the test above as a separate process.
    #[test]
    fn another_user() {
        let [Some(old), Some(new)] = [OLD, NEW].map(std::env::var_os) else {
            return;
        };
        let (old, new) = (Path::new(&old), Path::new(&new));
        println!("impossible: {}", copy_owner(old, new).unwrap());
    }
}
