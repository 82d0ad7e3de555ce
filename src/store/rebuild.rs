//! Database whose schema is damaged: its tables are recognised by their rows.
//!
//! The schema is a table with its root on page 1, and larger than a page from Chroma 0.5 on. Without
//! it SQLite opens nothing, although the rows are all there.
//!
//! ```text
//! file ── pages of tables to which no other page refers: roots
//!   └── copy, page 1 anew ── each root as a table of nameless columns ── which of SHAPES fits?
//!         └── page 1 anew, with Chroma's tables ── read like any other database
//! ```
//!
//! Of the old schema, only the names and roots of its readable entries are used, never their SQL.
//! Indexes are not restored. Of a table whose root is lost as well, only the largest part is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, Row};

use super::connect::{connect, STEPS_PER_CHECK};
use super::files::{has_magic, DatabaseFiles, MAGIC, SPARE_BYTES};
use super::structure::schema_tree;
use super::trees::{Checker, Page, PageSet};
use super::{failed, integer, is_damage, text, FILE_NAME};
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::io::file::{write_all_at, InputFile};
use crate::io::sparse;
use crate::io::temporary::TemporaryDirectory;

/// Length of the header of the file, on page 1.
const HEADER_BYTES: usize = 100;

/// Bytes read at once: a multiple of every page size.
const BLOCK: usize = 1 << 20;

/// Most roots that are looked at. Chroma's databases have 30; more are parts of a table whose root
/// is lost.
const MAX_ROOTS: usize = 4096;

/// Rows that must fit for a table to be recognised, and rows that are compared if several fit.
const SAMPLE: u32 = 64;
const COMPARED: u32 = 10_000;

/// Columns of the nameless tables: more than any of Chroma's.
const COLUMNS: usize = 10;

/// Longest value that is read, as in [`connect`].
const MAX_VALUE_BYTES: i32 = 16 << 20;

/// A table by the look of its rows.
struct Shape {
    table: &'static str,
    /// For each column: `n` NULL (an alias of the rowid), `u` a UUID, `t` text, `i` an integer, `s` a
    /// sequence number, `*` anything; `T`, `I`, `R` (number) and `B` (BLOB) may be NULL. All further
    /// columns are NULL.
    columns: &'static str,
    /// Condition in SQL on the columns `k0`, `k1` and so on, which are NULL if they are long.
    also: &'static str,
    /// Columns that the table gets. A column of a later migration is NULL.
    create: &'static str,
}

const fn shape(
    table: &'static str,
    columns: &'static str,
    also: &'static str,
    create: &'static str,
) -> Shape {
    Shape {
        table,
        columns,
        also,
        create,
    }
}

const TYPED: &str = "int_value INTEGER, float_value REAL, bool_value INTEGER";
const SCHEMA: &str = "sqlite_schema";
const COLLECTIONS: &str = "collections";
const SEGMENTS: &str = "segments";
const COLLECTION_METADATA: &str = "collection_metadata";
const SEGMENT_METADATA: &str = "segment_metadata";
const METADATA: &str = "embedding_metadata";
const ARRAY: &str = "embedding_metadata_array";
const IS_TOPIC: &str = "k2 LIKE 'persistent://%'";
const IS_CONFIG: &str = "rowid = 1 AND k1 LIKE '%EmbeddingsQueueConfig%'";
const IS_SEGMENT: &str = "k1 LIKE 'urn:chroma:segment/%'";

/// A table comes after the tables that are needed to recognise it.
#[rustfmt::skip]
const SHAPES: [Shape; 18] = [
    shape(SCHEMA, "tttIT", "k0 IN ('table', 'index', 'view', 'trigger')", ""),
    shape(COLLECTIONS, "utIuTT", "",
        "id TEXT, name TEXT NOT NULL, dimension INTEGER, database_id TEXT, config_json_str TEXT, \
         schema_str TEXT"),
    shape(COLLECTIONS, "uttIu", IS_TOPIC,
        "id TEXT, name TEXT NOT NULL, topic TEXT, dimension INTEGER, database_id TEXT"),
    shape(COLLECTIONS, "uttI", IS_TOPIC, "id TEXT, name TEXT NOT NULL, topic TEXT, dimension INTEGER"),
    shape(SEGMENTS, "uttu", IS_SEGMENT, "id TEXT, type TEXT NOT NULL, scope TEXT NOT NULL, collection TEXT"),
    shape(SEGMENTS, "uttTu", IS_SEGMENT,
        "id TEXT, type TEXT NOT NULL, scope TEXT NOT NULL, topic TEXT, collection TEXT"),
    shape("tenants", "t", "", "id TEXT"),
    shape("databases", "utt", "k2 NOT LIKE 'persistent://%'",
        "id TEXT, name TEXT NOT NULL, tenant_id TEXT NOT NULL"),
    shape(COLLECTION_METADATA, "utTIRI", "", "collection_id TEXT, key TEXT NOT NULL, str_value TEXT, "),
    shape(SEGMENT_METADATA, "utTIRI", "", "segment_id TEXT, key TEXT NOT NULL, str_value TEXT, "),
    shape("embeddings", "nuts*", "",
        "id INTEGER PRIMARY KEY, segment_id TEXT NOT NULL, embedding_id TEXT NOT NULL, \
         seq_id BLOB NOT NULL, created_at TIMESTAMP NOT NULL"),
    shape(METADATA, "itTIRI", "", "id INTEGER, key TEXT NOT NULL, string_value TEXT, "),
    shape(ARRAY, "itTIRI", "", "id INTEGER, key TEXT NOT NULL, string_value TEXT, "),
    shape("max_seq_id", "us", "", "segment_id TEXT, seq_id BLOB"),
    shape("migrations", "titTt", "k0 IN ('sysdb', 'metadb', 'embeddings_queue')",
        "dir TEXT NOT NULL, version INTEGER NOT NULL, filename TEXT NOT NULL, sql TEXT NOT NULL, \
         hash TEXT NOT NULL"),
    shape("embeddings_queue", "n*ittBTT", "k3 LIKE 'persistent://%'",
        "seq_id INTEGER PRIMARY KEY, created_at TIMESTAMP NOT NULL, operation INTEGER NOT NULL, \
         topic TEXT NOT NULL, id TEXT NOT NULL, vector BLOB, encoding TEXT, metadata TEXT"),
    shape("embeddings_queue_config", "nT", IS_CONFIG,
        "id INTEGER PRIMARY KEY, config_json_str TEXT"),
    shape("embedding_fulltext_search_content", "nt", "", "id INTEGER PRIMARY KEY, c0"),
];

impl Shape {
    /// The condition on a row.
    fn condition(&self) -> String {
        let mut kinds = self.columns.bytes();
        let columns = (0..COLUMNS).map(|at| {
            let kinds = match kinds.next() {
                None | Some(b'n') => "'null'",
                Some(b'u') => {
                    let uuid = "'________-____-____-____-____________'";
                    return format!("typeof(c{at}) = 'text' AND k{at} LIKE {uuid}");
                }
                Some(b't') => "'text'",
                Some(b'T') => "'text', 'null'",
                Some(b'i') => "'integer'",
                Some(b'I') => "'integer', 'null'",
                Some(b'R') => "'real', 'integer', 'null'",
                Some(b'B') => "'blob', 'null'",
                Some(b's') => "'blob', 'integer'",
                Some(_) => return "TRUE".into(),
            };
            format!("typeof(c{at}) IN ({kinds})")
        });
        let mut all: Vec<_> = columns.collect();
        if !self.also.is_empty() {
            all.push(self.also.into());
        }
        let keys = (0..COLUMNS).rev();
        keys.fold(all.join(" AND "), |sql, at| {
            sql.replace(&format!("k{at}"), &key(at))
        })
    }

    fn create(&self) -> String {
        let typed = if self.create.ends_with(' ') {
            TYPED
        } else {
            ""
        };
        format!("CREATE TABLE {} ({}{typed})", self.table, self.create)
    }
}

/// A column if it is short. A cell of a small file may hold any length (see [`super::pages`]).
fn key(at: usize) -> String {
    format!("CASE WHEN octet_length(c{at}) <= 1024 THEN c{at} END")
}

/// Tables found in place of the schema.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rebuilt {
    /// Tables that were found.
    pub(crate) tables: u64,
    /// Those without rows, whose names are in no readable entry of the schema.
    pub(crate) empty: Vec<&'static str>,
    /// Number of parts of tables to which no page refers any more, by table.
    pub(crate) parts: BTreeMap<&'static str, u64>,
}

/// Connects to a database. If its schema is damaged, it is rebuilt in a copy.
pub(super) fn open(
    files: &mut DatabaseFiles,
    monitor: &Monitor<'_>,
) -> Result<(Connection, Option<Rebuilt>)> {
    let opened = files.check_magic().and_then(|()| connect(files, monitor));
    // SQLite itself has to replay a journal or a write-ahead log first.
    if let Err(error) = &opened {
        if error.kind() != ErrorKind::CorruptDatabase || files.replayed().is_some() {
            return Ok((opened?, None));
        }
    }
    let copied = files.opened()?;
    let file = copied.as_ref().unwrap_or(files.database());
    let layout = Layout::read(file)?;
    let mut known = Vec::new();
    if let Ok(connection) = &opened {
        let checker = Checker::new(
            file,
            layout.page_size.into(),
            layout.reserved.into(),
            monitor,
        );
        let is_sound = match checker {
            Some(mut checker) => checker.check(&schema_tree())?.is_sound(),
            None => true,
        };
        if is_sound {
            return Ok((opened?, None));
        }
        let names = "SELECT name FROM sqlite_schema";
        known = rows(connection, names, |row| text(row, 0)).unwrap_or_default();
    }
    let rebuilder = Rebuilder {
        file,
        layout,
        monitor,
    };
    let found = match rebuilder.rebuild() {
        // The part that SQLite reads is better than nothing.
        Err(error) if opened.is_ok() && error.kind() != ErrorKind::Cancelled => None,
        found => found?,
    };
    let is_more = |tables: &Tables, rebuilt: &Rebuilt| {
        let is_known = |table| known.iter().flatten().any(|name| name == table);
        let mut filled = tables.keys().filter(|table| !rebuilt.empty.contains(table));
        filled.any(|table| !is_known(*table))
    };
    let (copy, rebuilt) = match found {
        Some((copy, tables, rebuilt)) if opened.is_err() || is_more(&tables, &rebuilt) => {
            (copy, rebuilt)
        }
        _ => return Ok((opened?, None)),
    };
    // Before the copy that it may read is removed.
    drop((opened, copied));
    files.set_copy(copy);
    Ok((connect(files, monitor)?, Some(rebuilt)))
}

/// Layout of the file, by its header or as Chroma's are.
#[derive(Clone, Copy, Debug)]
struct Layout {
    page_size: u32,
    reserved: u8,
    /// 1 for UTF-8, 2 and 3 for UTF-16.
    encoding: u8,
}

impl Layout {
    fn read(file: &InputFile) -> Result<Self> {
        let usual = Self {
            page_size: 4096,
            reserved: 0,
            encoding: 1,
        };
        let mut header = [0; HEADER_BYTES];
        if file.len() < header.len() as u64 || !has_magic(file)? {
            return Ok(usual);
        }
        file.read_at(&mut header, 0)?;
        let [.., high, low, _, _, reserved] = *header.first_chunk::<21>().unwrap_or(&[0; 21]);
        let page_size = match u32::from(high) << 8 | u32::from(low) {
            1 => 1 << 16,
            size => size,
        };
        let encoding = header.get(59).copied().unwrap_or_default();
        let is_valid = (512..=1 << 16).contains(&page_size)
            && page_size.is_power_of_two()
            && page_size - u32::from(reserved) >= 480;
        Ok(Self {
            page_size: if is_valid { page_size } else { usual.page_size },
            reserved: if is_valid { reserved } else { 0 },
            encoding: encoding.clamp(1, 3),
        })
    }

    /// Page 1 of a database with an empty schema.
    fn first_page(self, pages: u32) -> Vec<u8> {
        // 1 stands for 65,536 in the first field, and 0 in the other.
        let [.., high, low] = self.page_size.to_be_bytes();
        let size = if self.page_size == 1 << 16 {
            [0, 1]
        } else {
            [high, low]
        };
        let usable = self.page_size - u32::from(self.reserved);
        let [.., high, low] = usable.to_be_bytes();
        // File formats, reserved bytes and the payload fractions; then the change counter. The
        // numbers of a database are in the SQLite file format, section 1.3.
        let mut page = [
            &MAGIC[..],
            &size,
            &[1, 1, self.reserved, 64, 32, 32, 0, 0, 0, 1],
        ]
        .concat();
        page.extend(pages.to_be_bytes());
        // No free pages; cookie 1, format 4.
        page.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4]);
        page.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.encoding]);
        page.resize(95, 0);
        // The page count is valid for this change counter. An empty leaf page of a table follows.
        page.extend([1, 0, 0, 0, 0, 13, 0, 0, 0, 0, high, low, 0]);
        page.resize(usize::try_from(self.page_size).unwrap_or(1 << 16), 0);
        page
    }
}

/// A root, and what its rows look like.
#[derive(Debug, Default)]
struct Root {
    page: u32,
    /// Positions of the shapes in [`SHAPES`]; `None` if no row could be read.
    fits: Option<Vec<usize>>,
    is_empty: bool,
}

impl Root {
    fn shape_of(&self, table: &str) -> Option<usize> {
        let fits = self.fits.iter().flatten();
        let mut of_table = fits.filter(|at| SHAPES.get(**at).is_some_and(|s| s.table == table));
        of_table.next().copied()
    }
}

/// Root and shape by table.
type Tables = BTreeMap<&'static str, (u32, usize)>;

#[derive(Clone, Copy, Debug)]
struct Rebuilder<'f> {
    file: &'f InputFile,
    layout: Layout,
    monitor: &'f Monitor<'f>,
}

impl Rebuilder<'_> {
    /// Returns `None` if the tables of collections and segments cannot be found.
    fn rebuild(&self) -> Result<Option<(TemporaryDirectory, Tables, Rebuilt)>> {
        let size = u64::from(self.layout.page_size);
        // SQLite's limit on the number of pages.
        let pages = u32::try_from(self.file.len() / size).unwrap_or(u32::MAX - 1);
        let roots = self.roots(pages.min(u32::MAX - 1))?;
        if roots.len() < 2 {
            return Ok(None);
        }
        let parent = std::env::temp_dir();
        let len = u64::from(pages) * size;
        let needed = self.file.allocated(len).saturating_add(SPARE_BYTES);
        sparse::check_free_space(&parent, needed, "copy the database there")?;
        let directory = TemporaryDirectory::create_private(&parent)?;
        let path = directory.path().join(FILE_NAME);
        let copy = sparse::copy(self.file, len, &path, self.monitor)?;
        let nameless = roots.iter().map(|root| {
            let columns: Vec<_> = (0..COLUMNS).map(|at| format!("c{at}")).collect();
            let name = format!("t{root}");
            let sql = format!("CREATE TABLE {name} ({})", columns.join(", "));
            (name, *root, sql)
        });
        let nameless = nameless.collect::<Vec<_>>();
        let connection = self.with_schema(&copy, &path, pages, &nameless)?;
        let recogniser = Recogniser {
            connection,
            path: self.file.path(),
            monitor: self.monitor,
        };
        let (tables, rebuilt) = recogniser.tables(&roots)?;
        drop(recogniser);
        if ![COLLECTIONS, SEGMENTS]
            .iter()
            .all(|table| tables.contains_key(table))
        {
            return Ok(None);
        }
        let named = tables.iter().filter_map(|(table, (root, shape))| {
            let shape = SHAPES.get(*shape)?;
            Some(((*table).to_string(), *root, shape.create()))
        });
        let named = named.collect::<Vec<_>>();
        drop(self.with_schema(&copy, &path, pages, &named)?);
        Ok(Some((directory, tables, rebuilt)))
    }

    /// Pages of tables to which no page refers. What page 1 says does not count, so pages of the
    /// schema are among them.
    fn roots(&self, pages: u32) -> Result<Vec<u32>> {
        let [mut tables, mut interior, mut free, mut children] = <[PageSet; 4]>::default();
        let page_size = u64::from(self.layout.page_size);
        let size = usize::try_from(page_size).unwrap_or(BLOCK);
        let usable = size - usize::from(self.layout.reserved);
        let end = u64::from(pages) * page_size;
        let mut block = memory::filled(BLOCK, 0, "search the database for tables")?;
        let mut next = page_size;
        while let Some(data) = self.file.next_data(next, end) {
            next = data.start / page_size * page_size;
            while next < data.end {
                self.monitor.check()?;
                let len = usize::try_from(end - next).map_or(BLOCK, |left| left.min(BLOCK));
                let bytes = block.get_mut(..len).unwrap_or_default();
                self.file.read_at(bytes, next)?;
                for bytes in bytes.chunks_exact(size) {
                    let number = next / page_size + 1;
                    next += page_size;
                    listed_as_free(bytes.get(..usable).unwrap_or_default(), pages, &mut free);
                    let Ok(page) = Page::parse(number, bytes, usable) else {
                        continue;
                    };
                    if page.kind.is_table() {
                        tables.insert(number);
                    }
                    if page.kind.is_table() && !page.kind.is_leaf() {
                        interior.insert(number);
                    }
                }
            }
        }
        let bytes = block.get_mut(..size).unwrap_or_default();
        for number in interior.iter().filter(|page| !free.contains(*page)) {
            self.monitor.check()?;
            self.file.read_at(bytes, (number - 1) * page_size)?;
            let Ok(page) = Page::parse(number, bytes, usable) else {
                continue;
            };
            let cells = (0..page.cells).filter_map(|at| page.cell(at).ok()?.child);
            for child in cells.chain(page.right_child()) {
                children.insert(child.into());
            }
        }
        let is_root = |page: &u64| *page > 1 && !free.contains(*page) && !children.contains(*page);
        let roots = tables.iter().filter(is_root);
        Ok(roots
            .filter_map(|page| u32::try_from(page).ok())
            .take(MAX_ROOTS)
            .collect())
    }

    /// Replaces the schema of the copy.
    fn with_schema(
        &self,
        copy: &File,
        path: &Path,
        pages: u32,
        entries: &[(String, u32, String)],
    ) -> Result<Connection> {
        let written = copy.set_len(u64::from(pages) * u64::from(self.layout.page_size));
        let written = written.and_then(|()| write_all_at(copy, &self.layout.first_page(pages), 0));
        written.map_err(Error::io(
            path,
            "write the schema of the copy of the database",
        ))?;
        let fill = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX
                | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
            let mut connection = Connection::open_with_flags(path, flags)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
            connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)?;
            if let Some(token) = self.monitor.token() {
                connection.progress_handler(STEPS_PER_CHECK, Some(move || token.is_cancelled()))?;
            }
            connection.execute_batch(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; \
                 PRAGMA cell_size_check = ON; PRAGMA writable_schema = ON; BEGIN",
            )?;
            let mut insert =
                connection.prepare("INSERT INTO sqlite_schema VALUES ('table', ?1, ?1, ?2, ?3)")?;
            for entry in entries {
                insert.execute((&entry.0, entry.1, &entry.2))?;
            }
            drop(insert);
            connection.execute_batch("COMMIT; PRAGMA writable_schema = RESET")?;
            Ok(connection)
        };
        fill().map_err(|error| failed(self.file.path(), error))
    }
}

/// Inserts the pages that a page of the list of free pages lists: the number of the next such page,
/// the number of those listed, and their numbers. They may have the content of former tables.
fn listed_as_free(page: &[u8], pages: u32, free: &mut PageSet) {
    let mut numbers = page
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| u32::from_be_bytes(*bytes));
    let (Some(next), Some(count)) = (numbers.next(), numbers.next()) else {
        return;
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let listed = numbers.clone().take(count);
    let are_valid = next <= pages && listed.clone().all(|page| (2..=pages).contains(&page));
    if are_valid && count <= numbers.len() {
        for page in listed {
            free.insert(page.into());
        }
    }
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> T,
) -> rusqlite::Result<Vec<T>> {
    let mut read = read;
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok(read(row)))?;
    rows.collect()
}

/// Recognises tables in a copy whose schema has each root as a nameless table.
struct Recogniser<'f> {
    connection: Connection,
    path: &'f Path,
    monitor: &'f Monitor<'f>,
}

impl Recogniser<'_> {
    /// Rows of a query; `None` if the pages that it needs cannot be read.
    fn query<T>(&self, sql: &str, read: impl FnMut(&Row<'_>) -> T) -> Result<Option<Vec<T>>> {
        self.monitor.check()?;
        match rows(&self.connection, sql, read) {
            Ok(rows) => Ok(Some(rows)),
            Err(error) if is_damage(&error) => Ok(None),
            Err(error) => Err(failed(self.path, error)),
        }
    }

    /// The first column of the only row, as a number.
    fn number(&self, sql: &str) -> Result<Option<i64>> {
        let found = self.query(sql, |row| integer(row, 0))?;
        Ok(found.and_then(|rows| rows.first().copied().flatten()))
    }

    fn tables(&self, pages: &[u32]) -> Result<(Tables, Rebuilt)> {
        let conditions = SHAPES.iter().enumerate();
        let conditions = conditions.map(|(at, shape)| format!("({}) AS s{at}", shape.condition()));
        let conditions = conditions.collect::<Vec<_>>().join(", ");
        let sums = (0..SHAPES.len()).map(|at| format!("sum(s{at} IS TRUE)"));
        let sums = sums.collect::<Vec<_>>().join(", ");
        let mut roots = Vec::new();
        for page in pages {
            roots.push(self.root(*page, &conditions, &sums)?);
        }
        let mut tables = self.listed(&roots)?;
        let mut rebuilt = Rebuilt::default();
        for shape in SHAPES.iter().filter(|shape| shape.table != SCHEMA) {
            let table = shape.table;
            let is_taken = |page| tables.values().any(|(taken, _)| *taken == page);
            let mut found = Vec::new();
            for root in roots.iter().filter(|root| !is_taken(root.page)) {
                let Some(at) = root.shape_of(table) else {
                    continue;
                };
                if let Some(rank) = self.rank(table, root.page, &tables)? {
                    found.push((rank, std::cmp::Reverse(root.page), at));
                }
            }
            found.sort_unstable();
            if !tables.contains_key(table) {
                if let Some((_, page, at)) = found.pop() {
                    tables.insert(table, (page.0, at));
                }
            }
            let Some((chosen, _)) = tables.get(table).copied() else {
                continue;
            };
            // Rows of two tables have the same numbers; rows of two parts of one never do.
            for (_, page, at) in found {
                if self.is_apart(chosen, page.0)? {
                    *rebuilt.parts.entry(table).or_default() += 1;
                } else if table == METADATA && !tables.contains_key(ARRAY) {
                    tables.insert(ARRAY, (page.0, at + 1));
                }
            }
        }
        // An empty table has an empty root.
        let is_taken = |root: &&Root| tables.values().any(|(taken, _)| *taken == root.page);
        let unused = roots.iter().filter(|root| root.is_empty && !is_taken(root));
        let mut unused = unused.map(|root| root.page).collect::<Vec<_>>().into_iter();
        for (at, shape) in SHAPES.iter().enumerate() {
            // Nothing would be left of a store without these.
            let is_needed = [SCHEMA, COLLECTIONS, SEGMENTS].contains(&shape.table);
            if !is_needed && !tables.contains_key(shape.table) {
                let Some(page) = unused.next() else { break };
                tables.insert(shape.table, (page, at));
                rebuilt.empty.push(shape.table);
            }
        }
        rebuilt.tables = tables.len() as u64;
        Ok((tables, rebuilt))
    }

    fn root(&self, page: u32, conditions: &str, sums: &str) -> Result<Root> {
        let mut root = Root {
            page,
            ..Root::default()
        };
        // From the end, if the first rows cannot be read.
        for order in ["", "ORDER BY rowid DESC"] {
            let sql = format!(
                "SELECT count(*), {sums} FROM (SELECT {conditions} FROM t{page} {order} \
                 LIMIT {SAMPLE})"
            );
            let found = self.query(&sql, |row| {
                let count = integer(row, 0);
                let fits = (0..SHAPES.len()).filter(|at| integer(row, at + 1) == count);
                (count == Some(0), fits.collect::<Vec<_>>())
            })?;
            if let Some((is_empty, fits)) = found.and_then(|rows| rows.into_iter().next()) {
                root.is_empty = is_empty;
                root.fits = (!is_empty).then_some(fits);
                break;
            }
        }
        Ok(root)
    }

    /// The tables that readable pages of the schema list, unless their rows are of another table.
    fn listed(&self, roots: &[Root]) -> Result<Tables> {
        let mut tables = Tables::new();
        for schema in roots.iter().filter(|root| root.shape_of(SCHEMA).is_some()) {
            let page = schema.page;
            // A condition would not count towards the limit, and damaged pages may form a cycle.
            let sql = format!(
                "SELECT {}, c3, {} FROM t{page} LIMIT {COMPARED}",
                key(1),
                key(0)
            );
            let listed = self.query(&sql, |row| {
                let entry = (text(row, 0)?, integer(row, 1)?);
                (text(row, 2)? == "table").then_some(entry)
            })?;
            for (name, page) in listed.into_iter().flatten().flatten() {
                let is_of = |shape: &Shape| shape.table != SCHEMA && shape.table == name;
                let Some(at) = SHAPES.iter().position(is_of) else {
                    continue;
                };
                let root = roots.iter().find(|root| i64::from(root.page) == page);
                let (Some(root), Some(shape)) = (root, SHAPES.get(at)) else {
                    continue;
                };
                match root.shape_of(shape.table) {
                    Some(at) => tables.insert(shape.table, (root.page, at)),
                    None if root.fits.is_none() && !tables.contains_key(shape.table) => {
                        tables.insert(shape.table, (root.page, at))
                    }
                    None => continue,
                };
            }
        }
        Ok(tables)
    }

    /// A number that is higher the more likely the table has this root; `None` if it has not.
    fn rank(&self, table: &str, page: u32, tables: &Tables) -> Result<Option<i64>> {
        let owners = match table {
            COLLECTION_METADATA => Some(COLLECTIONS),
            SEGMENT_METADATA => Some(SEGMENTS),
            _ => None,
        };
        if let Some(owners) = owners {
            let Some((owners, _)) = tables.get(owners) else {
                return Ok(None);
            };
            let sql = format!(
                "SELECT 1 FROM (SELECT {id} AS id FROM t{page} LIMIT {COMPARED}) \
                 WHERE id IN (SELECT {id} FROM t{owners} LIMIT {COMPARED}) LIMIT 1",
                id = key(0)
            );
            if self.number(&sql)?.is_none() {
                return Ok(None);
            }
        }
        if [METADATA, ARRAY].contains(&table) {
            // An array has a row for each of its elements.
            let sql = format!(
                "SELECT 1 FROM (SELECT {} AS id, {} AS k FROM t{page} LIMIT {COMPARED}) \
                 WHERE id + k IS NOT NULL GROUP BY id, k HAVING count(*) > 1 LIMIT 1",
                key(0),
                key(1)
            );
            if self.number(&sql)?.is_some() != (table == ARRAY) {
                return Ok(None);
            }
        }
        let weight = match table {
            METADATA => format!("1 + 1000000 * ({} IS 'chroma:document')", key(1)),
            _ => "1".into(),
        };
        let sql =
            format!("SELECT sum(w) FROM (SELECT {weight} AS w FROM t{page} LIMIT {COMPARED})");
        Ok(Some(self.number(&sql)?.unwrap_or_default()))
    }

    /// Returns true if all rows of one root have higher numbers than all of the other.
    fn is_apart(&self, page: u32, other: u32) -> Result<bool> {
        let mut ends = Vec::new();
        for page in [page, other] {
            for order in ["ASC", "DESC"] {
                let sql = format!("SELECT rowid FROM t{page} ORDER BY rowid {order} LIMIT 1");
                ends.push(self.number(&sql)?);
            }
        }
        let ends = ends.into_iter().collect::<Option<Vec<_>>>();
        Ok(match ends.as_deref() {
            Some([first, last, other_first, other_last]) => {
                last < other_first || other_last < first
            }
            _ => true,
        })
    }
}
