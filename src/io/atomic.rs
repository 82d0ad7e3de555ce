//! Atomic output files and directories.
//!
//! Output goes to a temporary file next to the target, `.hnsw-toolbox-<pid>-<n>.tmp`. The file is
//! synced and renamed over the target at the end. It is locked until then, so that a later run
//! recognises and removes files of killed processes.

use std::fs::{File, FileType, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::error::{Error, Result};
use crate::io::behind::WriteBehind;
use crate::io::file::write_all_at;
use crate::io::mmap::check_headroom;
use crate::io::permissions::Sharing;
use crate::io::protected::Protected;
use crate::io::temporary::{self, TemporaryDirectory};

/// Buffer size in bytes. Pages and record batches are larger and pass through unbuffered; headers
/// between them are gathered.
const BUFFER_BYTES: usize = 64 << 10;

/// Bytes written before a background sync starts.
const BYTES_PER_SYNC: u64 = 16 << 20;

/// A file that gets its name only when it is complete. If dropped earlier, it is removed.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    /// `None` after it is complete or has failed.
    writer: Option<Writer>,
    /// Empty after the rename.
    temporary: PathBuf,
    target: PathBuf,
    protected: Protected,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "database"), allow(dead_code))] // only exports write behind
enum Writer {
    Direct(BufWriter<Growing>),
    Behind(WriteBehind<Growing>),
}

impl Writer {
    fn direct(file: Growing) -> Self {
        Self::Direct(BufWriter::with_capacity(BUFFER_BYTES, file))
    }
}

impl AtomicFile {
    /// Starts the file for `target`. Missing parent directories are created, and a symbolic link is
    /// followed. Only a regular file that is not protected may be replaced.
    pub(crate) fn create(target: &Path, protected: Protected) -> Result<Self> {
        check_headroom("write it").map_err(|error| error.in_file(target))?;
        let target = resolve(target)?;
        protected.check(&target)?;
        let parent = parent(&target);
        std::fs::create_dir_all(parent).map_err(Error::io(parent, "create the directory"))?;
        remove_abandoned(parent);
        Self::start(target, protected)
    }

    /// Starts a file in a directory of this process, where no other run can have left temporary
    /// files. Searching for them would list the directory once per file.
    #[cfg(feature = "database")]
    pub(crate) fn create_within(
        directory: &TemporaryDirectory,
        name: &str,
        protected: Protected,
    ) -> Result<Self> {
        let target = directory.path().join(name);
        check_headroom("write it").map_err(|error| error.in_file(&target))?;
        protected.check(&target)?;
        Self::start(target, protected)
    }

    fn start(target: PathBuf, protected: Protected) -> Result<Self> {
        let (file, temporary) = create_temporary(parent(&target), protected.sharing())?;
        let output = Self {
            writer: Some(Writer::direct(Growing {
                file,
                early_sync: EarlySync::default(),
                observe: Observer(None),
            })),
            temporary,
            target,
            protected,
        };
        if let Ok(existing) = std::fs::metadata(&output.target) {
            let permissions = output.protected.sharing().of_replaced(&existing);
            std::fs::set_permissions(&output.temporary, permissions)
                .map_err(Error::io(&output.target, "keep the permissions"))?;
        }
        Ok(output)
    }

    /// Final path of the file, with symbolic links followed.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Builds the error of a failed write.
    pub(crate) fn write_error(&self, source: io::Error) -> Error {
        Error::io(&self.target, "write")(source)
    }

    /// Moves writing to another thread until the next flush. The thread passes the written bytes to
    /// `observe`, in order.
    #[cfg(feature = "database")]
    pub(crate) fn write_behind(
        &mut self,
        observe: impl FnMut(&[u8]) + Send + 'static,
    ) -> Result<()> {
        let mut file = self.take_file().map_err(|error| self.write_error(error))?;
        file.observe = Observer(Some(Box::new(observe)));
        let behind =
            WriteBehind::start(file).map_err(Error::io(&self.target, "start a thread to write"))?;
        self.writer = Some(Writer::Behind(behind));
        Ok(())
    }

    /// Flushes, and returns the file itself.
    pub(crate) fn file(&mut self) -> Result<&mut File> {
        self.flush().map_err(Error::io(&self.target, "write"))?;
        match &mut self.writer {
            Some(Writer::Direct(writer)) => Ok(&mut writer.get_mut().file),
            _ => Err(Error::internal("the output is already complete")),
        }
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn commit(self) -> Result<()> {
        let target = self.target.clone();
        self.rename(File::sync_all)?;
        sync_directory(parent(&target));
        Ok(())
    }

    /// Renames the file without syncing it. [`TemporaryDirectory::sync_all`] makes it durable.
    #[cfg(feature = "database")]
    pub(crate) fn commit_unsynced(self) -> Result<()> {
        self.rename(|_| Ok(()))
    }

    fn rename(mut self, sync: impl FnOnce(&File) -> io::Result<()>) -> Result<()> {
        let mut file = self.take_file().map_err(|error| self.write_error(error))?;
        let synced = file.early_sync.join().and_then(|()| sync(&file.file));
        synced.map_err(Error::io(&self.target, "sync"))?;
        // Another file may have appeared at the target since the first check.
        self.protected.check(&self.target)?;
        std::fs::rename(&self.temporary, &self.target).map_err(Error::io(
            &self.target,
            "move the finished file to its name",
        ))?;
        self.temporary = PathBuf::new();
        Ok(())
    }

    /// Flushes, and takes the file out.
    fn take_file(&mut self) -> io::Result<Growing> {
        self.flush()?;
        match self.writer.take() {
            Some(Writer::Direct(writer)) => Ok(writer.into_parts().0),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.writer {
            Some(Writer::Direct(writer)) => return writer.write(bytes),
            Some(Writer::Behind(behind)) => behind.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        if written.is_err() {
            // Returns the error that ended the thread.
            self.flush()?;
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.writer.take() {
            Some(Writer::Direct(mut writer)) => {
                let flushed = writer.flush();
                self.writer = Some(Writer::Direct(writer));
                flushed
            }
            Some(Writer::Behind(behind)) => {
                let (file, written) = behind.finish();
                self.writer = file.map(Writer::direct);
                written
            }
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        match self.writer.take() {
            // Discards the buffer, which a plain drop would flush: nobody will read the file.
            Some(Writer::Direct(writer)) => drop(writer.into_parts().0),
            // The thread holds the file open, and must not outlive this call.
            Some(Writer::Behind(behind)) => behind.abandon(),
            None => {}
        }
        if !self.temporary.as_os_str().is_empty() {
            // If this fails, the next run removes the file.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// A file that is synced and observed during writing.
#[derive(Debug)]
struct Growing {
    file: File,
    early_sync: EarlySync,
    observe: Observer,
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        if let (Some(observe), Some(written)) = (&mut self.observe.0, bytes.get(..count)) {
            observe(written);
        }
        self.early_sync.written(&self.file, count as u64)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Observe = dyn FnMut(&[u8]) + Send;

struct Observer(Option<Box<Observe>>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// A directory that gets its name only when it is complete, and never replaces anything. If dropped
/// earlier, it is removed.
#[derive(Debug)]
pub(crate) struct AtomicDirectory {
    directory: TemporaryDirectory,
    target: PathBuf,
    sharing: Sharing,
}

impl AtomicDirectory {
    /// Starts the directory for `target`, where nothing may exist. Its files get the permissions in
    /// `sharing`. Missing parent directories are created.
    pub(crate) fn create(target: &Path, sharing: Sharing) -> Result<Self> {
        require_vacant(target)?;
        check_headroom("write it").map_err(|error| error.in_file(target))?;
        let parent = parent(target);
        std::fs::create_dir_all(parent).map_err(Error::io(parent, "create the directory"))?;
        Ok(Self {
            directory: TemporaryDirectory::create(parent, sharing)?,
            target: target.to_path_buf(),
            sharing,
        })
    }

    /// Path of the directory until it is complete.
    pub(crate) fn temporary(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a file of the directory.
    pub(crate) fn create_file(&self, name: &str) -> Result<DirectoryFile> {
        let target = self.target.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = self
            .sharing
            .of_new_file(&mut options)
            .open(self.temporary().join(name))
            .map_err(Error::io(&target, "create"))?;
        Ok(DirectoryFile {
            file,
            target,
            end: 0,
            early_sync: Mutex::default(),
        })
    }

    /// Makes all files of the directory and of its subdirectories durable.
    #[cfg(feature = "database")]
    pub(crate) fn sync_all(&self) -> Result<()> {
        self.directory.sync_all()
    }

    /// Gives the directory its name. Its files must have been [finished](DirectoryFile::finish).
    ///
    /// An empty directory that has appeared at the target since is replaced; anything else is an
    /// error.
    pub(crate) fn commit(self) -> Result<()> {
        let Self {
            directory, target, ..
        } = self;
        sync_directory(directory.path());
        require_vacant(&target)?;
        directory.rename_to(&target)?;
        sync_directory(parent(&target));
        Ok(())
    }
}

/// A file of an [`AtomicDirectory`], which any thread may write to.
#[derive(Debug)]
pub(crate) struct DirectoryFile {
    file: File,
    target: PathBuf,
    /// Offset of the next [`Write`].
    end: u64,
    early_sync: Mutex<EarlySync>,
}

impl DirectoryFile {
    /// The open file, for reading.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Builds the error of a failed action, given as an infinitive.
    pub(crate) fn error(&self, action: &'static str) -> impl Fn(io::Error) -> Error {
        let target = self.target.clone();
        move |source| Error::io(&target, action)(source)
    }

    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.try_write_at(bytes, offset)
            .map_err(Error::io(&self.target, "write"))
    }

    fn try_write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_all_at(&self.file, bytes, offset)?;
        let early_sync = self.early_sync.lock();
        early_sync
            .unwrap_or_else(PoisonError::into_inner)
            .written(&self.file, bytes.len() as u64)
    }

    /// Makes the file durable.
    pub(crate) fn finish(self) -> Result<()> {
        self.early_sync
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .join()
            .and_then(|()| self.file.sync_all())
            .map_err(Error::io(&self.target, "sync"))
    }
}

impl Write for DirectoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_at(bytes, self.end)?;
        self.end = self.end.saturating_add(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A thread that syncs during writing, so that the disk works in parallel and the final sync is
/// short.
#[derive(Debug, Default)]
struct EarlySync {
    unsynced: u64,
    thread: Option<(SyncSender<()>, JoinHandle<io::Result<()>>)>,
}

impl Drop for EarlySync {
    fn drop(&mut self) {
        // The thread holds the file open, and must not outlive the call that started it.
        let _ = self.join();
    }
}

impl EarlySync {
    fn written(&mut self, file: &File, count: u64) -> io::Result<()> {
        self.unsynced += count;
        if self.unsynced < BYTES_PER_SYNC {
            return Ok(());
        }
        self.unsynced = 0;
        if self.thread.is_none() {
            let file = file.try_clone()?;
            let (sender, receiver) = sync_channel::<()>(1);
            // The error is kept for `join`: the system reports it once for each open file.
            let sync = move || receiver.iter().try_for_each(|()| file.sync_data());
            let thread = thread::Builder::new()
                .name("hnsw-toolbox-sync".into())
                .spawn(sync);
            // Without a thread, everything is synced at the end.
            self.thread = thread.ok().map(|thread| (sender, thread));
        }
        if let Some((sender, _)) = &self.thread {
            // A full channel means that a sync is due already. A closed channel means an error,
            // which `join` returns.
            let _ = sender.try_send(());
        }
        Ok(())
    }

    /// Waits for the thread and returns its error.
    fn join(&mut self) -> io::Result<()> {
        let Some((sender, thread)) = self.thread.take() else {
            return Ok(());
        };
        drop(sender);
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the syncing thread panicked")))
    }
}

/// Fails if `target` would be inside the directory `index_dir`.
pub(crate) fn refuse_inside(target: &Path, index_dir: &Path) -> Result<()> {
    let target = resolve(target)?;
    let index_dir = index_dir
        .canonicalize()
        .map_err(Error::io(index_dir, "look up the index directory"))?;
    let parent = parent(&target);
    // Missing parents will be created in the nearest existing one.
    let nearest = parent.ancestors().find_map(|ancestor| {
        let ancestor_or_here = match ancestor.as_os_str().is_empty() {
            true => Path::new("."),
            false => ancestor,
        };
        let missing = parent.strip_prefix(ancestor).ok()?;
        Some((ancestor_or_here.canonicalize().ok()?, missing))
    });
    let is_inside = nearest.is_none_or(|(existing, missing)| {
        existing.starts_with(&index_dir)
            // A `..` after a missing part may lead anywhere once that part exists.
            || missing.components().any(|part| part == Component::ParentDir)
    });
    if is_inside {
        return Err(Error::unusable(
            &target,
            "a path inside the directory that is read",
            "a path outside it, because nothing is written there",
        ));
    }
    Ok(())
}

/// Fails if anything exists at `target`.
pub(crate) fn require_vacant(target: &Path) -> Result<()> {
    let unusable = |found: &'static str| {
        Error::unusable(
            target,
            found,
            "the path of a new directory, where nothing exists",
        )
    };
    if target.file_name().is_none() {
        return Err(unusable("a path without a name"));
    }
    match std::fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(target, "look up the output path")(error)),
        Ok(found) if found.is_dir() => Err(unusable("a directory")),
        Ok(found) if found.is_symlink() => Err(unusable("a symbolic link")),
        Ok(_) => Err(unusable("a file")),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Follows a final symbolic link, if the object at its end may be replaced.
fn resolve(target: &Path) -> Result<PathBuf> {
    let unusable = |found: &'static str| {
        Error::unusable(target, found, "the path of a regular file, existing or not")
    };
    if target.file_name().is_none() {
        return Err(unusable("a path without a file name"));
    }
    match std::fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(target.to_path_buf()),
        Err(error) => Err(Error::io(target, "look up the output path")(error)),
        Ok(found) if found.is_symlink() => {
            let target = target
                .canonicalize()
                .map_err(Error::io(target, "follow the symbolic link"))?;
            resolve(&target)
        }
        Ok(found) if found.is_dir() => Err(unusable("a directory")),
        Ok(found) if !found.is_file() => Err(unusable("a device, pipe or socket")),
        Ok(_) => Ok(target.to_path_buf()),
    }
}

fn create_temporary(parent: &Path, sharing: Sharing) -> Result<(File, PathBuf)> {
    loop {
        let path = temporary::unused_path(parent);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        match sharing.of_new_file(&mut options).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(Error::io(
                    parent,
                    "create a temporary file in the directory",
                )(error));
            }
            Ok(file) => {
                // A file system without locks only loses the cleanup after a kill. Another run may
                // have removed the file as abandoned before it was locked: try again.
                let taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
                if !taken && path.exists() {
                    return Ok((file, path));
                }
            }
        }
    }
}

/// Removes the temporary files of processes that were killed.
fn remove_abandoned(directory: &Path) {
    for entry in temporary::entries(directory, FileType::is_file) {
        let Ok(file) = OpenOptions::new().write(true).open(entry.path()) else {
            continue;
        };
        match file.try_lock() {
            Ok(()) => {
                let _ = std::fs::remove_file(entry.path());
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

#[cfg(unix)]
fn sync_directory(directory: &Path) {
    // The rename is done. Some file systems refuse to sync a directory, which is harmless.
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_begun_side_by_side_do_not_remove_each_other() {
        let directory = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let target = directory.path().join(worker.to_string());
                scope.spawn(move || {
                    for _ in 0..300 {
                        let (file, temporary) =
                            create_temporary(parent(&target), Sharing::default()).unwrap();
                        remove_abandoned(parent(&target));
                        assert!(temporary.exists());
                        std::fs::remove_file(temporary).unwrap();
                        drop(file);
                    }
                });
            }
        });
    }

    #[test]
    fn appears_only_when_committed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("deep/er/out");
        let mut output = AtomicFile::create(&target, Protected::default()).unwrap();
        output.write_all(b"new").unwrap();
        assert!(!target.exists());
        output.commit().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(names(target.parent().unwrap()), ["out"]);
    }

    #[test]
    fn dropped_leaves_the_earlier_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("out");
        std::fs::write(&target, b"old").unwrap();
        let mut output = AtomicFile::create(&target, Protected::default()).unwrap();
        output.write_all(b"new").unwrap();
        drop(output);
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["out"]);
    }

    #[test]
    fn an_abandoned_temporary_file_is_removed_and_a_live_one_kept() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(".hnsw-toolbox-1-1.tmp"), b"").unwrap();
        let first = AtomicFile::create(&directory.path().join("a"), Protected::default()).unwrap();
        let second = AtomicFile::create(&directory.path().join("b"), Protected::default()).unwrap();
        assert_eq!(names(directory.path()).len(), 2);
        first.commit().unwrap();
        second.commit().unwrap();
        assert_eq!(names(directory.path()), ["a", "b"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_is_followed_and_a_device_refused() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        let link = directory.path().join("link");
        std::fs::write(&real, b"old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut output = AtomicFile::create(&link, Protected::default()).unwrap();
        output.write_all(b"new").unwrap();
        output.commit().unwrap();
        assert_eq!(std::fs::read(&real).unwrap(), b"new");
        assert!(link.is_symlink());

        let error = AtomicFile::create(Path::new("/dev/null"), Protected::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnusablePath, "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_of_the_replaced_file_are_kept() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("out");
        std::fs::write(&target, b"old").unwrap();
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).unwrap();
        AtomicFile::create(&target, Protected::default())
            .unwrap()
            .commit()
            .unwrap();
        let mode = std::fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_directory_appears_only_when_committed() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("deep/er/out");
        let directory = AtomicDirectory::create(&target, Sharing::default()).unwrap();
        let mut file = directory.create_file("a").unwrap();
        file.write_all(b"one").unwrap();
        file.write_all(b"two").unwrap();
        file.write_at(b"TH", 3).unwrap();
        file.finish().unwrap();
        assert!(directory.create_file("a").is_err());
        assert!(!target.exists());
        directory.commit().unwrap();
        assert_eq!(std::fs::read(target.join("a")).unwrap(), b"oneTHo");
        assert_eq!(names(target.parent().unwrap()), ["out"]);
        assert_eq!(names(&target), ["a"]);
    }

    #[test]
    fn a_dropped_directory_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let directory =
            AtomicDirectory::create(&parent.path().join("out"), Sharing::default()).unwrap();
        let mut file = directory.create_file("a").unwrap();
        // Enough bytes to start the syncing thread.
        file.write_all(&vec![1; 33 << 20]).unwrap();
        drop(file);
        drop(directory);
        assert!(names(parent.path()).is_empty());
    }

    #[test]
    fn a_directory_never_replaces_anything() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("out");
        let put: [fn(&Path); 2] = [
            |path| std::fs::create_dir(path).unwrap(),
            |path| std::fs::write(path, b"old").unwrap(),
        ];
        for put in put {
            let early = AtomicDirectory::create(&target, Sharing::default()).unwrap();
            put(&target);
            for error in [
                AtomicDirectory::create(&target, Sharing::default())
                    .map(drop)
                    .unwrap_err(),
                early.commit().unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::UnusablePath, "{error:?}");
            }
            assert_eq!(names(parent.path()), ["out"]);
            let _ = std::fs::remove_dir(&target);
            let _ = std::fs::remove_file(&target);
        }
        assert!(AtomicDirectory::create(Path::new("/"), Sharing::default()).is_err());
        assert!(AtomicDirectory::create(&parent.path().join("x/.."), Sharing::default()).is_err());
    }
}
