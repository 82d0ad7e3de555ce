//! Table scans that skip unreadable pages.
//!
//! SQLite ends a statement at the first damaged page. The scan resumes behind it, at the next rowid
//! whose leaf page is reachable. That rowid is sought in steps that grow with the distance, then by
//! bisection between the last two steps. Intact pages between two damaged ones are found unless
//! they are small compared with the skipped distance.

use std::ops::ControlFlow;

use rusqlite::{Row, Statement};

use super::{integer, Database};
use crate::base::progress::Monitor;
use crate::error::Result;

/// Each step is the distance so far divided by this number.
const STEP_DIVISOR: i64 = 8;

/// Rows visited between two checks of the cancel token.
const ROWS_PER_CHECK: u32 = 1024;

/// Unreadable parts of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Rows that exist but cannot be read.
    pub(crate) rows: u64,
    /// Unreachable ranges of rowids: one per damaged page, or one for several adjacent pages.
    pub(crate) ranges: u64,
}

impl Damage {
    /// Returns true if nothing was skipped.
    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.ranges += other.ranges;
    }

    /// Returns the damage added since an earlier sum.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            rows: self.rows.saturating_sub(earlier.rows),
            ranges: self.ranges.saturating_sub(earlier.ranges),
        }
    }

    /// Merges the damage of another scan of the same table. The scans may have met the same damage,
    /// so the larger count is kept.
    pub(crate) fn widen(&mut self, other: Self) {
        self.rows = self.rows.max(other.rows);
        self.ranges = self.ranges.max(other.ranges);
    }
}

impl Database {
    /// Visits the rows of `table` with rowids from `first` to `last`, in that order, as `rowid,
    /// columns`. Returns the skipped damage.
    pub(super) fn scan(
        &self,
        table: &'static str,
        columns: &str,
        range: (i64, i64),
        monitor: &Monitor<'_>,
        visit: impl FnMut(i64, &Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<Damage> {
        let mut damage = Damage::default();
        self.scan_ranges(table, columns, [range], monitor, visit, |_, lost| {
            damage.add(lost);
            Ok(())
        })?;
        Ok(damage)
    }

    /// Visits the rows in each of `ranges`. Skipped damage is passed to `lost`, with the last rowid
    /// that a lost row may have.
    pub(super) fn scan_ranges(
        &self,
        table: &'static str,
        columns: &str,
        ranges: impl IntoIterator<Item = (i64, i64)>,
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(i64, &Row<'_>) -> Result<ControlFlow<()>>,
        mut lost: impl FnMut(i64, Damage) -> Result<()>,
    ) -> Result<()> {
        if !self.has_table(table) {
            return Ok(());
        }
        let mut read = self.prepare(&format!(
            "SELECT rowid, {columns} FROM {table} WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid"
        ))?;
        let mut probe = self.prepare(&format!(
            "SELECT rowid FROM {table} WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid LIMIT 1"
        ))?;
        let mut until_check = 0;
        for (first, last) in ranges {
            let mut next = Some(first);
            while let Some(start) = next.filter(|next| *next <= last) {
                let mut damage = Damage::default();
                let mut rows = read
                    .query([start, last])
                    .map_err(|error| self.failed(error))?;
                next = Some(start);
                let is_complete = loop {
                    if until_check == 0 {
                        monitor.check()?;
                        until_check = ROWS_PER_CHECK;
                    }
                    until_check -= 1;
                    match rows.next() {
                        Ok(Some(row)) => {
                            let rowid = integer(row, 0).unwrap_or(last);
                            // Damaged pages may link back to earlier ones, which would make the
                            // scan endless.
                            if next.is_none_or(|next| rowid < next) {
                                damage.ranges += 1;
                                break false;
                            }
                            if visit(rowid, row)?.is_break() {
                                return Ok(());
                            }
                            next = rowid.checked_add(1);
                        }
                        Ok(None) => break true,
                        Err(error) if self.is_damage(&error) => break false,
                        Err(error) => return Err(self.failed(error)),
                    }
                };
                if is_complete {
                    break;
                }
                drop(rows);
                next = match next {
                    None => None,
                    Some(next) => {
                        monitor.check()?;
                        self.step_over(&mut probe, (next, last), &mut damage)?
                    }
                };
                if !damage.is_none() {
                    lost(next.map_or(last, |next| next.saturating_sub(1)), damage)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the first rowid behind the damage whose row can be read.
    fn step_over(
        &self,
        probe: &mut Statement<'_>,
        (first, last): (i64, i64),
        damage: &mut Damage,
    ) -> Result<Option<i64>> {
        match self.first_rowid(probe, first, last)? {
            // The page of the next row is reachable, so the row itself is damaged.
            Reached::Row(rowid) => {
                damage.rows += 1;
                return Ok(rowid.max(first).checked_add(1));
            }
            Reached::End => return Ok(None),
            Reached::Damage => {}
        }
        damage.ranges += 1;
        // Invariant: no row is reachable from `failed`.
        let mut failed = first;
        let mut found = loop {
            let stride = (failed.saturating_sub(first) / STEP_DIVISOR).max(1);
            let at = match failed.checked_add(stride) {
                Some(at) if at <= last => at,
                _ => return Ok(None),
            };
            match self.first_rowid(probe, at, last)? {
                Reached::Damage => failed = at,
                found => break (at, found),
            }
        };
        // Rows before `found` may also be reachable: bisect.
        while found.0.saturating_sub(failed) > 1 {
            let middle = failed.midpoint(found.0);
            match self.first_rowid(probe, middle, last)? {
                Reached::Damage => failed = middle,
                reached => found = (middle, reached),
            }
        }
        Ok(match found.1 {
            Reached::Row(rowid) => Some(rowid.max(failed.saturating_add(1))),
            _ => None,
        })
    }

    /// Probes for the first row at or after `first`.
    fn first_rowid(&self, probe: &mut Statement<'_>, first: i64, last: i64) -> Result<Reached> {
        let found = probe
            .query([first, last])
            .and_then(|mut rows| Ok(rows.next()?.and_then(|row| integer(row, 0))));
        match found {
            Ok(Some(rowid)) => Ok(Reached::Row(rowid)),
            Ok(None) => Ok(Reached::End),
            Err(error) if self.is_damage(&error) => Ok(Reached::Damage),
            Err(error) => Err(self.failed(error)),
        }
    }
}

/// Result of a probe.
#[derive(Clone, Copy, Debug)]
enum Reached {
    Row(i64),
    /// No row follows.
    End,
    /// A page on the path cannot be read.
    Damage,
}
