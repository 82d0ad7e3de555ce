//! The schema: which of Chroma's tables are there, and that reading them only reads.
//!
//! The SQL of a schema is a program that its author wrote. A view or a generated column computes
//! for ever, a default makes a gigabyte of one byte, a column named `rowid` hides the row's own
//! number. Chroma has nothing of the kind, so a table that has is refused. Tables of other programs
//! are never looked at.

use std::collections::BTreeMap;

use rusqlite::Row;

use super::{integer, text, text_ref, Database};
use crate::error::{Error, Result};

/// Every table that is read.
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

/// Bytes of a column's default. Chroma's longest is a UUID in quotes.
const MAX_DEFAULT: usize = 64;

/// The names of a row's own number, unless a column has them.
const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// Characters of a name that an error shows.
const SHOWN: usize = 64;

impl Database {
    /// The columns of each of the tables that is there.
    pub(super) fn read_schema(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut tables = BTreeMap::new();
        self.each_row(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema",
            |row| {
                let column = |column| text_ref(row, column).unwrap_or_default();
                // SQLite's names are the same in either case.
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
            // Chroma's own have a condition: `string_value IS NOT NULL`. The columns take the only
            // brackets unless something is computed.
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
            } else if default.len() > MAX_DEFAULT || default.contains('(') {
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

    /// By SQLite's own list: an entry of the schema may name another table than its SQL.
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

/// The number that `index_xinfo` gives in place of a column's.
const EXPRESSION: i64 = -2;

/// Text of a schema, short and quoted.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(SHOWN).collect::<String>())
}

/// Looks for a collation in the SQL of a table. Under one, different ids can compare as equal.
fn has_collation(sql: &str) -> bool {
    let mut words = sql.split(|char: char| !char.is_alphanumeric());
    words.any(|word| word.eq_ignore_ascii_case("COLLATE"))
}

/// The text after the columns in the SQL of a table: "" for an ordinary table. `None` where the SQL
/// makes no table of that name, or a virtual one.
///
/// SQLite begins each stored text with the same words.
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
