//! Runs of rowids per owner, for tables without a usable index.
//!
//! Rows of one owner mostly follow each other, but rows of thousands of owners may also alternate.
//! A scan from an owner's first row to its last would then read every row once per owner. A run is
//! a range of rowids that contains few rows of other owners:
//!
//! ```text
//! rows of the table   A A A B A A B B B B B B B B B B A A
//! runs of A           ─────────────                   ───
//! runs of B                 ─────────────────────────
//! ```

use std::collections::BTreeMap;

use crate::base::memory;
use crate::error::Result;

/// Most consecutive rows of other owners within a run. Skipping them takes about as long as seeking
/// the next run. It also bounds the total length of all runs to a multiple of the table's rows.
const MAX_FOREIGN_ROWS: u64 = 8;

/// First and last rowid of each run, ascending.
#[derive(Debug, Default)]
struct OwnerRuns {
    runs: Vec<(i64, i64)>,
    /// Ordinal of the owner's last row in the table.
    last_row: u64,
}

/// Runs of rows, 16 bytes each, by owner.
#[derive(Debug, Default)]
pub(super) struct Runs {
    by_owner: BTreeMap<String, OwnerRuns>,
    rows: u64,
}

impl Runs {
    /// Starts runs for these owners. Rows of other owners are ignored.
    pub(super) fn of<'o>(owners: impl IntoIterator<Item = &'o str>) -> Self {
        let owners = owners.into_iter();
        Self {
            by_owner: owners
                .map(|id| (id.to_string(), OwnerRuns::default()))
                .collect(),
            rows: 0,
        }
    }

    /// Adds the next row of the table. Rowids must ascend.
    pub(super) fn push(&mut self, rowid: i64, owner: &str) -> Result<()> {
        self.rows = self.rows.saturating_add(1);
        let Some(known) = self.by_owner.get_mut(owner) else {
            return Ok(());
        };
        // Counts rows, not rowids: deleted rows leave gaps that cost no reads.
        let foreign = self.rows.saturating_sub(known.last_row).saturating_sub(1);
        known.last_row = self.rows;
        match known.runs.last_mut() {
            Some((_, last)) if foreign <= MAX_FOREIGN_ROWS => *last = rowid,
            _ => {
                memory::reserve(&mut known.runs, 1, "hold where the rows of each owner are")?;
                known.runs.push((rowid, rowid));
            }
        }
        Ok(())
    }

    /// Adds a row whose owner cannot be read.
    pub(super) fn push_unknown(&mut self) {
        self.rows = self.rows.saturating_add(1);
    }

    pub(super) fn get(&self, owner: &str) -> &[(i64, i64)] {
        self.by_owner
            .get(owner)
            .map_or(&[], |known| known.runs.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_where_many_rows_of_others_follow() {
        let mut runs = Runs::of(["a", "b"]);
        let owners = "a_ab_________a_________a";
        for (rowid, owner) in (10..).zip(owners.chars()) {
            match owner {
                '_' => runs.push_unknown(),
                owner => runs.push(rowid, &owner.to_string()).unwrap(),
            }
        }
        assert_eq!(runs.get("a"), [(10, 12), (23, 23), (33, 33)]);
        assert_eq!(runs.get("b"), [(13, 13)]);
        assert_eq!(runs.get("c"), []);
    }

    #[test]
    fn all_runs_together_are_a_small_multiple_of_the_table() {
        for owners in [1_i64, 2, 9, 10, 1000] {
            let names: Vec<_> = (0..owners).map(|owner| owner.to_string()).collect();
            let mut runs = Runs::of(names.iter().map(String::as_str));
            for row in 0..5000 {
                let owner = usize::try_from(row % owners).unwrap();
                runs.push(row, &names[owner]).unwrap();
            }
            let of =
                |name: &String| -> i64 { runs.get(name).iter().map(|run| run.1 - run.0 + 1).sum() };
            let rows: i64 = names.iter().map(of).sum();
            assert!((5000..=5000 * 9).contains(&rows), "{owners} owners: {rows}");
        }
    }
}
