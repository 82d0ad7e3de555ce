//! Replacing a store under its name.
//!
//! The name holds a complete store at every moment. The new store is written, verified and synced
//! in a temporary directory first. Then it takes the name in one of two ways. In both, one rename
//! decides, so a crash leaves the old store or the new one.
//!
//! [Exchange](exchange): the new store is written beside the directory `NAME`.
//!
//! | after | `NAME` | beside it |
//! |---|---|---|
//! | writing | old | new, under a temporary name that the next run removes |
//! | the rename to `NAME.before-repair-…` | old | new, complete; removed by nobody |
//! | **the exchange of both names** | new | old, in `NAME.before-repair-…` |
//!
//! The new store has the name of the backup before the exchange, so that the old store never has a
//! temporary name.
//!
//! [Within](commit_within): the directory `NAME` stays, because it is a mount point or its parent
//! cannot be written. Chroma finds segments through its database, so the rename of the database
//! decides.
//!
//! | after | Chroma finds | else in `NAME` |
//! |---|---|---|
//! | writing | old | new, under a temporary name that the next run removes |
//! | a second name for the old database | old | the same; `before-repair-…` with the old database |
//! | moving the new segments | old | new segments, in directories that Chroma ignores |
//! | **the rename of the new database** | new | old segments, in place; the old database |
//! | moving the old segments | new | `before-repair-…` with the old store |
//!
//! Directories are synced between these steps, so that a power failure cannot reorder them.

mod lock;
mod owner;
mod snapshot;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::DateTime;

pub(crate) use self::lock::Lock;
pub(crate) use self::owner::copy_owner;
pub(crate) use self::snapshot::Snapshot;
use crate::base::path::Shell;
use crate::error::{is_absent, Error, Result};
use crate::io::permissions::Sharing;
use crate::io::temporary::{self, TemporaryDirectory};

/// File name of Chroma's database.
const DATABASE: &str = "chroma.sqlite3";

/// Files that SQLite keeps beside its database.
const JOURNALS: [&str; 3] = [
    "chroma.sqlite3-journal",
    "chroma.sqlite3-wal",
    "chroma.sqlite3-shm",
];

/// A way in which the new store takes the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// The names of two directories are exchanged: [`exchange`].
    Exchange,
    /// The files are replaced in the directory: [`commit_within`]. With the reason, as the end of
    /// the sentence "NAME stays, because".
    Within(&'static str),
}

impl Strategy {
    /// Finds the strategy for the store in a directory. Symbolic links are followed, and stay.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let dir = real_path(dir)?;
        Ok(match obstacle(&dir)? {
            Some(reason) => Self::Within(reason),
            None => Self::Exchange,
        })
    }
}

/// Returns the reason why a directory cannot exchange its name with another.
fn obstacle(dir: &Path) -> Result<Option<&'static str>> {
    let Some(parent) = dir.parent() else {
        return Ok(Some("it is the root directory"));
    };
    if is_mount_point(dir, parent)? {
        return Ok(Some("it is a mount point"));
    }
    let create = || TemporaryDirectory::create_private(parent);
    let (Ok(first), Ok(second)) = (create(), create()) else {
        return Ok(Some("nothing can be created beside it"));
    };
    if !may_rename(dir, parent, first.path())? {
        return Ok(Some("it belongs to another user and cannot be renamed"));
    }
    Ok(match probe(first.path(), second.path()) {
        true => None,
        false => Some("its file system cannot exchange two names"),
    })
}

/// Exchanges two empty directories, and returns true if each has the content of the other.
fn probe(first: &Path, second: &Path) -> bool {
    let has = |directory: &Path, name| {
        let entries = std::fs::read_dir(directory).map(|entries| entries.flatten().count());
        entries.is_ok_and(|count| count == 1) && directory.join(name).is_file()
    };
    File::create_new(first.join("first")).is_ok()
        && File::create_new(second.join("second")).is_ok()
        && exchange_names(first, second).is_ok()
        && has(first, "second")
        && has(second, "first")
}

#[cfg(unix)]
fn is_mount_point(dir: &Path, parent: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| match path.metadata() {
        Ok(metadata) => Ok(metadata.dev()),
        Err(error) => Err(Error::io(path, "look it up")(error)),
    };
    if device(dir)? != device(parent)? {
        return Ok(true);
    }
    // A bind mount may have the device of its parent. Without the list, a mount point makes the
    // exchange fail, which harms nothing.
    let list = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    Ok(lists_mount(&list, dir))
}

#[cfg(not(unix))]
fn is_mount_point(_: &Path, _: &Path) -> Result<bool> {
    Ok(false)
}

/// Returns true if the list of mounts contains a directory. Its path is the fifth field of a line.
#[cfg(unix)]
fn lists_mount(list: &[u8], dir: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    // The kernel escapes these four bytes.
    let mut escaped = Vec::new();
    for byte in dir.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").into_bytes()),
            byte => escaped.push(*byte),
        }
    }
    let mut lines = list.split(|byte| *byte == b'\n');
    lines.any(|line| line.split(|byte| *byte == b' ').nth(4) == Some(&escaped))
}

/// Returns false if the sticky bit of the parent forbids this process to rename the directory. A
/// scratch directory shows which user the process is.
#[cfg(unix)]
fn may_rename(dir: &Path, parent: &Path, scratch: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let look_up = |path: &Path| path.metadata().map_err(Error::io(path, "look it up"));
    let (dir, parent, user) = (look_up(dir)?, look_up(parent)?, look_up(scratch)?.uid());
    Ok(parent.mode() & 0o1000 == 0 || [0, dir.uid(), parent.uid()].contains(&user))
}

#[cfg(not(unix))]
fn may_rename(_: &Path, _: &Path, _: &Path) -> Result<bool> {
    Ok(true)
}

/// Time of a swap in UTC, as part of names: `20240229T123456`, with `-2` and so on if there are
/// such names already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(String);

impl Stamp {
    /// Finds a stamp for which all of its names are unused. `dir` has no symbolic links.
    pub(crate) fn unused(dir: &Path, time: SystemTime) -> Result<Self> {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.as_ref().map_or(0, Duration::as_secs);
        let time = i64::try_from(seconds).ok();
        let time = time.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        let time = time.ok_or_else(|| Error::internal("the clock is not in this age"))?;
        let time = time.format("%Y%m%dT%H%M%S");
        for number in 1_u64.. {
            let stamp = Self(match number {
                1 => time.to_string(),
                _ => format!("{time}-{number}"),
            });
            let names = [
                stamp.before_repair(dir, Strategy::Exchange),
                stamp.before_repair(dir, Strategy::Within("")),
                stamp.without_vectors(dir),
                stamp.repaired(dir),
            ];
            let mut is_used = false;
            for name in names {
                match name.symlink_metadata() {
                    Ok(_) => is_used = true,
                    Err(error) if is_absent(&error) => {}
                    Err(error) => return Err(Error::io(&name, "look it up")(error)),
                }
            }
            if !is_used {
                return Ok(stamp);
            }
        }
        Err(Error::internal("every name is used"))
    }

    /// Path for the old store.
    pub(crate) fn before_repair(&self, dir: &Path, strategy: Strategy) -> PathBuf {
        match strategy {
            Strategy::Exchange => self.beside(dir, "before-repair"),
            Strategy::Within(_) => dir.join(format!("before-repair-{}", self.0)),
        }
    }

    /// Path for a file or directory with the records that have lost their vectors.
    pub(crate) fn without_vectors(&self, dir: &Path) -> PathBuf {
        self.beside(dir, "without-vectors")
    }

    /// Path for the new store when the swap is undone.
    pub(crate) fn repaired(&self, dir: &Path) -> PathBuf {
        self.beside(dir, "repaired")
    }

    fn beside(&self, dir: &Path, what: &str) -> PathBuf {
        // The root directory has no name, and nothing beside it.
        let mut name = dir.file_name().unwrap_or(OsStr::new("root")).to_owned();
        name.push(format!(".{what}-{}", self.0));
        dir.with_file_name(name)
    }
}

/// Commands that undo a swap, to be printed before it. `dir` has no symbolic links.
///
/// Within the directory, they restore the old store after a crash at any point. An exchange must be
/// complete: the same commands repeat it otherwise, which loses nothing either.
pub(crate) fn undo_commands(
    strategy: Strategy,
    dir: &Path,
    stamp: &Stamp,
    shell: Shell,
) -> Vec<String> {
    let kept = stamp.before_repair(dir, strategy);
    let quote = |path: &Path| shell.quote_path(path);
    let rename = shell.rename();
    match (strategy, shell) {
        (Strategy::Exchange, _) => {
            let repaired = stamp.repaired(dir);
            vec![
                format!("{rename} {} {}", quote(dir), quote(&repaired)),
                format!("{rename} {} {}", quote(&kept), quote(dir)),
            ]
        }
        (Strategy::Within(_), Shell::Posix) => vec![
            format!("{rename} -f {}/* {}/", quote(&kept), quote(dir)),
            format!("rmdir {}", quote(&kept)),
        ],
        // `move` with a pattern takes files only.
        (Strategy::Within(_), Shell::Cmd) => {
            let all = quote(&kept.join("*"));
            let dir = quote(dir);
            vec![
                format!("for /d %i in ({all}) do {rename} \"%i\" {dir}"),
                format!("{rename} /Y {all} {dir}"),
                format!("rmdir {}", quote(&kept)),
            ]
        }
    }
}

/// Called after each step with its name, for tests.
type AfterStep<'a> = &'a mut dyn FnMut(&'static str);

/// Gives the complete and synced directory `new` the name `dir`, and the old store the name `kept`.
/// All three are in one directory; nothing exists at `kept`; `dir` is no symbolic link.
///
/// After an error, `new` and `dir` are as they were.
pub(crate) fn exchange(new: &Path, dir: &Path, kept: &Path) -> Result<()> {
    exchange_stepwise(new, dir, kept, &mut |_| {})
}

fn exchange_stepwise(new: &Path, dir: &Path, kept: &Path, after: AfterStep<'_>) -> Result<()> {
    let found = dir
        .symlink_metadata()
        .map_err(Error::io(dir, "look it up"))?;
    let (true, Some(parent)) = (found.is_dir(), dir.parent()) else {
        return Err(Error::internal("the path to exchange is not resolved"));
    };
    rename_to_vacant(new, kept).map_err(Error::io(kept, "name the new directory"))?;
    after("name");
    let exchanged = sync_directory(parent).and_then(|()| {
        exchange_names(kept, dir).map_err(Error::io(dir, "exchange the directory with the new one"))
    });
    if let Err(error) = exchanged {
        // If this fails, the new store stays beside the old one.
        let _ = rename_to_vacant(kept, new);
        return Err(error);
    }
    after("exchange");
    // The exchange is done. A failed sync leaves open which store a power failure would keep.
    let _ = sync_directory(parent);
    Ok(())
}

/// Replaces the store in `dir` by the complete and synced one in `new`, a temporary directory in
/// `dir`. Moves `segments` and the database out of `new`, and then the database, its journals and
/// `old_entries` from `dir` into the directory `kept`, where nothing exists.
///
/// After an error, the old store is in place. Returns the old entries that could not be moved.
pub(crate) fn commit_within(
    new: &Path,
    dir: &Path,
    segments: &[String],
    old_entries: &[OsString],
    kept: &Path,
) -> Result<Vec<OsString>> {
    commit_stepwise(new, dir, segments, old_entries, kept, &mut |_| {})
}

fn commit_stepwise(
    new: &Path,
    dir: &Path,
    segments: &[String],
    old_entries: &[OsString],
    kept: &Path,
    after: AfterStep<'_>,
) -> Result<Vec<OsString>> {
    refuse_journals(dir)?;
    create_like(kept, dir)?;
    let mut moved = Vec::new();
    if let Err(error) = replace_within(new, dir, segments, kept, &mut moved, after) {
        // A file that cannot be moved back stays. Chroma ignores it.
        for (from, to) in moved {
            let _ = std::fs::rename(to, from);
        }
        let _ = std::fs::remove_file(kept.join(DATABASE));
        let _ = std::fs::remove_dir(kept);
        return Err(error);
    }
    after("replace");
    // The new store is in place, so nothing from here on is an error.
    let _ = sync_directory(dir);
    let mut left = Vec::new();
    let journals = JOURNALS.iter().map(OsString::from);
    for entry in journals.chain(old_entries.iter().cloned()) {
        match rename_to_vacant(&dir.join(&entry), &kept.join(&entry)) {
            Ok(()) => after("move away"),
            Err(error) if is_absent(&error) => {}
            Err(_) => left.push(entry),
        }
    }
    let _ = sync_directory(kept);
    let _ = sync_directory(dir);
    Ok(left)
}

/// The steps up to the rename of the database. Adds each pair of names to `moved`.
fn replace_within(
    new: &Path,
    dir: &Path,
    segments: &[String],
    kept: &Path,
    moved: &mut Vec<(PathBuf, PathBuf)>,
    after: AfterStep<'_>,
) -> Result<()> {
    let database = dir.join(DATABASE);
    keep(&database, new, &kept.join(DATABASE))?;
    sync_directory(kept)?;
    sync_directory(dir)?;
    after("keep");
    for segment in segments {
        let (from, to) = (new.join(segment), dir.join(segment));
        rename_to_vacant(&from, &to).map_err(Error::io(&to, "name the new segment"))?;
        moved.push((from, to));
        after("add a segment");
    }
    sync_directory(dir)?;
    refuse_journals(dir)?;
    std::fs::rename(new.join(DATABASE), &database).map_err(Error::io(&database, "replace"))
}

/// Gives a database a second name. Copies it by way of `scratch` if the file system has no hard
/// links, because the undo command would take an incomplete copy.
fn keep(database: &Path, scratch: &Path, kept: &Path) -> Result<()> {
    let failed = || Error::io(kept, "keep the old database");
    // A link to a symbolic link would keep that instead.
    let database = database.canonicalize().map_err(failed())?;
    if std::fs::hard_link(&database, kept).is_ok() {
        return Ok(());
    }
    let copy = scratch.join("old-database");
    std::fs::copy(&database, &copy).map_err(failed())?;
    like(&copy, &database);
    let file = File::options().write(true).open(&copy);
    file.and_then(|file| file.sync_all()).map_err(failed())?;
    std::fs::rename(&copy, kept).map_err(failed())
}

/// Creates a directory with the owner and mode of another, as far as possible.
fn create_like(new: &Path, model: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    let builder = Sharing::PRIVATE.of_new_directory(&mut builder);
    builder
        .create(new)
        .map_err(Error::io(new, "create the directory"))?;
    like(new, model);
    Ok(())
}

#[cfg(unix)]
fn like(path: &Path, model: &Path) {
    if let Ok(metadata) = path.metadata() {
        // Failure leaves fewer permissions.
        let _ = owner::follow(model, path, &metadata);
    }
}

#[cfg(not(unix))]
fn like(_: &Path, _: &Path) {}

/// Fails if SQLite would change the database by its journal: the new database would get that
/// change.
fn refuse_journals(dir: &Path) -> Result<()> {
    for name in JOURNALS.iter().filter(|name| !name.ends_with("-shm")) {
        let path = dir.join(name);
        match path.metadata() {
            Ok(metadata) if metadata.len() > 0 => {
                return Err(Error::unusable(
                    &path,
                    format!("{} bytes", metadata.len()),
                    "an empty file or none, because the database is replaced in its directory: \
                     start and stop Chroma, or repair into a new directory",
                ));
            }
            Ok(_) => {}
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(Error::io(&path, "look it up")(error)),
        }
    }
    Ok(())
}

/// Systems that can exchange two names.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_with(from: &Path, to: &Path, flags: rustix::fs::RenameFlags) -> io::Result<()> {
    use rustix::fs::{renameat_with, CWD};
    Ok(renameat_with(CWD, from, CWD, to, flags)?)
}

fn exchange_names(first: &Path, second: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    return rename_with(first, second, rustix::fs::RenameFlags::EXCHANGE);
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    {
        let _ = (first, second);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Renames a file or directory, and replaces nothing.
fn rename_to_vacant(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    match rename_with(from, to, rustix::fs::RenameFlags::NOREPLACE) {
        // The file system does not know the flag.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) => {}
        renamed => return renamed,
    }
    match to.symlink_metadata() {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if is_absent(&error) => std::fs::rename(from, to),
        Err(error) => Err(error),
    }
}

/// Makes the names in a directory durable, where the file system can.
fn sync_directory(directory: &Path) -> Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    if cfg!(not(unix)) {
        return Ok(());
    }
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        Ok(()) => Ok(()),
        // A directory may allow renames and no reading, and some file systems sync only files.
        Err(error) if matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) => {
            Ok(())
        }
        Err(error) => Err(Error::io(directory, "sync")(error)),
    }
}

/// Calls `visit` with each file and directory below a directory: its path there and its metadata.
/// Symbolic links are not followed. Leaves out temporary files and directories of this crate.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path, &Metadata) -> Result<()>) -> Result<()> {
    let mut pending = vec![PathBuf::new()];
    while let Some(inner) = pending.pop() {
        let path = directory.join(&inner);
        for entry in std::fs::read_dir(&path).map_err(Error::io(&path, "list the directory"))? {
            let entry = entry.map_err(Error::io(&path, "list the directory"))?;
            let name = entry.file_name();
            if inner.as_os_str().is_empty() && temporary::is_temporary(&name) {
                continue;
            }
            let metadata = entry
                .metadata()
                .map_err(Error::io(&entry.path(), "look it up"))?;
            let entry = inner.join(name);
            visit(&entry, &metadata)?;
            if metadata.is_dir() {
                pending.push(entry);
            }
        }
    }
    Ok(())
}

/// Resolves symbolic links. Not on Windows, where programs do not take such paths everywhere.
fn real_path(dir: &Path) -> Result<PathBuf> {
    let path = match cfg!(windows) {
        true => std::path::absolute(dir),
        false => dir.canonicalize(),
    };
    path.map_err(Error::io(dir, "look it up"))
}
