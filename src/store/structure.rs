//! State of tables and indexes, from a check of their b-trees.
//!
//! An index is used only if it holds the same rows as its table. A table that lost rows is damaged
//! even if each of its pages is valid: its index then has more entries than the table has rows.

use std::collections::BTreeMap;

use rusqlite::Row;

use super::trees::{Checked, Checker, Column, Tree, TreeKind};
use super::{integer, text, Damage, Database};
use crate::base::progress::Monitor;
use crate::error::Result;

/// Schema table, whose root is page 1.
const SCHEMA: &str = "sqlite_schema";

/// Offset in the database header of the number of reserved bytes at the end of each page.
const RESERVED_AT: u64 = 20;

/// Tables whose b-trees are checked.
const TABLES: [&str; 11] = [
    "databases",
    "collections",
    "collection_metadata",
    "segments",
    "segment_metadata",
    "max_seq_id",
    "migrations",
    "embeddings",
    "embedding_metadata",
    "embedding_metadata_array",
    "embeddings_queue",
];

/// State of a table and its indexes.
#[derive(Debug, Default)]
struct TableState {
    table: Checked,
    /// Lower bound on the rows that its indexes have and the table lacks.
    lost_rows: u64,
    /// True if every checked index is usable; `None` without an index.
    usable_index: Option<bool>,
}

/// State of the checked tables.
#[derive(Debug, Default)]
pub(super) struct Structure(BTreeMap<&'static str, TableState>);

/// Damage that the check found in a table.
#[derive(Clone, Debug)]
pub(crate) struct TableDamage {
    pub(crate) table: &'static str,
    /// Pages that are damaged or unreachable.
    pub(crate) pages: u64,
    /// Lower bound on the rows that an index has and the table lacks.
    pub(crate) lost_rows: u64,
    /// Description of the first damaged page.
    pub(crate) first: String,
}

impl Structure {
    /// Returns true if no row of the table is known to be lost.
    fn is_sound(&self, table: &str) -> bool {
        self.0
            .get(table)
            .is_none_or(|state| state.table.is_sound() && state.lost_rows == 0)
    }
}

/// An index as SQLite describes it.
#[derive(Debug)]
struct Index {
    name: String,
    columns: Vec<usize>,
    ascends: bool,
}

/// The tree of the schema table.
pub(super) fn schema_tree() -> Tree {
    Tree {
        root: 1,
        kind: TreeKind::Table {
            columns: vec![Column::default(); 5],
            indexes: Vec::new(),
        },
    }
}

impl Database {
    /// Checks the b-trees of all tables that are read.
    pub(super) fn check_structure(&mut self, monitor: &Monitor<'_>) -> Result<()> {
        let roots = self.roots()?;
        let opened = self.files.opened()?;
        let file = opened.as_ref().unwrap_or(self.files.database());
        let mut page_size = 0;
        self.each_row("PRAGMA page_size", |row| {
            page_size = integer(row, 0).map_or(0, i64::unsigned_abs);
            Ok(())
        })?;
        let mut reserved = [0];
        file.read_at(&mut reserved, RESERVED_AT)?;
        let Some(mut checker) = Checker::new(file, page_size, reserved[0].into(), monitor) else {
            return Ok(());
        };
        let mut structure = Structure::default();
        let state = TableState {
            table: checker.check(&schema_tree())?,
            ..TableState::default()
        };
        structure.0.insert(SCHEMA, state);
        for table in TABLES {
            if let Some(root) = roots.get(table) {
                let state = self.check_table(&mut checker, table, *root, &roots)?;
                structure.0.insert(table, state);
            }
        }
        self.structure = structure;
        Ok(())
    }

    fn check_table(
        &self,
        checker: &mut Checker<'_>,
        table: &'static str,
        root: u32,
        roots: &BTreeMap<String, u32>,
    ) -> Result<TableState> {
        let columns = self.column_shapes(table)?;
        let indexes = self.indexes(table)?;
        let covered = indexes.iter().map(|index| index.columns.clone());
        let tree = Tree {
            root,
            kind: TreeKind::Table {
                columns,
                indexes: covered.collect(),
            },
        };
        let mut state = TableState {
            table: checker.check(&tree)?,
            ..TableState::default()
        };
        for (index, rows) in indexes.iter().zip(state.table.sums.clone()) {
            let Some(root) = roots.get(&index.name) else {
                continue;
            };
            let tree = Tree {
                root: *root,
                kind: TreeKind::Index {
                    columns: index.columns.len(),
                    ascends: index.ascends,
                },
            };
            let checked = checker.check(&tree)?;
            let entries = checked.sums.first().copied().unwrap_or_default();
            let is_same = entries == rows;
            // A differing index proves a loss only if it is itself sound and has at least as many
            // entries. With as many entries of other rows, the table has lost rows as well.
            if checked.is_sound() && !is_same && entries.entries >= rows.entries {
                let lost = (entries.entries - rows.entries).max(1);
                state.lost_rows = state.lost_rows.max(lost);
            }
            let is_usable = checked.is_sound()
                && (is_same || !state.table.is_sound() || entries.entries > rows.entries);
            state.usable_index = Some(state.usable_index.unwrap_or(true) && is_usable);
        }
        Ok(state)
    }

    /// Returns true if no row of the table is known to be lost.
    pub(crate) fn is_sound(&self, table: &str) -> bool {
        self.structure.is_sound(table)
    }

    /// Returns true if an index has all rows of the table, including lost ones.
    pub(super) fn has_usable_index(&self, table: &str) -> bool {
        let state = self.structure.0.get(table);
        state.is_some_and(|state| state.usable_index == Some(true))
    }

    /// Returns true if the table is sound and its index holds the same rows.
    pub(super) fn agrees_with_index(&self, table: &str) -> bool {
        self.is_sound(table) && self.has_usable_index(table)
    }

    /// Damage found by the check, in the units of a scan.
    pub(super) fn structural_damage(&self, table: &str) -> Damage {
        let state = self.structure.0.get(table);
        state.map_or_else(Damage::default, |state| Damage {
            rows: state.lost_rows,
            ranges: state.table.damaged_pages,
        })
    }

    /// Lists the damaged tables.
    pub(crate) fn damaged_tables(&self) -> Vec<TableDamage> {
        let damaged = self
            .structure
            .0
            .iter()
            .filter(|(table, _)| !self.is_sound(table));
        let damage = damaged.map(|(table, state)| TableDamage {
            table,
            pages: state.table.damaged_pages,
            lost_rows: state.lost_rows,
            first: match &state.table.first {
                Some(first) => first.clone(),
                None => format!("its index has {} rows that it lacks", state.lost_rows),
            },
        });
        damage.collect()
    }

    /// Visits the readable entries of an index over these columns of a table, as `rowid, columns`.
    pub(super) fn index_entries(
        &self,
        table: &'static str,
        columns: &[&str],
        mut visit: impl FnMut(&Row<'_>),
    ) -> Result<()> {
        let names = self.tables.get(table).map_or(&[][..], Vec::as_slice);
        let at = |column: &&str| names.iter().position(|name| name == column);
        let Some(wanted) = columns.iter().map(at).collect::<Option<Vec<_>>>() else {
            return Ok(());
        };
        let indexes = self.indexes(table)?;
        let Some(index) = indexes.iter().find(|index| index.columns == wanted) else {
            return Ok(());
        };
        let columns = columns.join(", ");
        let quoted = index.name.replace('"', "\"\"");
        let mut statement = self.prepare(&format!(
            "SELECT rowid, {columns} FROM {table} INDEXED BY \"{quoted}\" ORDER BY {columns}"
        ))?;
        let mut rows = statement.query([]).map_err(|error| self.failed(error))?;
        // Damaged pages that link back to earlier ones would make the scan endless.
        for _ in 0..self.files.len() {
            match rows.next() {
                Ok(Some(row)) => visit(row),
                Ok(None) => break,
                Err(error) if self.is_damage(&error) => break,
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    /// Root pages of tables and indexes, by name.
    fn roots(&self) -> Result<BTreeMap<String, u32>> {
        let mut roots = BTreeMap::new();
        self.each_row("SELECT name, rootpage FROM sqlite_schema", |row| {
            let root = integer(row, 1).and_then(|root| u32::try_from(root).ok());
            if let (Some(name), Some(root)) = (text(row, 0), root) {
                roots.insert(name, root);
            }
            Ok(())
        })?;
        Ok(roots)
    }

    fn column_shapes(&self, table: &'static str) -> Result<Vec<Column>> {
        let mut columns = Vec::new();
        let mut keys = 0;
        let mut is_integer_key = Vec::new();
        self.each_row(&format!("PRAGMA table_info({table})"), |row| {
            let declared = text(row, 2).unwrap_or_default().to_ascii_uppercase();
            let is_key = integer(row, 5).is_some_and(|key| key > 0);
            keys += u32::from(is_key);
            is_integer_key.push(is_key && declared == "INTEGER");
            columns.push(Column {
                // SQLite's affinity rules: INT takes precedence over CHAR, CLOB and TEXT.
                is_text: !declared.contains("INT")
                    && ["CHAR", "CLOB", "TEXT"]
                        .iter()
                        .any(|kind| declared.contains(kind)),
                is_not_null: integer(row, 3) == Some(1),
                is_rowid: false,
            });
            Ok(())
        })?;
        for (column, is_integer_key) in columns.iter_mut().zip(is_integer_key) {
            // Only a single INTEGER PRIMARY KEY is an alias of the rowid.
            column.is_rowid = is_integer_key && keys == 1;
        }
        Ok(columns)
    }

    /// Lists the indexes over all rows of a table that cover only plain columns.
    fn indexes(&self, table: &'static str) -> Result<Vec<Index>> {
        let mut names = Vec::new();
        self.each_row(&format!("PRAGMA index_list({table})"), |row| {
            let is_partial = integer(row, 4) != Some(0);
            names.extend(text(row, 1).filter(|_| !is_partial));
            Ok(())
        })?;
        let mut indexes = Vec::new();
        for name in names {
            let mut index = Index {
                columns: Vec::new(),
                ascends: true,
                name,
            };
            let mut is_plain = true;
            let quoted = index.name.replace('"', "\"\"");
            self.each_row(&format!("PRAGMA index_xinfo(\"{quoted}\")"), |row| {
                // `key` is 0 for the rowid, which follows the indexed columns.
                if integer(row, 5) == Some(1) {
                    match integer(row, 1).and_then(|at| usize::try_from(at).ok()) {
                        Some(at) => index.columns.push(at),
                        None => is_plain = false,
                    }
                    let is_binary = text(row, 4).is_some_and(|name| name == "BINARY");
                    index.ascends &= is_binary && integer(row, 3) == Some(0);
                }
                Ok(())
            })?;
            if is_plain {
                indexes.push(index);
            }
        }
        Ok(indexes)
    }
}
