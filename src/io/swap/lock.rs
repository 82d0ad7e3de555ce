//! Exclusive use of a store.
//!
//! SQLite locks three ranges of a database, which hold no data that it would use:
//!
//! | bytes | name | locked by |
//! |---|---|---|
//! | 0x40000000 | PENDING | a writer that waits for readers to finish |
//! | 0x40000001 | RESERVED | the writer |
//! | 0x40000002 + 510 | SHARED | each reader; with a write-ahead log, each connection |
//!
//! The lock here covers all of them. SQLite itself could not take it: `BEGIN EXCLUSIVE` replays a
//! hot journal into the database, and fails if page 1 is damaged.
//!
//! | system | lock | limits |
//! |---|---|---|
//! | Linux | open file description lock of the ranges | none on a local file system |
//! | other Unix | looks for locks of SQLite, then `flock` on the file | SQLite may not heed it |
//! | Windows | opens the file so that nobody else can open it for writing | none |
//!
//! An idle connection without a write-ahead log holds no lock. So `/proc` is searched for processes
//! that have a file of the store open. Other systems have no safe interface to such a list.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{real_path, DATABASE};
use crate::error::{Error, Result};

/// Number of looks at a process before it counts as a user of the store. A process that this one is
/// starting has copies of its open files for less than a millisecond.
const LOOKS: u32 = 3;

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

const UNUSED: &str = "no program that uses the store: stop Chroma first";

/// A store that no other process uses. Locked until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    directory: PathBuf,
    database: PathBuf,
    /// Held for its lock.
    file: File,
    unseen: bool,
}

impl Lock {
    /// Locks the store in a directory, or fails if any process uses it. The caller must not have
    /// opened a file of the store yet: this process counts, because it may belong to a program that
    /// also runs Chroma.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let directory = real_path(dir)?;
        let database = directory.join(DATABASE);
        let file = open_for_writing(&database)?;
        take(&file, &database)?;
        let mut lock = Self {
            directory,
            database,
            file,
            unseen: true,
        };
        lock.unseen = lock.refuse_users(true)?;
        Ok(lock)
    }

    /// The store's directory, with symbolic links resolved.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns true if there may be processes whose open files cannot be seen: of other users,
    /// outside this container, or on a system without `/proc`.
    pub(crate) fn unseen(&self) -> bool {
        self.unseen
    }

    /// Fails if another process has opened the store since, or if the database under the name is not
    /// the locked one. To be called right before the swap.
    pub(crate) fn check_still_unused(&self) -> Result<()> {
        self.refuse_users(false)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
            let locked = self.file.metadata().map(identity);
            let named = std::fs::metadata(&self.database).map(identity);
            let failed = Error::io(&self.database, "look it up");
            if locked
                .and_then(|locked| Ok(locked != named?))
                .map_err(failed)?
            {
                let found = "another file of that name";
                return Err(Error::changed(&self.database, found, "the locked file"));
            }
        }
        Ok(())
    }

    /// Describes a process that opened the old database after the last check. To be called after the
    /// swap: such a process must be restarted, or it works on the old store.
    pub(crate) fn opened_during_swap(&self) -> Option<String> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let search = processes::Search::of_file(&self.file).ok()?;
            search.run().user.map(|user| user.to_string())
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        None
    }

    /// Fails if a process has a file of the store open. Returns true if some cannot be seen.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn refuse_users(&self, count_this_process: bool) -> Result<bool> {
        use std::os::fd::AsRawFd;
        let mut search = processes::Search::below(&self.directory)?;
        if count_this_process {
            search.count_this_process_except(self.file.as_raw_fd());
        }
        let mut found = search.run();
        for _ in 0..LOOKS - 1 {
            if found.user.is_some() {
                std::thread::sleep(BETWEEN_LOOKS);
                found = search.run();
            }
        }
        match found.user {
            Some(user) => Err(Error::unusable(&user.path, user.to_string(), UNUSED)),
            None => Ok(found.unseen),
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn refuse_users(&self, _: bool) -> Result<bool> {
        Ok(true)
    }
}

fn open_for_writing(database: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Without this flag, opening a pipe without a reader would block forever.
        options.custom_flags(libc::O_NONBLOCK);
    }
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt;
        // FILE_SHARE_READ and FILE_SHARE_DELETE: others may read and rename the file. SQLite opens
        // it for writing, which fails then, and fails here if SQLite came first.
        options.write(false).share_mode(1 | 4);
    }
    let file = options.open(database).map_err(|error| {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        let is_in_use = cfg!(windows) && error.raw_os_error() == Some(32); // ERROR_SHARING_VIOLATION
        match error.kind() {
            _ if is_in_use => Error::unusable(database, "a file in use", UNUSED),
            PermissionDenied | ReadOnlyFilesystem => Error::unusable(
                database,
                format!("a file that cannot be written ({error})"),
                "a writable file, because the store is replaced in place",
            ),
            _ => Error::io(database, "open")(error),
        }
    })?;
    let metadata = file.metadata();
    match metadata
        .map_err(Error::io(database, "look it up"))?
        .is_file()
    {
        true => Ok(file),
        false => Err(Error::unusable(
            database,
            "no regular file",
            "Chroma's database",
        )),
    }
}

/// Locks the file, or fails if another process has locked any of SQLite's bytes.
#[cfg(unix)]
fn take(file: &File, database: &Path) -> Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let taken = {
        use nix::fcntl::{fcntl, FcntlArg};
        let range = sqlite_bytes()?;
        fcntl(file, FcntlArg::F_OFD_SETLK(&range)).map(drop)
    };
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let taken = match holder(file, database)? {
        Some(_) => Err(nix::errno::Errno::EAGAIN),
        None => match file.try_lock() {
            Ok(()) => Ok(()),
            Err(std::fs::TryLockError::WouldBlock) => Err(nix::errno::Errno::EAGAIN),
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(Error::io(database, "lock")(error));
            }
        },
    };
    match taken {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
            let found = match holder(file, database)? {
                Some(pid) => format!("locked by process {pid}{}", program_in_brackets(pid)),
                None => "locked by another process".into(),
            };
            Err(Error::unusable(database, found, UNUSED))
        }
        Err(error) => Err(Error::io(database, "lock")(error.into())),
    }
}

/// On Windows, the open file is the lock.
#[cfg(not(unix))]
fn take(_: &File, _: &Path) -> Result<()> {
    Ok(())
}

/// A write lock on all of the bytes that SQLite locks.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
#[allow(clippy::useless_conversion)] // macOS has F_WRLCK as a `c_short`
fn sqlite_bytes() -> Result<libc::flock> {
    // Linux has the constants as `c_int`.
    let narrow = |value: libc::c_int| libc::c_short::try_from(value).map_err(Error::internal);
    Ok(libc::flock {
        l_type: narrow(libc::F_WRLCK.into())?,
        l_whence: narrow(libc::SEEK_SET)?,
        l_start: 0x4000_0000,
        l_len: 512,
        l_pid: 0,
    })
}

/// Returns the process that holds a lock on SQLite's bytes, if the system tells. It does not for
/// open file description locks.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn holder(file: &File, database: &Path) -> Result<Option<u32>> {
    use nix::fcntl::{fcntl, FcntlArg};
    let mut range = sqlite_bytes()?;
    #[cfg(not(target_vendor = "apple"))]
    let argument = FcntlArg::F_OFD_GETLK(&mut range);
    #[cfg(target_vendor = "apple")]
    let argument = FcntlArg::F_GETLK(&mut range);
    fcntl(file, argument).map_err(|error| Error::io(database, "look for locks")(error.into()))?;
    let is_locked = libc::c_int::from(range.l_type) != libc::c_int::from(libc::F_UNLCK);
    // 0 stands for a process outside this container, -1 for an open file description.
    let pid = u32::try_from(range.l_pid).ok().filter(|pid| *pid > 0);
    Ok(pid.filter(|_| is_locked))
}

#[cfg(all(
    unix,
    not(any(target_os = "linux", target_os = "android", target_vendor = "apple"))
))]
fn holder(_: &File, _: &Path) -> Result<Option<u32>> {
    Ok(None)
}

/// Formats a program's name after a process id. Empty if the name is unknown.
#[cfg(unix)]
fn program_in_brackets(pid: u32) -> String {
    use crate::base::path::display_path;
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!(" ({})", display_path(Path::new(name.trim_end()))),
        Err(_) => String::new(),
    }
}

/// Processes with open files, from `/proc`.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod processes {
    use std::collections::HashSet;
    use std::fmt;
    use std::fs::{File, Metadata};
    use std::os::fd::RawFd;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};

    use super::program_in_brackets;
    use crate::error::{is_absent, Result};
    use crate::io::swap::walk;

    /// The namespace of processes that sees all of them (`PROC_PID_INIT_INO` of Linux).
    const ALL_PROCESSES: &str = "pid:[4026531836]";

    type Identity = (u64, u64);

    fn identity(metadata: &Metadata) -> Identity {
        (metadata.dev(), metadata.ino())
    }

    /// A search for open files, by path and by device and inode. The inode finds hard links, and
    /// containers in which the directory has another path.
    pub(super) struct Search {
        directory: Option<PathBuf>,
        files: HashSet<Identity>,
        /// The descriptor of this process that is left out, if its others count.
        own: Option<RawFd>,
    }

    pub(super) struct Found {
        pub(super) user: Option<User>,
        /// True if some processes may be invisible.
        pub(super) unseen: bool,
    }

    pub(super) struct User {
        pid: u32,
        pub(super) path: PathBuf,
    }

    impl fmt::Display for User {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let program = program_in_brackets(self.pid);
            match self.pid == std::process::id() {
                true => write!(f, "opened by this process, {}{program}", self.pid),
                false => write!(f, "opened by process {}{program}", self.pid),
            }
        }
    }

    impl Search {
        pub(super) fn below(directory: &Path) -> Result<Self> {
            let mut files = HashSet::new();
            walk(directory, &mut |entry, metadata| {
                if metadata.is_file() {
                    files.insert(identity(metadata));
                } else if metadata.is_symlink() {
                    files.extend(directory.join(entry).metadata().ok().as_ref().map(identity));
                }
                Ok(())
            })?;
            Ok(Self {
                directory: Some(directory.to_path_buf()),
                files,
                own: None,
            })
        }

        pub(super) fn of_file(file: &File) -> std::io::Result<Self> {
            Ok(Self {
                directory: None,
                files: [identity(&file.metadata()?)].into(),
                own: None,
            })
        }

        pub(super) fn count_this_process_except(&mut self, descriptor: RawFd) {
            self.own = Some(descriptor);
        }

        pub(super) fn run(&self) -> Found {
            let Ok(entries) = Path::new("/proc").read_dir() else {
                return Found {
                    user: None,
                    unseen: true,
                };
            };
            let namespace = Path::new("/proc/self/ns/pid").read_link();
            let sees_all = namespace.is_ok_and(|name| name == Path::new(ALL_PROCESSES))
                // Missing if `/proc` is mounted so that it hides processes of others.
                && Path::new("/proc/1").exists();
            let mut unseen = !sees_all;
            for entry in entries.flatten() {
                let name = entry.file_name();
                let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                    continue;
                };
                if pid == std::process::id() && self.own.is_none() {
                    continue;
                }
                match entry.path().join("fd").read_dir() {
                    Ok(descriptors) => {
                        let mut descriptors = descriptors.flatten();
                        let path = descriptors.find_map(|link| self.open_file(pid, &link.path()));
                        if let Some(path) = path {
                            let user = Some(User { pid, path });
                            return Found { user, unseen };
                        }
                    }
                    // The process has ended.
                    Err(error) if is_absent(&error) => {}
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(_) => unseen = true,
                }
            }
            Found { user: None, unseen }
        }

        /// Returns the path of a descriptor that belongs to the store.
        fn open_file(&self, pid: u32, link: &Path) -> Option<PathBuf> {
            if let Some(own) = self.own.filter(|_| pid == std::process::id()) {
                let number = link
                    .file_name()
                    .and_then(|name| name.to_str()?.parse().ok());
                if number == Some(own) {
                    return None;
                }
            }
            let path = link.read_link().ok()?;
            let is_below = |directory: &PathBuf| path.starts_with(directory) && path != *directory;
            if self.directory.as_ref().is_some_and(is_below) {
                return Some(path);
            }
            // Sockets, pipes and devices.
            if !path.is_absolute() || path.starts_with("/dev") || path.starts_with("/proc") {
                return None;
            }
            let opened = identity(&link.metadata().ok()?);
            self.files.contains(&opened).then_some(path)
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{BufRead, BufReader, Lines, Write};
    use std::process::{Child, ChildStdout, Command, Stdio};

    use super::*;
    use crate::error::ErrorKind;

    const ACTION: &str = "HNSW_TOOLBOX_TEST_ACTION";
    const PATH: &str = "HNSW_TOOLBOX_TEST_PATH";

    fn store() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().canonicalize().unwrap().join("store");
        std::fs::create_dir_all(directory.join("segment")).unwrap();
        std::fs::write(directory.join("segment/header.bin"), b"header").unwrap();
        let database = rusqlite::Connection::open(directory.join(DATABASE)).unwrap();
        database.execute_batch("CREATE TABLE t (a)").unwrap();
        drop(database);
        (parent, directory)
    }

    /// A second process that uses a file until it is dropped.
    struct User(Child, #[allow(dead_code)] Lines<BufReader<ChildStdout>>);

    impl User {
        fn start(action: &str, path: &Path) -> Self {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "io::swap::lock::tests::user", "--nocapture"])
                .env(ACTION, action)
                .env(PATH, path)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let ready = lines.any(|line| line.unwrap().contains("ready"));
            assert!(ready);
            Self(child, lines)
        }
    }

    impl Drop for User {
        fn drop(&mut self) {
            // The end of its input ends the process.
            drop(self.0.stdin.take());
            self.0.wait().unwrap();
        }
    }

    /// Started by other tests as a separate process.
    #[test]
    fn user() {
        let Some(path) = std::env::var_os(PATH).map(PathBuf::from) else {
            return;
        };
        let _held: Box<dyn std::any::Any> = match &*std::env::var(ACTION).unwrap() {
            "open" => Box::new(File::open(path).unwrap()),
            sql => {
                let database = rusqlite::Connection::open(path).unwrap();
                database.execute_batch(sql).unwrap();
                Box::new(database)
            }
        };
        println!("ready");
        std::io::stdout().flush().unwrap();
        std::io::stdin().lock().lines().for_each(drop);
    }

    fn refused(directory: &Path, words: &[&str]) {
        let error = Lock::open(directory).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnusablePath, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn an_unused_store_is_locked_against_sqlite() {
        let (_parent, directory) = store();
        let lock = Lock::open(&directory).unwrap();
        assert_eq!(lock.directory(), directory);
        assert!(lock.unseen() || Path::new("/proc/1/fd").read_dir().is_ok());
        lock.check_still_unused().unwrap();
        let database = rusqlite::Connection::open(directory.join(DATABASE)).unwrap();
        database.busy_timeout(Duration::ZERO).unwrap();
        for sql in [
            "SELECT * FROM t",
            "INSERT INTO t VALUES (1)",
            "BEGIN IMMEDIATE",
        ] {
            let error = database.execute_batch(sql).unwrap_err();
            let busy = Some(rusqlite::ErrorCode::DatabaseBusy);
            assert_eq!(error.sqlite_error_code(), busy, "{sql}: {error}");
        }
        drop(database);
        // Closing another descriptor does not end the lock.
        refused(&directory, &["locked by another process"]);
    }

    #[test]
    fn a_transaction_is_refused_with_its_process() {
        let (_parent, directory) = store();
        let before = std::fs::read(directory.join(DATABASE)).unwrap();
        for sql in [
            "BEGIN; SELECT * FROM t",
            "BEGIN IMMEDIATE",
            "BEGIN EXCLUSIVE",
        ] {
            let user = User::start(sql, &directory.join(DATABASE));
            let process = format!("process {} (", user.0.id());
            refused(&directory, &[&process, "stop Chroma first"]);
        }
        assert_eq!(std::fs::read(directory.join(DATABASE)).unwrap(), before);
        Lock::open(&directory).unwrap();
    }

    #[test]
    fn an_idle_connection_is_refused() {
        let (_parent, directory) = store();
        for sql in [
            "SELECT * FROM t",
            "PRAGMA journal_mode = WAL; SELECT * FROM t",
        ] {
            let user = User::start(sql, &directory.join(DATABASE));
            let process = format!("by process {} (", user.0.id());
            refused(&directory, &[DATABASE, &process]);
        }
    }

    #[test]
    fn an_open_file_is_refused_by_any_of_its_paths() {
        let (parent, directory) = store();
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        let hard_link = parent.path().join("hard");
        std::fs::hard_link(directory.join(DATABASE), &hard_link).unwrap();
        for path in [
            directory.join("segment/header.bin"),
            directory.join("segment"),
            link.join(DATABASE),
            hard_link,
        ] {
            let user = User::start("open", &path);
            refused(&link, &[&format!("opened by process {}", user.0.id())]);
        }
        let _beside = User::start("open", parent.path());
        let _directory = User::start("open", &directory);
        Lock::open(&link).unwrap();
    }

    #[test]
    fn an_open_file_of_this_process_is_refused() {
        let (_parent, directory) = store();
        let file = File::open(directory.join("segment/header.bin")).unwrap();
        refused(&directory, &["opened by this process"]);
        drop(file);
        let lock = Lock::open(&directory).unwrap();
        // The caller reads the store from here on.
        let _file = File::open(directory.join("segment/header.bin")).unwrap();
        lock.check_still_unused().unwrap();
    }

    #[test]
    fn later_users_and_another_database_are_noticed() {
        let (_parent, directory) = store();
        let database = directory.join(DATABASE);
        let lock = Lock::open(&directory).unwrap();
        assert_eq!(lock.opened_during_swap(), None);
        let user = User::start("open", &database);
        let error = lock.check_still_unused().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnusablePath, "{error}");
        let moved = directory.with_file_name("moved");
        std::fs::rename(&directory, &moved).unwrap();
        let found = lock.opened_during_swap().unwrap();
        assert!(found.contains(&user.0.id().to_string()), "{found}");
        std::fs::rename(&moved, &directory).unwrap();
        drop(user);
        lock.check_still_unused().unwrap();
        std::fs::copy(&database, directory.join("copy")).unwrap();
        std::fs::rename(directory.join("copy"), &database).unwrap();
        let error = lock.check_still_unused().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InputChanged, "{error}");
    }

    #[test]
    fn a_database_that_cannot_be_written_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        // Not even root may write this file.
        let unwritable = "/sys/kernel/uevent_seqnum";
        std::os::unix::fs::symlink(unwritable, parent.path().join(DATABASE)).unwrap();
        refused(parent.path(), &["cannot be written", "replaced in place"]);
    }

    #[test]
    fn a_store_without_a_database_is_an_error() {
        let parent = tempfile::tempdir().unwrap();
        let error = Lock::open(parent.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        let error = Lock::open(&parent.path().join("nowhere")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        std::fs::create_dir(parent.path().join(DATABASE)).unwrap();
        assert!(Lock::open(parent.path()).is_err());
    }
}
