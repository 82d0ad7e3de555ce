use std::panic::{catch_unwind, AssertUnwindSafe};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::error::ErrorKind;

const TIME: Duration = Duration::from_secs(1_709_210_096);
const SWAPPED: &str = "HNSW_TOOLBOX_TEST_SWAPPED";
const WITHIN: Strategy = Strategy::Within("a test says so");

/// Writes a store whose files all contain `text`.
fn write_store(directory: &Path, segment: &str, text: &str) {
    std::fs::create_dir_all(directory.join(segment)).unwrap();
    std::fs::write(directory.join(segment).join("header.bin"), text).unwrap();
    std::fs::write(directory.join(DATABASE), format!("{segment}\n{text}")).unwrap();
}

/// Reads a store as Chroma does: the database names the segment. Fails unless it is complete.
fn read_store(directory: &Path) -> String {
    let database = std::fs::read_to_string(directory.join(DATABASE)).unwrap();
    let (segment, text) = database.split_once('\n').unwrap();
    let header = std::fs::read_to_string(directory.join(segment).join("header.bin")).unwrap();
    assert_eq!(header, text);
    header
}

/// An old store and a new one, in the place of a strategy.
struct Stores {
    parent: tempfile::TempDir,
    dir: PathBuf,
    new: PathBuf,
    kept: PathBuf,
    stamp: Stamp,
    strategy: Strategy,
}

impl Stores {
    fn new(strategy: Strategy) -> Self {
        Self::named(strategy, "store")
    }

    fn named(strategy: Strategy, name: &str) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().canonicalize().unwrap().join(name);
        write_store(&dir, "old-segment", "old");
        let new = temporary::unused_path(workplace(strategy, &dir));
        write_store(&new, "new-segment", "new");
        let stamp = Stamp::unused(&dir, SystemTime::UNIX_EPOCH + TIME).unwrap();
        let kept = stamp.before_repair(&dir, strategy);
        Self {
            parent,
            dir,
            new,
            kept,
            stamp,
            strategy,
        }
    }

    fn swap(&self, after: AfterStep<'_>) -> Result<Vec<OsString>> {
        match self.strategy {
            Strategy::Exchange => {
                exchange_stepwise(&self.new, &self.dir, &self.kept, after).map(|()| Vec::new())
            }
            Strategy::Within(_) => commit_stepwise(
                &self.new,
                &self.dir,
                &["new-segment".into()],
                &["old-segment".into()],
                &self.kept,
                after,
            ),
        }
    }

    /// Swaps up to a step. Returns false if there are fewer steps.
    fn crash_after(&self, steps: usize) -> bool {
        let mut count = 0;
        let crash = &mut |_| {
            count += 1;
            // The process would end here. Nothing catches a panic within.
            assert_ne!(count, steps, "crash");
        };
        catch_unwind(AssertUnwindSafe(|| self.swap(crash).unwrap())).is_err()
    }

    fn undo(&self) -> Vec<String> {
        undo_commands(self.strategy, &self.dir, &self.stamp, Shell::Posix)
    }

    fn names(&self) -> Vec<String> {
        names(self.parent.path())
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[cfg(target_os = "linux")]
/// The directory in which a new store is written.
fn workplace(strategy: Strategy, dir: &Path) -> &Path {
    match strategy {
        Strategy::Exchange => dir.parent().unwrap(),
        Strategy::Within(_) => dir,
    }
}

#[test]
fn an_exchange_leaves_both_stores() {
    let stores = Stores::new(Strategy::Exchange);
    exchange(&stores.new, &stores.dir, &stores.kept).unwrap();
    assert_eq!(read_store(&stores.dir), "new");
    assert_eq!(read_store(&stores.kept), "old");
    assert_eq!(
        stores.names(),
        ["store", "store.before-repair-20240229T123456"]
    );
}

#[test]
fn a_commit_within_moves_the_old_files_away() {
    let stores = Stores::new(WITHIN);
    std::fs::write(stores.dir.join("theirs"), b"x").unwrap();
    for name in ["chroma.sqlite3-wal", "chroma.sqlite3-journal"] {
        std::fs::write(stores.dir.join(name), b"").unwrap();
    }
    let (segments, old) = (
        ["new-segment".into()],
        ["old-segment".into(), "gone".into()],
    );
    let left = commit_within(&stores.new, &stores.dir, &segments, &old, &stores.kept).unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(read_store(&stores.dir), "new");
    assert_eq!(read_store(&stores.kept), "old");
    let kept = [DATABASE, JOURNALS[0], JOURNALS[1], "old-segment"];
    assert_eq!(names(&stores.kept), kept);
    std::fs::remove_dir(&stores.new).unwrap();
    let inside = [
        "before-repair-20240229T123456",
        DATABASE,
        "new-segment",
        "theirs",
    ];
    assert_eq!(names(&stores.dir), inside);
}

/// Every crash before the deciding step leaves the old store, and every later one the new store. The
/// cleanup of a later run removes neither.
fn crash_everywhere(strategy: Strategy, decided_after: usize) -> usize {
    for steps in 1.. {
        let stores = Stores::new(strategy);
        let crashed = stores.crash_after(steps);
        // As a later run cleans up.
        drop(TemporaryDirectory::create_private(workplace(strategy, &stores.dir)).unwrap());
        assert!(!stores.new.exists());
        let expected = if steps < decided_after { "old" } else { "new" };
        assert_eq!(
            read_store(&stores.dir),
            expected,
            "crash after step {steps}"
        );
        if strategy == Strategy::Exchange {
            let other = if steps < decided_after { "new" } else { "old" };
            assert_eq!(read_store(&stores.kept), other, "crash after step {steps}");
        }
        if strategy == WITHIN {
            // The old database is whole wherever it is, and the undo command finds it.
            run(&stores.undo().join("\n"));
            assert_eq!(read_store(&stores.dir), "old", "crash after step {steps}");
        }
        if !crashed {
            return steps - 1;
        }
    }
    unreachable!()
}

#[cfg(target_os = "linux")]
#[test]
fn an_exchange_may_crash_after_any_step() {
    assert_eq!(crash_everywhere(Strategy::Exchange, 2), 2);
}

#[cfg(unix)]
#[test]
fn a_commit_within_may_crash_after_any_step() {
    // A database, a segment, the decision, an old segment.
    assert_eq!(crash_everywhere(WITHIN, 3), 4);
}

#[cfg(target_os = "linux")]
#[test]
fn the_name_always_holds_a_complete_store() {
    let stores = Stores::new(Strategy::Exchange);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut looks = 0_u32;
            while !stop.load(Ordering::Relaxed) || looks == 0 {
                // One lookup, because two could find two stores.
                let database = std::fs::read_to_string(stores.dir.join(DATABASE)).unwrap();
                assert!(["old-segment\nold", "new-segment\nnew"].contains(&&*database));
                looks += 1;
            }
        });
        for _ in 0..200 {
            exchange(&stores.new, &stores.dir, &stores.kept).unwrap();
            std::fs::rename(&stores.kept, &stores.new).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        watch.join().unwrap();
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_process_leaves_a_complete_store() {
    for kill in 0..20 {
        let stores = Stores::new(Strategy::Exchange);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "io::swap::tests::endless_swaps"])
            .env(SWAPPED, &stores.dir)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let has_begun = || {
            stores
                .names()
                .iter()
                .any(|name| name.contains(".before-repair-"))
        };
        while !has_begun() {
            assert!(child.try_wait().unwrap().is_none(), "ended early");
        }
        std::thread::sleep(Duration::from_micros(kill * 773));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(TemporaryDirectory::create_private(stores.parent.path()).unwrap());
        read_store(&stores.dir);
        for name in stores.names() {
            read_store(&stores.parent.path().join(name));
        }
    }
}

/// Started by the test above as a separate process.
#[test]
fn endless_swaps() {
    let Some(dir) = std::env::var_os(SWAPPED).map(PathBuf::from) else {
        return;
    };
    for _ in 0..10_000 {
        let stamp = Stamp::unused(&dir, SystemTime::UNIX_EPOCH + TIME).unwrap();
        let new = TemporaryDirectory::create_private(dir.parent().unwrap()).unwrap();
        write_store(new.path(), "new-segment", "new");
        let kept = stamp.before_repair(&dir, Strategy::Exchange);
        exchange(new.path(), &dir, &kept).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_failed_exchange_changes_nothing() {
    let stores = Stores::new(Strategy::Exchange);
    // Something exists at the name for the old store.
    std::fs::create_dir(&stores.kept).unwrap();
    let error = exchange(&stores.new, &stores.dir, &stores.kept).unwrap_err();
    assert_eq!(error.path(), Some(&*stores.kept), "{error}");
    std::fs::remove_dir(&stores.kept).unwrap();
    // A directory cannot be exchanged with one below it.
    let inside = stores.dir.join("new");
    std::fs::rename(&stores.new, &inside).unwrap();
    let error = exchange(&inside, &stores.dir, &stores.dir.join("kept")).unwrap_err();
    assert_eq!(error.path(), Some(&*stores.dir), "{error}");
    assert_eq!(read_store(&stores.dir), "old");
    assert_eq!(read_store(&inside), "new");
    // A symbolic link would be exchanged itself.
    let link = stores.parent.path().join("link");
    std::os::unix::fs::symlink(&stores.dir, &link).unwrap();
    let error = exchange(&inside, &link, &stores.kept).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
}

#[test]
fn a_failed_commit_within_changes_nothing() {
    for obstacle in [
        "chroma.sqlite3-journal",
        "chroma.sqlite3-wal",
        "new-segment",
        "before-repair-20240229T123456",
    ] {
        let stores = Stores::new(WITHIN);
        std::fs::write(stores.dir.join(obstacle), b"theirs").unwrap();
        let before = names(&stores.dir);
        let error = stores.swap(&mut |_| {}).unwrap_err();
        assert_eq!(error.path(), Some(&*stores.dir.join(obstacle)), "{error}");
        assert_eq!(names(&stores.dir), before);
        assert_eq!(read_store(&stores.dir), "old");
        assert_eq!(read_store(&stores.new), "new");
    }
    // The database comes last, after the segments.
    let stores = Stores::new(WITHIN);
    std::fs::remove_file(stores.new.join(DATABASE)).unwrap();
    let before = names(&stores.dir);
    stores.swap(&mut |_| {}).unwrap_err();
    assert_eq!(names(&stores.dir), before);
    assert!(stores.new.join("new-segment/header.bin").exists());
}

#[test]
fn a_journal_that_appears_during_the_commit_is_refused() {
    let stores = Stores::new(WITHIN);
    let journal = stores.dir.join(JOURNALS[0]);
    let write = &mut |step| {
        if step == "add a segment" {
            std::fs::write(&journal, b"x").unwrap();
        }
    };
    let error = stores.swap(write).unwrap_err();
    assert_eq!(error.path(), Some(&*journal), "{error}");
    assert_eq!(read_store(&stores.dir), "old");
    assert_eq!(read_store(&stores.new), "new");
}

#[cfg(target_os = "linux")]
#[test]
fn a_linked_database_is_kept_as_a_file() {
    // On the same file system, and usually on another, where no hard link can lead.
    for elsewhere in [std::env::temp_dir(), "/dev/shm".into()] {
        let stores = Stores::new(WITHIN);
        let elsewhere = tempfile::tempdir_in(elsewhere).unwrap();
        let outside = elsewhere.path().join("database");
        std::fs::rename(stores.dir.join(DATABASE), &outside)
            .or_else(|_| std::fs::copy(stores.dir.join(DATABASE), &outside).map(drop))
            .unwrap();
        let _ = std::fs::remove_file(stores.dir.join(DATABASE));
        std::os::unix::fs::symlink(&outside, stores.dir.join(DATABASE)).unwrap();
        assert_eq!(read_store(&stores.dir), "old");
        stores.swap(&mut |_| {}).unwrap();
        assert_eq!(read_store(&stores.dir), "new");
        assert_eq!(read_store(&stores.kept), "old");
        assert!(outside.is_file());
        assert_eq!(names(&stores.new), Vec::<String>::new());
        run(&stores.undo().join("\n"));
        assert_eq!(read_store(&stores.dir), "old");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_linked_store_is_exchanged_and_its_link_stays() {
    let stores = Stores::new(Strategy::Exchange);
    let links = tempfile::tempdir().unwrap();
    let link = links.path().join("chroma");
    std::os::unix::fs::symlink(&stores.dir, &link).unwrap();
    assert_eq!(Strategy::of(&link).unwrap(), Strategy::Exchange);
    // The strategy has removed it, because nobody has locked it.
    write_store(&stores.new, "new-segment", "new");
    exchange(&stores.new, &real_path(&link).unwrap(), &stores.kept).unwrap();
    assert_eq!(link.read_link().unwrap(), stores.dir);
    assert_eq!(read_store(&link), "new");
    assert_eq!(names(links.path()), ["chroma"]);
}

#[cfg(target_os = "linux")]
#[test]
fn the_strategy_leaves_nothing_behind() {
    let stores = Stores::new(Strategy::Exchange);
    let before = stores.names();
    assert_eq!(Strategy::of(&stores.dir).unwrap(), Strategy::Exchange);
    // The new store is not in use here, so it counts as a leftover.
    let after: Vec<_> = before
        .into_iter()
        .filter(|name| !name.starts_with('.'))
        .collect();
    assert_eq!(stores.names(), after);
    for (path, reason) in [
        ("/", "root"),
        ("/proc", "mount point"),
        ("/sys/kernel", "created"),
    ] {
        match Strategy::of(Path::new(path)).unwrap() {
            Strategy::Within(found) => assert!(found.contains(reason), "{path}: {found}"),
            found => panic!("{path}: {found:?}"),
        }
    }
}

#[cfg(unix)]
#[test]
fn mounts_are_found_in_the_list() {
    let list = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        23 22 8:1 /a /srv/my\\040store\\134 rw,relatime shared:1 - ext4 /dev/sda1 rw\n";
    for (path, is_listed) in [
        ("/", true),
        ("/srv/my store\\", true),
        ("/srv", false),
        ("/srv/my store\\/x", false),
        ("/a", false),
        ("ext4", false),
    ] {
        assert_eq!(lists_mount(list, Path::new(path)), is_listed, "{path}");
    }
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "mounts file systems: make test-root"]
fn mount_points_are_replaced_within_as_root() {
    for source in [None, Some("source")] {
        let stores = Stores::new(WITHIN);
        let point = stores.parent.path().join("mount point");
        std::fs::create_dir(&point).unwrap();
        let mut mount = Command::new("mount");
        match source {
            // The device of the parent directory.
            Some(_) => mount.arg("--bind").arg(&stores.dir),
            None => mount.args(["-t", "tmpfs", "tmpfs"]),
        };
        assert!(mount.arg(&point).status().unwrap().success());
        let strategy = Strategy::of(&point);
        let mut stores = stores;
        if source.is_none() {
            write_store(&point, "old-segment", "old");
            write_store(&point.join("work"), "new-segment", "new");
            stores.new = point.join("work");
        } else {
            stores.new = point.join(stores.new.file_name().unwrap());
        }
        // The strategy avoids this.
        let beside = stores.parent.path().join("beside");
        std::fs::create_dir(&beside).unwrap();
        let exchanged = exchange(&beside, &point, &point.with_file_name("kept"));
        stores.dir = point.clone();
        stores.kept = stores.stamp.before_repair(&point, WITHIN);
        let left = stores.swap(&mut |_| {});
        let found = (read_store(&point), read_store(&stores.kept));
        run(&stores.undo().join("\n"));
        let undone = read_store(&point);
        assert!(Command::new("umount")
            .arg(&point)
            .status()
            .unwrap()
            .success());
        assert_eq!(strategy.unwrap(), Strategy::Within("it is a mount point"));
        assert!(exchanged.is_err() && beside.exists());
        assert!(left.unwrap().is_empty());
        assert_eq!(found, ("new".into(), "old".into()));
        assert_eq!(undone, "old");
    }
}

#[cfg(unix)]
fn run(commands: &str) {
    // Commands whose work was not done fail.
    Command::new("sh").args(["-c", commands]).output().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn the_undo_commands_restore_the_old_store() {
    for name in ["store", "it's my $(touch x) store", "-rf", "näive\n"] {
        for strategy in [Strategy::Exchange, WITHIN] {
            let stores = Stores::named(strategy, name);
            let commands = stores.undo();
            stores.swap(&mut |_| {}).unwrap();
            if strategy == WITHIN {
                std::fs::remove_dir(&stores.new).unwrap();
            }
            assert_eq!(read_store(&stores.dir), "new");
            let done = Command::new("sh")
                .args(["-c", &commands.join(" && ")])
                .current_dir(stores.parent.path())
                .output()
                .unwrap();
            assert!(done.status.success(), "{commands:?}: {done:?}");
            assert_eq!(read_store(&stores.dir), "old", "{commands:?}");
            assert!(!stores.kept.exists());
            let repaired = stores.stamp.repaired(&stores.dir);
            match strategy {
                Strategy::Exchange => assert_eq!(read_store(&repaired), "new"),
                Strategy::Within(_) => {
                    assert_eq!(names(&stores.dir), [DATABASE, "new-segment", "old-segment"])
                }
            }
        }
    }
}

#[test]
fn undo_commands_are_quoted_for_their_shell() {
    let stamp = Stamp("S".into());
    let commands = |strategy, shell| {
        undo_commands(strategy, Path::new("/data/my store"), &stamp, shell).join("\n")
    };
    assert_eq!(
        commands(Strategy::Exchange, Shell::Posix),
        "mv '/data/my store' '/data/my store.repaired-S'\n\
         mv '/data/my store.before-repair-S' '/data/my store'"
    );
    assert_eq!(
        commands(WITHIN, Shell::Posix),
        "mv -f '/data/my store/before-repair-S'/* '/data/my store'/\n\
         rmdir '/data/my store/before-repair-S'"
    );
    if cfg!(unix) {
        assert_eq!(
            commands(WITHIN, Shell::Cmd),
            "for /d %i in (\"/data/my store/before-repair-S/*\") do move \"%i\" \"/data/my store\"\n\
             move /Y \"/data/my store/before-repair-S/*\" \"/data/my store\"\n\
             rmdir \"/data/my store/before-repair-S\""
        );
    }
}

#[test]
fn a_stamp_avoids_every_used_name() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    std::fs::create_dir(&dir).unwrap();
    let time = SystemTime::UNIX_EPOCH + TIME;
    for (number, used) in [
        "store.before-repair-20240229T123456",
        "store/before-repair-20240229T123456-2",
        "store.without-vectors-20240229T123456-3",
        "store.repaired-20240229T123456-4",
    ]
    .into_iter()
    .enumerate()
    {
        let stamp = Stamp::unused(&dir, time).unwrap();
        let suffix = [String::new(), format!("-{}", number + 1)];
        assert_eq!(stamp.0, format!("20240229T123456{}", suffix[number.min(1)]));
        std::fs::create_dir(parent.path().join(used)).unwrap();
    }
    let stamp = Stamp::unused(&dir, time).unwrap();
    assert_eq!(stamp.0, "20240229T123456-5");
    // A name that is too long for the file system is found before any work.
    let long = parent.path().join("x".repeat(250));
    assert!(Stamp::unused(&long, time).is_err());
}
