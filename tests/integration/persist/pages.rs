//! Every page of `chroma.sqlite3` damaged in turn: an export that differs from the sound one says so.
//!
//! A fault is unnoticed if the export differs and reports nothing that the sound export does not
//! report. Each test prints its counts (`cargo test pages -- --nocapture`). Usually a sample of the
//! pages is damaged; with `HNSW_TOOLBOX_TESTS=all`, every page is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use hnsw_toolbox::{
    export_collections, CollectionFinding, ColumnarFormat, ExportOptions, ExportSummary, Monitor,
};
use rusqlite::Connection;

use crate::support::persist::PersistFixture;
use crate::support::{extent, Random};

const PAGE: usize = 4096;

/// One page of a database.
#[derive(Clone, Debug)]
struct Page {
    number: u64,
    owner: String,
    kind: String,
}

impl Page {
    fn is_tree(&self) -> bool {
        matches!(self.kind.as_str(), "internal" | "leaf")
    }

    /// Offset of the page header in the page.
    fn header(&self) -> usize {
        match self.number {
            1 => 100,
            _ => 0,
        }
    }
}

/// What an export holds: a hash by collection.
type Contents = BTreeMap<(String, String, String), (u64, String)>;

/// A store whose pages are damaged and restored.
struct Store {
    fixture: PersistFixture,
    output: tempfile::TempDir,
    sound: Vec<u8>,
    pages: Vec<Page>,
    expected: Contents,
    /// What the sound export reports.
    known: BTreeSet<(String, u64)>,
}

/// What became of the faults of one kind.
#[derive(Debug, Default)]
struct Counts {
    faults: u64,
    refused: u64,
    /// Exports that differ and say so.
    reported: u64,
    /// Exports that do not differ.
    same: u64,
    unnoticed: Vec<String>,
}

fn contents(summary: &ExportSummary) -> Contents {
    let files = summary.files.iter().map(|file| {
        let place = (
            file.tenant.clone(),
            file.database.clone(),
            file.collection.clone(),
        );
        (place, (file.rows, file.sha256.clone()))
    });
    files.collect()
}

fn reported(summary: &ExportSummary) -> BTreeSet<(String, u64)> {
    let of = |finding: &CollectionFinding| (finding.code.to_string(), finding.count);
    let of_files = summary.files.iter().flat_map(|file| &file.findings);
    summary.findings.iter().chain(of_files).map(of).collect()
}

fn pages_of(database: &Path) -> Vec<Page> {
    let connection = Connection::open(database).unwrap();
    let count: u64 = connection
        .query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))
        .unwrap() as u64;
    let mut statement = connection
        .prepare("SELECT pageno, name, pagetype FROM dbstat")
        .unwrap();
    let owned = statement
        .query_map([], |row| {
            Ok(Page {
                number: row.get::<_, i64>(0)? as u64,
                owner: row.get(1)?,
                kind: row.get(2)?,
            })
        })
        .unwrap();
    let owned: BTreeMap<_, _> = owned
        .map(|page| page.unwrap())
        .map(|page| (page.number, page))
        .collect();
    let page = |number| match owned.get(&number) {
        Some(page) => page.clone(),
        None => Page {
            number,
            owner: "free".into(),
            kind: "free".into(),
        },
    };
    (1..=count).map(page).collect()
}

impl Store {
    fn open(name: &str) -> Self {
        let fixture = PersistFixture::unpack(name);
        let mut store = Self {
            sound: std::fs::read(fixture.database()).unwrap(),
            pages: pages_of(&fixture.database()),
            fixture,
            output: tempfile::tempdir().unwrap(),
            expected: Contents::new(),
            known: BTreeSet::new(),
        };
        let summary = store.export().unwrap();
        store.expected = contents(&summary);
        store.known = reported(&summary);
        store
    }

    fn target(&self) -> PathBuf {
        self.output.path().join("out")
    }

    fn export(&self) -> hnsw_toolbox::Result<ExportSummary> {
        let options = ExportOptions::default().with_format(ColumnarFormat::ArrowIpc);
        let monitor = Monitor::default();
        let target = self.target();
        let summary = export_collections(self.fixture.dir(), &target, &options, &monitor);
        if target.exists() {
            std::fs::remove_dir_all(&target).unwrap();
        }
        summary
    }

    fn page(&self, page: &Page) -> Vec<u8> {
        self.sound[(page.number as usize - 1) * PAGE..][..PAGE].to_vec()
    }

    /// Exports the store with these pages in the place of the sound ones.
    fn damage(&self, name: &str, pages: &[(&Page, Vec<u8>)], counts: &mut Counts) {
        let write = |changed: bool| {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .open(self.fixture.database())
                .unwrap();
            for (page, bytes) in pages {
                let at = (page.number as usize - 1) * PAGE;
                file.seek(SeekFrom::Start(at as u64)).unwrap();
                let sound = &self.sound[at..][..PAGE];
                file.write_all(if changed { bytes } else { sound }).unwrap();
            }
        };
        write(true);
        let result = self.export();
        write(false);
        counts.faults += 1;
        match result {
            Err(_) => counts.refused += 1,
            Ok(summary) if contents(&summary) == self.expected => counts.same += 1,
            Ok(summary) if !reported(&summary).is_subset(&self.known) => counts.reported += 1,
            Ok(_) => {
                let what = |(page, _): &(&Page, Vec<u8>)| {
                    format!("{} ({} {})", page.number, page.owner, page.kind)
                };
                let pages: Vec<_> = pages.iter().map(what).collect();
                counts
                    .unnoticed
                    .push(format!("{name} {}", pages.join(" and ")));
            }
        }
    }

    /// About `usual` of the pages, the same in each run, or all.
    fn sample<'s>(&'s self, usual: usize, fits: impl Fn(&Page) -> bool) -> Vec<&'s Page> {
        let pages: Vec<_> = self.pages.iter().filter(|page| fits(page)).collect();
        let step = extent(pages.len().div_ceil(usual), 1);
        // Pages that are alone in their tree are the likeliest to be forgotten.
        let is_root = |page: &Page| {
            let owned = self.pages.iter().filter(|other| other.owner == page.owner);
            owned.count() == 1
        };
        let chosen = |(at, page): &(usize, &'s Page)| at % step == 0 || is_root(page);
        let pages = pages.into_iter().enumerate().filter(chosen);
        pages.map(|(_, page)| page).collect()
    }
}

impl Counts {
    fn print(&self, kind: &str) {
        println!(
            "{kind}: {} faults, {} refused, {} reported, {} without an effect, {} unnoticed",
            self.faults,
            self.refused,
            self.reported,
            self.same,
            self.unnoticed.len()
        );
        for unnoticed in &self.unnoticed {
            println!("  {unnoticed}");
        }
    }

    fn assert_noticed(&self, kind: &str) {
        self.print(kind);
        assert!(self.faults > 10);
        assert!(self.unnoticed.is_empty(), "{:#?}", self.unnoticed);
    }
}

const STORE: &str = "1.5.9";

#[test]
fn zeroed_pages_are_noticed() {
    let store = Store::open(STORE);
    let mut counts = Counts::default();
    for page in store.sample(30, |_| true) {
        store.damage("zeroed", &[(page, vec![0; PAGE])], &mut counts);
    }
    counts.assert_noticed("zeroed");
}

fn with_cells(store: &Store, page: &Page, change: impl Fn(u16) -> u16) -> Vec<u8> {
    let mut bytes = store.page(page);
    let at = page.header() + 3;
    let cells = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    bytes[at..at + 2].copy_from_slice(&change(cells).to_be_bytes());
    bytes
}

#[test]
fn emptied_pages_are_noticed() {
    let store = Store::open(STORE);
    let mut counts = Counts::default();
    for page in store.sample(30, Page::is_tree) {
        let bytes = with_cells(&store, page, |_| 0);
        store.damage("emptied", &[(page, bytes)], &mut counts);
    }
    counts.assert_noticed("emptied");
}

#[test]
fn pages_that_lost_half_their_cells_are_noticed() {
    let store = Store::open(STORE);
    let mut counts = Counts::default();
    for page in store.sample(30, Page::is_tree) {
        let bytes = with_cells(&store, page, |cells| cells / 2);
        store.damage("halved", &[(page, bytes)], &mut counts);
    }
    counts.assert_noticed("halved");
}

/// As written by SQLite: nothing in the page tells that it held anything.
#[test]
fn pages_that_are_empty_in_themselves_are_noticed() {
    let store = Store::open(STORE);
    let mut counts = Counts::default();
    for page in store.sample(30, |page| page.kind == "leaf") {
        let mut bytes = store.page(page);
        let header = page.header();
        bytes[header + 1..].fill(0);
        bytes[header + 5..header + 7].copy_from_slice(&(PAGE as u16).to_be_bytes());
        store.damage("cleared", &[(page, bytes)], &mut counts);
    }
    counts.assert_noticed("cleared");
}

#[test]
fn swapped_pages_are_noticed() {
    let store = Store::open(STORE);
    let mut counts = Counts::default();
    let mut random = Random(5);
    let mut swap = |first: &Page, second: &Page| {
        let pages = [(first, store.page(second)), (second, store.page(first))];
        store.damage("swapped", &pages, &mut counts);
    };
    let others = extent(1, 2);
    for page in store.sample(20, |page| page.number > 1 && page.kind != "free") {
        let of_kind: Vec<_> = store
            .pages
            .iter()
            .filter(|other| other.number > 1 && other.kind == page.kind)
            .collect();
        let at = of_kind.iter().position(|other| other.number == page.number);
        let successor = of_kind[(at.unwrap() + 1) % of_kind.len()];
        swap(page, successor);
        for _ in 0..others {
            swap(page, of_kind[random.next() as usize % of_kind.len()]);
        }
    }
    counts.assert_noticed("swapped");
}
