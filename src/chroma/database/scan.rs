//! Tables row by row, past pages that cannot be read.
//!
//! SQLite ends a statement at the first damaged page. The next one begins behind it: at the next
//! rowid whose leaf page can be reached, which is looked for one by one, as a page holds few rows,
//! and in longer and longer steps when there are none.

use std::ops::ControlFlow;

use rusqlite::{Row, Statement};

use super::{integer, is_damage, Database};
use crate::error::Result;
use crate::progress::Monitor;

/// Rowids that are tried one by one behind a damaged page. Rows of the smallest size fill fewer.
const SINGLE_STEPS: u32 = 4096;

/// Rows visited between two looks at the cancel token.
const ROWS_PER_CHECK: u32 = 1024;

/// What could not be read of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Rows that are there and cannot be read.
    pub(crate) rows: u64,
    /// Ranges of rowids that cannot be reached: one for each damaged page, or for several that
    /// follow each other.
    pub(crate) ranges: u64,
}

impl Damage {
    /// Whether nothing was left out.
    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.ranges += other.ranges;
    }
}

impl Database {
    /// Visits the rows of `table` whose rowids are from `first` to `last`, in that order, as
    /// `rowid, columns`. Says what had to be stepped over.
    pub(super) fn scan(
        &self,
        table: &'static str,
        columns: &str,
        (first, last): (i64, i64),
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(i64, &Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<Damage> {
        let mut damage = Damage::default();
        if !self.has_table(table) {
            return Ok(damage);
        }
        let mut read = self.prepare(&format!(
            "SELECT rowid, {columns} FROM {table} WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid"
        ))?;
        let mut probe = self.prepare(&format!(
            "SELECT rowid FROM {table} WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid LIMIT 1"
        ))?;
        let mut next = Some(first);
        while let Some(start) = next.filter(|next| *next <= last) {
            let mut rows = read
                .query([start, last])
                .map_err(|error| self.failed(error))?;
            next = Some(start);
            let mut until_check = 0;
            loop {
                if until_check == 0 {
                    monitor.check()?;
                    until_check = ROWS_PER_CHECK;
                }
                until_check -= 1;
                match rows.next() {
                    Ok(Some(row)) => {
                        let rowid = integer(row, 0).unwrap_or(last);
                        if visit(rowid, row)?.is_break() {
                            return Ok(damage);
                        }
                        next = rowid.checked_add(1);
                    }
                    Ok(None) => return Ok(damage),
                    Err(error) if is_damage(&error) => break,
                    Err(error) => return Err(self.failed(error)),
                }
            }
            drop(rows);
            next = match next {
                None => None,
                Some(next) => self.step_over(&mut probe, (next, last), monitor, &mut damage)?,
            };
        }
        Ok(damage)
    }

    /// The rowid from which on rows can be read again.
    fn step_over(
        &self,
        probe: &mut Statement<'_>,
        (first, last): (i64, i64),
        monitor: &Monitor<'_>,
        damage: &mut Damage,
    ) -> Result<Option<i64>> {
        let mut at = first;
        let mut steps = 0_u32;
        loop {
            match self.first_rowid(probe, at, last) {
                // The page of the next row can be reached, so it is the row that cannot be read.
                Ok(Some(rowid)) if steps == 0 => {
                    damage.rows += 1;
                    return Ok(rowid.checked_add(1));
                }
                Ok(found) => {
                    damage.ranges += 1;
                    return Ok(found);
                }
                Err(error) if is_damage(&error) => {}
                Err(error) => return Err(self.failed(error)),
            }
            steps += 1;
            if steps.is_multiple_of(64) {
                monitor.check()?;
            }
            let stride = match steps.checked_sub(SINGLE_STEPS) {
                None => 1,
                Some(doublings) => 1_i64.checked_shl(doublings.min(62)).unwrap_or(i64::MAX),
            };
            at = match at.checked_add(stride) {
                Some(at) if at <= last => at,
                _ => {
                    damage.ranges += 1;
                    return Ok(None);
                }
            };
        }
    }

    fn first_rowid(
        &self,
        probe: &mut Statement<'_>,
        first: i64,
        last: i64,
    ) -> rusqlite::Result<Option<i64>> {
        let mut rows = probe.query([first, last])?;
        Ok(rows.next()?.and_then(|row| integer(row, 0)))
    }
}
