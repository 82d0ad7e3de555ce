//! Checks of the schema: which of Chroma's tables exist, and that reading them has no side effects.
//!
//! The SQL of a schema is a program written by a stranger. A view or a generated column can compute
//! forever, a default can expand one byte to a gigabyte, and a column named `rowid` hides the real
//! one. Chroma uses none of these, so a table with any of them is refused. Tables of other programs
//! are ignored.

use std::collections::BTreeMap;

use rusqlite::Row;

use super::{integer, text, text_ref, Database};
use crate::error::{Error, Result};

/// All tables that are read.
pub(super) const TABLES: [&str; 14] = [
    "collection_metadata",
    "collections",
    "databases",
    "embedding_fulltext_search_content",
    "embedding_metadata",
    "embedding_metadata_array",
    "embeddings",
    "embeddings_queue",
    "embeddings_queue_config",
    "max_seq_id",
    "migrations",
    "segment_metadata",
    "segments",
    "tenants",
];

/// Longest column default in bytes. Chroma's longest is a UUID in quotes.
const MAX_DEFAULT_BYTES: usize = 64;

/// Names of the rowid, unless a column has the same name.
const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// Characters of a name that an error message shows.
const MAX_SHOWN_CHARS: usize = 64;

impl Database {
    /// Reads the columns of each of the tables that exists, and checks their schema.
    pub(super) fn read_schema(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut tables = BTreeMap::new();
        self.each_row(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema",
            |row| {
                let column = |column| text_ref(row, column).unwrap_or_default();
                // SQLite compares names case-insensitively.
                let is_of = |table: &&&str| table.eq_ignore_ascii_case(&column(2));
                let Some(table) = TABLES.iter().find(is_of) else {
                    return Ok(());
                };
                self.check_entry(table, &column(0), &column(1), &column(3))?;
                if column(0) == "table" {
                    tables.insert((*table).to_string(), self.columns(table)?);
                    self.check_indexes(table)?;
                }
                Ok(())
            },
        )?;
        Ok(tables)
    }

    pub(super) fn each_row(
        &self,
        sql: &str,
        mut visit: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut statement = self.prepare(sql)?;
        let mut rows = statement.query([]).map_err(|error| self.failed(error))?;
        while let Some(row) = rows.next().map_err(|error| self.failed(error))? {
            visit(row)?;
        }
        Ok(())
    }

    fn check_entry(&self, table: &'static str, kind: &str, name: &str, sql: &str) -> Result<()> {
        let found = match kind {
            "table" => match table_options(sql, table) {
                None => "a table of another kind".into(),
                Some("") if has_collation(sql) => "a table with a collation".into(),
                Some("") => return Ok(()),
                Some(options) => format!("a table with {}", shown(options)),
            },
            // Chroma's own partial indexes have the condition `string_value IS NOT NULL`. The
            // column list has the only parentheses unless an expression is indexed.
            "index" if sql.matches('(').count() < 2 => return Ok(()),
            "index" => return Err(self.computed_index(table, name)),
            "view" => "a view".into(),
            "trigger" => format!("the trigger {}", shown(name)),
            kind => format!("an entry of the kind {}", shown(kind)),
        };
        Err(self.corrupt(table, found, "an ordinary table"))
    }

    fn columns(&self, table: &'static str) -> Result<Vec<String>> {
        let mut columns = Vec::new();
        self.each_row(&format!("PRAGMA table_xinfo({table})"), |row| {
            let Some(name) = text(row, 1) else {
                return Ok(());
            };
            let default = text(row, 4).unwrap_or_default();
            let is_rowid = ROWID_NAMES
                .iter()
                .any(|rowid| rowid.eq_ignore_ascii_case(&name));
            let found = if integer(row, 6) != Some(0) {
                "a generated column"
            } else if default.len() > MAX_DEFAULT_BYTES || default.contains('(') {
                "a default that is computed or long"
            } else if is_rowid {
                "a column that hides the number of the row"
            } else {
                columns.push(name);
                return Ok(());
            };
            let field = format!("{table}.{}", shown(&name));
            Err(self.corrupt(field, found, "a stored column, as Chroma has"))
        })?;
        Ok(columns)
    }

    /// Uses SQLite's own list, because an entry of the schema may name another table than its SQL.
    fn check_indexes(&self, table: &'static str) -> Result<()> {
        let mut indexes = Vec::new();
        self.each_row(&format!("PRAGMA index_list({table})"), |row| {
            indexes.extend(text(row, 1));
            Ok(())
        })?;
        for index in indexes {
            let name = index.replace('"', "\"\"");
            self.each_row(
                &format!("PRAGMA index_xinfo(\"{name}\")"),
                |row| match integer(row, 1) {
                    Some(EXPRESSION) => Err(self.computed_index(table, &index)),
                    _ => Ok(()),
                },
            )?;
        }
        Ok(())
    }

    fn computed_index(&self, table: &'static str, index: &str) -> Error {
        let found = format!("the index {} over something computed", shown(index));
        self.corrupt(table, found, "indexes over columns")
    }
}

/// Number that `index_xinfo` reports for an expression in place of a column.
const EXPRESSION: i64 = -2;

/// Text of a schema, shortened and quoted.
fn shown(text: &str) -> String {
    format!(
        "{:?}",
        text.chars().take(MAX_SHOWN_CHARS).collect::<String>()
    )
}

/// Returns true if the SQL of a table names a collation. Under a collation, different ids can
/// compare equal.
fn has_collation(sql: &str) -> bool {
    let mut words = sql.split(|char: char| !char.is_alphanumeric());
    words.any(|word| word.eq_ignore_ascii_case("COLLATE"))
}

/// Returns the text after the columns in the SQL of a table: "" for an ordinary table. `None` if
/// the SQL does not create a table of that name, or creates a virtual one.
///
/// SQLite normalises the first words of the stored SQL.
fn table_options<'s>(sql: &'s str, table: &str) -> Option<&'s str> {
    let rest = sql.strip_prefix("CREATE TABLE ")?.trim_start();
    let end = rest.find(|char: char| !(char.is_alphanumeric() || "_\"'`[]".contains(char)))?;
    let (name, rest) = rest.split_at_checked(end)?;
    let name = name.trim_matches(|char| "\"'`[]".contains(char));
    if !name.eq_ignore_ascii_case(table) {
        return None;
    }
    let (_, options) = rest.rsplit_once(')')?;
    Some(options.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_a_table_follow_its_columns() {
        for (sql, expected) in [
            ("CREATE TABLE segments (id TEXT, UNIQUE (id)\n) ", Some("")),
            ("CREATE TABLE \"segments\"(id)", Some("")),
            ("CREATE TABLE 'segments'(id)", Some("")),
            ("CREATE TABLE [Segments] (id)", Some("")),
            ("CREATE TABLE segments (id) STRICT", Some("STRICT")),
            (
                "CREATE TABLE segments(id) WITHOUT ROWID",
                Some("WITHOUT ROWID"),
            ),
            ("CREATE TABLE other (id)", None),
            ("CREATE TABLE segments", None),
            ("CREATE VIRTUAL TABLE segments USING fts5(id)", None),
            ("CREATE VIEW segments AS SELECT (1)", None),
            ("", None),
        ] {
            assert_eq!(table_options(sql, "segments"), expected, "{sql}");
        }
    }
}
