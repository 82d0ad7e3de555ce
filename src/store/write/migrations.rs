//! Migrations of a database, which are also its schema.
//!
//! From 1.0 on, Chroma compares version, hash and SQL of each row of `migrations` with its own
//! files, and refuses to start on any difference. So these rows are copied from a database that
//! Chroma made. Running their SQL gives Chroma's own tables, with its order of columns. It is run
//! only if its SHA-256 is one of those below: any other text may be a stranger's program.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::super::{integer, text, text_ref, Database};
use super::failed;
use crate::base::progress::Monitor;
use crate::error::Result;

const TABLE: &str = "migrations";

/// Creates the table of migrations, as Chroma's own code does.
const CREATE: &str = "CREATE TABLE migrations (
                dir TEXT NOT NULL,
                version INTEGER NOT NULL,
                filename TEXT NOT NULL,
                sql TEXT NOT NULL,
                hash TEXT NOT NULL,
                PRIMARY KEY (dir, version)
            )";

/// The lock table of Chroma 1.0 and later, which is in no migration.
const CREATE_LOCK: &str = "CREATE TABLE acquire_write (
                id INTEGER PRIMARY KEY,
                lock_status INTEGER NOT NULL
            )";

/// The command that makes an empty store of the Chroma that runs it.
pub(crate) const MAKE_TEMPLATE: &str =
    "python -c \"import chromadb; chromadb.PersistentClient('empty')\"";

/// SHA-256 of the SQL of every migration up to Chroma 1.5, in the order in which Chroma runs them.
const KNOWN: [(&str, &[&str]); 3] = [
    (
        "sysdb",
        &[
            "dfa5720fb290880c9a7abac9262024cd32da703a312471b5d64eb29613a055bd",
            "e459a7f668f9c9a38562e92211feeccc4549d5a04aca2972397291496d564a1c",
            "465c9dd473bf084e6acddcfd15c2587ecaf325b3043af49aaec87e4006bde8f3",
            "0da5897ebd71a72ee540c1011265671f5ef6eb21da9eaaa1e58408d8a0480dc3",
            "60a348031c4bcf98d611ca6362fa8b754cc854463ba65258aab366327a237343",
            "5768db7d49f555920dacc7012f173cfdd2eb4c3f71af910d3fd653661105a694",
            "e787b736706f173e9b279505e0e7027f57a27031dfe7668a167677030715d5b9",
            "66ad31eefddd3070be27963a053319f0fe9003e5dd1f38b50c42e2ed970812ad",
            "b5564781c2b24dfdc79024a2e8f17ad9830127cc9b43876d9428757c093bc99e",
            "38b8b08790d290caff0043129e71e983cb15c4cb0980773d8bb39d5855c1d5d6",
        ],
    ),
    (
        "metadb",
        &[
            "0e7477e62bd40830f28f9986f0703597817877503044324efe8c9ecc85392845",
            "337de70bb89c42bf01747642fbe9310f8ce38635ab50f2ce82ee98ac664e759b",
            "13fd5839823c8f1e236431c2f716a0aef02c5bfd80c35c15963496924ea8dda4",
            "46e874a3bf99ae95611fd8f781b9aecccc8979dc4e06c91e86a6b56dac378443",
            "363f44b68fcda609e239e1e23263d655a0439a490394da3d690279939a716e45",
            "352340cb5ffe1d2e2a44b3d6d2651128933f8f16479c7220692b52a19c9ad985",
        ],
    ),
    (
        "embeddings_queue",
        &[
            "fbcbdac621c6bdebe561ae0bd3eac840737af822f4edc0d567b94e2066eecf28",
            "788fe9b405526821be2f4e305da3891724871859a2ea8f48c1f8182745658fd9",
        ],
    ),
];

/// The `metadb` migration that introduced `embedding_fulltext_search`.
const FULL_TEXT: usize = 3;
/// The `metadb` migration that made the watermarks integers: Chroma 1.0.
const INTEGER_SEQ_IDS: usize = 5;

#[derive(Clone, Debug)]
struct Migration {
    dir: &'static str,
    filename: String,
    sql: String,
    hash: String,
}

/// The migrations of a database, complete and known.
#[derive(Clone, Debug)]
pub(crate) struct Migrations(Vec<Migration>);

impl Migrations {
    /// Reads the migrations of a database, or of the template if there is one.
    pub(crate) fn read(
        database: &Database,
        template: Option<&Path>,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let Some(template) = template else {
            return Self::of(
                database,
                "--template DIR, an empty store of your Chroma",
                monitor,
            );
        };
        let database = Database::open(template, monitor)?;
        let migrations = Self::of(&database, "the template of a known Chroma", monitor)?;
        database.check_unchanged()?;
        Ok(migrations)
    }

    fn of(database: &Database, remedy: &str, monitor: &Monitor<'_>) -> Result<Self> {
        // By part and version. `None` if the row is incomplete or its SQL unknown.
        let mut rows = BTreeMap::<(usize, i64), Option<[String; 3]>>::new();
        let all = (i64::MIN, i64::MAX);
        let columns = ["dir", "version", "filename", "sql", "hash"]
            .map(|column| database.column_or_null(TABLE, column));
        database.scan(TABLE, &columns.join(", "), all, monitor, |_, row| {
            let dir = text_ref(row, 1).unwrap_or_default();
            let part = KNOWN.iter().position(|(known, _)| *known == dir);
            let (Some(part), Some(version)) = (part, integer(row, 2)) else {
                return Ok(ControlFlow::Continue(()));
            };
            let hashes = KNOWN.get(part).map_or(&[][..], |known| known.1);
            let known = usize::try_from(version).ok();
            let known = known.and_then(|version| hashes.get(version.checked_sub(1)?));
            let is_known = text_ref(row, 4)
                .is_some_and(|sql| known.is_some_and(|known| *known == sha256(sql.as_bytes())));
            let texts = [text(row, 3), text(row, 4), text(row, 5)];
            let texts = match texts {
                [Some(filename), Some(sql), Some(hash)] if is_known => Some([filename, sql, hash]),
                _ => None,
            };
            // All versions that this build does not know share one entry.
            let known = i64::try_from(hashes.len()).unwrap_or(i64::MAX);
            rows.insert((part, version.clamp(0, known.saturating_add(1))), texts);
            Ok(ControlFlow::Continue(()))
        })?;
        let refused = |found: String| {
            let make = format!("{remedy}, which this command makes: {MAKE_TEMPLATE}");
            Err(database.corrupt(
                TABLE,
                found,
                format!("the migrations of Chroma 0.4.6 to 1.5. Use {make}"),
            ))
        };
        if rows.is_empty() {
            return refused("no readable row".into());
        }
        let mut migrations = Vec::new();
        for (part, (dir, _)) in KNOWN.into_iter().enumerate() {
            let of_part = rows.range((part, i64::MIN)..=(part, i64::MAX));
            let newest = of_part.last().map_or(0, |((_, version), _)| *version);
            // Every part has its first migration.
            for version in 1..=newest.max(1) {
                match rows.remove(&(part, version)) {
                    Some(Some([filename, sql, hash])) => migrations.push(Migration {
                        dir,
                        filename,
                        sql,
                        hash,
                    }),
                    Some(None) => return refused(format!("{dir} {version}, which is unknown")),
                    None => return refused(format!("no readable row of {dir} {version}")),
                }
            }
        }
        let migrations = Self(migrations);
        if migrations.version("metadb") < FULL_TEXT {
            return Err(database.corrupt(
                TABLE,
                format!("metadb {}", migrations.version("metadb")),
                "metadb 3 or later: open the store once with Chroma 0.4.6 or later, or use \
                 --template DIR with an empty store of it",
            ));
        }
        Ok(migrations)
    }

    /// The newest migration of a part of the schema.
    fn version(&self, dir: &str) -> usize {
        self.0
            .iter()
            .filter(|migration| migration.dir == dir)
            .count()
    }

    /// Returns true if sequence numbers are integers, not BLOBs.
    pub(super) fn has_integer_seq_ids(&self) -> bool {
        self.version("metadb") >= INTEGER_SEQ_IDS
    }

    /// Creates the tables and lists the migrations.
    pub(super) fn run(&self, connection: &Connection, path: &Path) -> Result<()> {
        let failed = |error| failed(path, error);
        let mut run = String::from(CREATE);
        if self.has_integer_seq_ids() {
            run.push(';');
            run.push_str(CREATE_LOCK);
        }
        connection.execute_batch(&run).map_err(failed)?;
        let mut insert = connection
            .prepare("INSERT INTO migrations VALUES (?1, ?2, ?3, ?4, ?5)")
            .map_err(failed)?;
        let mut version = 0;
        let mut dir = "";
        for migration in &self.0 {
            version = if migration.dir == dir { version + 1 } else { 1 };
            dir = migration.dir;
            connection.execute_batch(&migration.sql).map_err(failed)?;
            let Migration {
                filename,
                sql,
                hash,
                ..
            } = migration;
            insert
                .execute((dir, version, filename, sql, hash))
                .map_err(failed)?;
        }
        Ok(())
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
