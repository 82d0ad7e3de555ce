//! Damages each page of `chroma.sqlite3` in turn: an export that differs must report it.
//!
//! A fault is unnoticed if the export differs without an additional finding. Tests damage a sample
//! of the pages; `make sweep` damages every page. Each prints its counts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use hnsw_toolbox::{
    export_collections, list_collections, CollectionFilter, CollectionFinding, ColumnarFormat,
    ExportOptions, ExportSummary, Monitor,
};
use rusqlite::Connection;

use crate::support::persist::PersistFixture;
use crate::support::table::Cell;
use crate::support::Random;

const PAGE: usize = 4096;

/// The large tables that exports read.
const READ: [&str; 3] = ["embeddings", "embedding_metadata", "embeddings_queue"];

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

/// Content of an export: one hash per collection.
type Contents = BTreeMap<(String, String, String), (u64, String)>;

/// A store whose pages are damaged and restored.
struct Store {
    fixture: PersistFixture,
    output: tempfile::TempDir,
    sound: Vec<u8>,
    pages: Vec<Page>,
    expected: Contents,
    /// Findings of the intact export.
    known: BTreeSet<(String, u64)>,
}

/// Outcomes of the faults of one kind.
#[derive(Debug, Default)]
struct Counts {
    faults: u64,
    refused: u64,
    /// Exports that differ and report it.
    reported: u64,
    /// Exports without a difference.
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

    /// Exports the store with these pages in place of the intact ones.
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

    /// About `usual` of the pages, the same in each run; or all of them.
    fn sample<'s>(&'s self, usual: usize, fits: impl Fn(&Page) -> bool) -> Vec<&'s Page> {
        let pages: Vec<_> = self.pages.iter().filter(|page| fits(page)).collect();
        let step = swept(pages.len().div_ceil(usual), 1);
        // Roots are the pages most easily forgotten.
        let is_root = |page: &Page| page.kind == "internal" && READ.contains(&page.owner.as_str());
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

/// `all` for `make sweep`, else `usual`.
fn swept(usual: usize, all: usize) -> usize {
    match std::env::var_os("HNSW_TOOLBOX_SWEEP") {
        Some(_) => all,
        None => usual,
    }
}

const STORE: &str = "1.5.9";

#[test]
fn zeroed_pages_are_noticed() {
    let store = Store::open(STORE);
    let mut counts = Counts::default();
    for page in store.sample(12, |_| true) {
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
    for page in store.sample(12, Page::is_tree) {
        let bytes = with_cells(&store, page, |_| 0);
        store.damage("emptied", &[(page, bytes)], &mut counts);
    }
    counts.assert_noticed("emptied");
}

#[test]
fn pages_without_half_of_their_cells_are_noticed() {
    let store = Store::open(STORE);
    let mut counts = Counts::default();
    for page in store.sample(12, Page::is_tree) {
        let bytes = with_cells(&store, page, |cells| cells / 2);
        store.damage("halved", &[(page, bytes)], &mut counts);
    }
    counts.assert_noticed("halved");
}

/// As written by SQLite: the page itself does not show that it held anything.
#[test]
fn consistently_empty_pages_are_noticed() {
    let store = Store::open(STORE);
    let mut counts = Counts::default();
    for page in store.sample(12, |page| page.kind == "leaf") {
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
    let others = swept(1, 2);
    for page in store.sample(8, |page| page.number > 1 && page.kind != "free") {
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

/// Codes of the findings about a store and one of its collections.
fn all_codes(summary: &ExportSummary) -> BTreeSet<String> {
    reported(summary)
        .into_iter()
        .map(|(code, _)| code)
        .collect()
}

/// Overwrites pages of a database permanently.
fn overwrite(fixture: &PersistFixture, pages: &[(u64, Vec<u8>)]) {
    let mut bytes = std::fs::read(fixture.database()).unwrap();
    for (number, page) in pages {
        bytes[(*number as usize - 1) * PAGE..][..PAGE].copy_from_slice(page);
    }
    std::fs::write(fixture.database(), bytes).unwrap();
}

fn numbers(fixture: &PersistFixture, owner: &str, kind: &str) -> Vec<u64> {
    let pages = pages_of(&fixture.database()).into_iter();
    pages
        .filter(|page| page.owner == owner && page.kind == kind)
        .map(|page| page.number)
        .collect()
}

/// Replaces the root of `embedding_metadata` with a page without cells, as after a lost write.
fn empty_metadata_root(fixture: &PersistFixture) {
    let root = numbers(fixture, "embedding_metadata", "internal")[0];
    let mut page =
        std::fs::read(fixture.database()).unwrap()[(root as usize - 1) * PAGE..][..PAGE].to_vec();
    page[3..5].fill(0);
    overwrite(fixture, &[(root, page)]);
}

#[test]
fn documents_come_from_the_copy_if_metadata_is_lost() {
    let fixture = PersistFixture::unpack(STORE);
    let (_, before) = super::export(&fixture.dir(), "articles");
    empty_metadata_root(&fixture);
    let (summary, after) = super::export(&fixture.dir(), "articles");
    for column in ["id", "vector", "document"] {
        assert_eq!(after.column(column), before.column(column), "{column}");
    }
    let codes = all_codes(&summary);
    for code in ["database-damaged", "metadata-damaged", "document-copied"] {
        assert!(codes.contains(code), "{code}: {codes:?}");
    }
}

#[test]
fn copies_that_differ_from_a_document_are_not_used() {
    let fixture = PersistFixture::unpack(STORE);
    let (_, before) = super::export(&fixture.dir(), "articles");
    let leaves = numbers(&fixture, "embedding_metadata", "leaf");
    // The copy of an undamaged document has another text, as in a store of Chroma 0.4.5.
    let database = Connection::open(fixture.database()).unwrap();
    let last = "SELECT max(id) FROM embedding_metadata WHERE key = 'chroma:document'";
    let changed = database
        .execute(
            &format!("UPDATE embedding_fulltext_search_content SET c0 = 'x' WHERE id = ({last})"),
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
    drop(database);
    let lost: Vec<_> = leaves[..leaves.len() / 2]
        .iter()
        .map(|page| (*page, vec![0; PAGE]))
        .collect();
    overwrite(&fixture, &lost);
    let (summary, after) = super::export(&fixture.dir(), "articles");
    assert!(!all_codes(&summary).contains("document-copied"));
    let pairs = before
        .column("document")
        .iter()
        .zip(after.column("document"));
    let lost = pairs.filter(|(before, after)| before != after).count();
    let nulls = after
        .column("document")
        .iter()
        .filter(|cell| **cell == Cell::Null);
    assert!(lost > 0 && nulls.count() >= lost, "{lost} documents lost");
    let damaged = summary.files[0].findings.iter();
    let damaged: Vec<_> = damaged
        .filter(|finding| finding.code == "metadata-damaged")
        .collect();
    assert!(damaged[0].count >= lost as u64, "{damaged:?}");
}

#[test]
fn collections_lost_with_a_page_are_found_elsewhere() {
    let fixture = PersistFixture::unpack(STORE);
    let sound = std::fs::read(fixture.database()).unwrap();
    let options = CollectionFilter::default();
    let list = || list_collections(fixture.dir(), &options, &Monitor::default()).unwrap();
    let by_id = |list: hnsw_toolbox::CollectionList| -> BTreeMap<String, (String, u64)> {
        let collections = list.collections.into_iter();
        collections.map(|c| (c.id, (c.name, c.records))).collect()
    };
    let before = by_id(list());
    let leaves = numbers(&fixture, "collections", "leaf");
    let indexes = [
        "sqlite_autoindex_collections_1",
        "sqlite_autoindex_collections_2",
    ];
    let indexes = indexes.map(|name| numbers(&fixture, name, "leaf")[0]);
    for leaf in leaves {
        overwrite(&fixture, &[(leaf, vec![0; PAGE])]);
        let listed = list();
        assert!(listed
            .findings
            .iter()
            .any(|found| found.code == "database-damaged"));
        let is_lost = |collection: &&hnsw_toolbox::CollectionReport| {
            let mut codes = collection.findings.iter().map(|finding| finding.code);
            codes.any(|code| code == "collection-damaged")
        };
        assert!(listed
            .collections
            .iter()
            .any(|collection| is_lost(&collection)));
        assert_eq!(by_id(listed), before);

        // Without the indexes, names are lost, and all collections with a segment are listed.
        let pages = indexes.map(|index| (index, vec![0; PAGE]));
        overwrite(&fixture, &pages);
        let listed = list();
        for collection in listed.collections.iter().filter(is_lost) {
            assert_eq!(collection.name, collection.id);
        }
        let ids = |list: &BTreeMap<String, (String, u64)>| list.keys().cloned().collect::<Vec<_>>();
        assert_eq!(ids(&by_id(listed)), ids(&before));
        std::fs::write(fixture.database(), &sound).unwrap();
    }
}

#[test]
fn ids_in_a_page_of_another_segment_are_not_exported() {
    let fixture = PersistFixture::unpack(STORE);
    let sound = std::fs::read(fixture.database()).unwrap();
    let page = |number: u64| sound[(number as usize - 1) * PAGE..][..PAGE].to_vec();
    let ids = |fixture: &PersistFixture, name: &str| -> Vec<String> {
        let (_, table) = super::export(&fixture.dir(), name);
        let mut ids: Vec<_> = table
            .column("id")
            .iter()
            .map(|id| format!("{id:?}"))
            .collect();
        ids.sort();
        ids
    };
    let names = ["articles", "wal_purged", "ip_default"];
    let before = names.map(|name| ids(&fixture, name));
    let leaves = numbers(&fixture, "sqlite_autoindex_embeddings_1", "leaf");
    let table = numbers(&fixture, "embeddings", "leaf");
    for (first, second) in [(5, leaves.len() - 5), (10, leaves.len() / 2)] {
        let (first, second) = (leaves[first], leaves[second]);
        let lost = (table[table.len() / 3], vec![0; PAGE]);
        overwrite(
            &fixture,
            &[(first, page(second)), (second, page(first)), lost],
        );
        for (name, before) in names.iter().zip(&before) {
            let after = ids(&fixture, name);
            let mut once = after.clone();
            once.dedup();
            assert_eq!(once, after, "{name}");
            assert!(after.iter().all(|id| before.contains(id)), "{name}");
        }
        std::fs::write(fixture.database(), &sound).unwrap();
    }
}
