//! Reader of `embeddings` and `embedding_metadata`: ids, documents and metadata.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;

use rusqlite::{Row, Statement};

use super::copies::DocumentCopies;
use super::runs::Runs;
use super::seq_id::SeqId;
use super::values::{ValueReader, BYTES_AHEAD};
use super::{text, text_ref, Damage, Database};
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::Result;
use crate::store::metadata::{Texts, Value};

const TABLE: &str = "embeddings";
/// Selects the id and the sequence number of a record.
const HEAD: &str = "SELECT embedding_id, seq_id FROM embeddings";
const CREATED_AT: &str = "created_at";

const VALUES: &str = "embedding_metadata";
pub(super) const LISTS: &str = "embedding_metadata_array";

/// Smallest size in bytes of an index entry with its cell pointer. The file's length divided by it
/// bounds the number of entries.
const MIN_ENTRY_BYTES: u64 = 6;

/// Rows visited between two checks of the cancel token.
const ROWS_PER_CHECK: u32 = 1024;

/// Purpose of an allocation, for error messages.
const HOLD_ROWIDS: &str = "hold which records of a damaged table are there";

/// Record count of each metadata segment, read from the table.
#[derive(Debug, Default)]
pub(super) struct TableRecords {
    by_segment: BTreeMap<String, u64>,
    damage: Damage,
}

impl Database {
    /// Visits the rowid and the id of each record of a metadata segment, each rowid once, in no
    /// particular order. Returns the damage that was met.
    ///
    /// Both the table and one of its indexes hold them. The smaller index is read if the check
    /// found the same rows in both.
    pub(crate) fn record_ids(
        &self,
        segment: &str,
        monitor: &Monitor<'_>,
        visit: impl FnMut(i64, &str) -> Result<()>,
    ) -> Result<Damage> {
        let visited = self.visit_ids(segment, monitor, visit);
        self.forget_noted();
        visited
    }

    fn visit_ids(
        &self,
        segment: &str,
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(i64, &str) -> Result<()>,
    ) -> Result<Damage> {
        if self.agrees_with_index(TABLE) && self.has_record_index()? {
            // The check succeeded earlier, but a read can still fail now.
            let mut damage = Damage::default();
            damage.ranges += u64::from(!self.indexed_ids(segment, monitor, visit)?);
            return Ok(damage);
        }
        let is_sound = self.is_sound(TABLE);
        let mut known = Vec::new();
        let mut damage = self.scan_ids(Some(segment), monitor, |rowid, _, id| {
            if !is_sound {
                memory::reserve(&mut known, 1, HOLD_ROWIDS)?;
                known.push(rowid);
            }
            visit(rowid, id)
        })?;
        if is_sound {
            return Ok(damage);
        }
        // The index may still have rows that the table lost. A damaged index may repeat a row.
        let mut added = BTreeSet::new();
        let is_whole = self.indexed_ids(segment, monitor, |rowid, id| {
            match known.binary_search(&rowid).is_err() && added.insert(rowid) {
                true => visit(rowid, id),
                false => Ok(()),
            }
        })?;
        if is_whole && self.has_usable_index(TABLE) {
            return Ok(Damage::default());
        }
        damage.widen(self.structural_damage(TABLE));
        Ok(damage)
    }

    /// Visits the rowids and ids in the table's index. Returns whether all of them could be read.
    fn indexed_ids(
        &self,
        segment: &str,
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(i64, &str) -> Result<()>,
    ) -> Result<bool> {
        if !self.has_table(TABLE) {
            return Ok(true);
        }
        if !self.has_record_index()? {
            return Ok(false);
        }
        let mut statement = self.prepare(&format!(
            "SELECT rowid, embedding_id, segment_id FROM {TABLE} WHERE segment_id = ?1"
        ))?;
        let mut rows = statement
            .query([segment])
            .map_err(|error| self.failed(error))?;
        let mut is_whole = true;
        let mut left = self.files.len() / MIN_ENTRY_BYTES;
        let mut until_check = 0;
        loop {
            // Damaged pages that link back to earlier ones would make the scan endless.
            left = match left.checked_sub(1) {
                Some(left) => left,
                None => return Ok(false),
            };
            if until_check == 0 {
                monitor.check()?;
                until_check = ROWS_PER_CHECK;
            }
            until_check -= 1;
            match rows.next() {
                Ok(Some(row)) => match (super::integer(row, 0), text_ref(row, 1)) {
                    // SQLite does not check the segment of each entry: a page of another segment
                    // may have been linked into the range.
                    (Some(rowid), Some(id)) if text_ref(row, 2).as_deref() == Some(segment) => {
                        visit(rowid, &id)?;
                    }
                    _ => is_whole = false,
                },
                Ok(None) => return Ok(is_whole),
                Err(error) if self.is_damage(&error) => return Ok(false),
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Visits the rowid, the segment and the id of each record of one segment, or of all. Reads the
    /// table itself in rowid order and skips unreadable pages.
    fn scan_ids(
        &self,
        segment: Option<&str>,
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(i64, &str, &str) -> Result<()>,
    ) -> Result<Damage> {
        let all = [(i64::MIN, i64::MAX)];
        let columns = "segment_id, embedding_id";
        let runs = match segment {
            Some(segment) => self.record_runs(monitor)?.get(segment),
            None => &all,
        };
        let mut not_text = 0;
        let mut damage = Damage::default();
        let visit_row = |rowid: i64, row: &Row<'_>| {
            match (text_ref(row, 1), text_ref(row, 2)) {
                (Some(found), Some(id)) if segment.is_none_or(|wanted| wanted == found) => {
                    visit(rowid, &found, &id)?;
                }
                (Some(_), Some(_)) => {}
                _ => not_text += 1,
            }
            Ok(ControlFlow::Continue(()))
        };
        let runs = runs.iter().copied();
        self.scan_ranges(TABLE, columns, runs, monitor, visit_row, |_, lost| {
            damage.add(lost);
            Ok(())
        })?;
        damage.rows += not_text;
        if segment.is_some() {
            // Rows skipped outside the runs may also belong to this segment.
            damage.widen(self.table_records(monitor)?.damage);
        }
        Ok(damage)
    }

    /// Runs of rowids of each metadata segment. Computed if the table's index is missing or
    /// damaged, at 16 bytes per run.
    fn record_runs(&self, monitor: &Monitor<'_>) -> Result<&Runs> {
        if let Some(runs) = self.record_runs.get() {
            return Ok(runs);
        }
        let segments = self.table_records(monitor)?.by_segment.keys();
        let mut runs = Runs::of(segments.map(String::as_str));
        let all = (i64::MIN, i64::MAX);
        self.scan(TABLE, "segment_id", all, monitor, |rowid, row| {
            match text_ref(row, 1) {
                Some(segment) => runs.push(rowid, &segment)?,
                None => runs.push_unknown(),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(self.record_runs.get_or_init(|| runs))
    }

    /// Returns true if an index finds the records of a segment without a scan of the table.
    fn has_record_index(&self) -> Result<bool> {
        match self.has_record_index.get() {
            Some(known) => Ok(known),
            None => {
                let found = self.has_index_on(TABLE, "segment_id")?;
                self.has_record_index.set(Some(found));
                Ok(found)
            }
        }
    }

    /// Ids, by rowid, of records that a lookup by rowid does not find in the table.
    pub(crate) fn unreadable_ids(
        &self,
        segment: &str,
        monitor: &Monitor<'_>,
    ) -> Result<BTreeMap<i64, String>> {
        let mut rowids = Vec::new();
        self.record_ids(segment, monitor, |rowid, _| {
            memory::reserve(&mut rowids, 1, "hold which records there are")?;
            rowids.push(rowid);
            Ok(())
        })?;
        // Separate pass: lookups must not empty the cache during the visit (see `note_damage`).
        let mut row = self.prepare(&format!("{HEAD} WHERE rowid = ?1"))?;
        let mut unreadable = BTreeSet::new();
        for rowid in rowids {
            monitor.check()?;
            match row.exists([rowid]) {
                Ok(true) => {}
                Ok(false) => drop(unreadable.insert(rowid)),
                Err(error) if self.is_damage(&error) => drop(unreadable.insert(rowid)),
                Err(error) => return Err(self.failed(error)),
            }
        }
        let mut names = BTreeMap::new();
        self.record_ids(segment, monitor, |rowid, id| {
            if unreadable.contains(&rowid) {
                names.insert(rowid, id.to_string());
            }
            Ok(())
        })?;
        Ok(names)
    }

    /// Number of readable records of a metadata segment.
    pub(crate) fn record_count(&self, segment: &str, monitor: &Monitor<'_>) -> Result<u64> {
        if self.agrees_with_index(TABLE) && self.has_record_index()? {
            let mut count = self.prepare(&format!(
                "SELECT count(*) FROM {TABLE} WHERE segment_id = ?1"
            ))?;
            match count.query_row([segment], |row| row.get::<_, i64>(0)) {
                Ok(count) => return Ok(count.unsigned_abs()),
                Err(error) if self.is_damage(&error) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        let table = self.table_records(monitor)?;
        Ok(table.by_segment.get(segment).copied().unwrap_or(0))
    }

    /// Cached, because it takes a scan of the whole table.
    fn table_records(&self, monitor: &Monitor<'_>) -> Result<&TableRecords> {
        if let Some(table) = self.table_records.get() {
            return Ok(table);
        }
        let mut by_segment = BTreeMap::<String, u64>::new();
        let damage = self.scan_ids(None, monitor, |_, segment, _| {
            match by_segment.get_mut(segment) {
                Some(records) => *records += 1,
                None => drop(by_segment.insert(segment.to_string(), 1)),
            }
            Ok(())
        })?;
        Ok(self
            .table_records
            .get_or_init(|| TableRecords { by_segment, damage }))
    }

    /// Returns true if a version before 1.0 wrote any record of a metadata segment, or if
    /// unreadable records leave that open.
    pub(crate) fn has_python_records(&self, segment: &str, monitor: &Monitor<'_>) -> Result<bool> {
        if !self.has_table(TABLE) {
            return Ok(false);
        }
        if !self.has_record_index()? {
            let runs = self.record_runs(monitor)?.get(segment).iter().copied();
            let columns = "segment_id, typeof(seq_id)";
            let mut found = !self.table_records(monitor)?.damage.is_none();
            let visit = |_: i64, row: &Row<'_>| {
                let is_own = text_ref(row, 1).as_deref() == Some(segment);
                if is_own && text_ref(row, 2).as_deref() == Some("blob") {
                    found = true;
                    return Ok(ControlFlow::Break(()));
                }
                Ok(ControlFlow::Continue(()))
            };
            self.scan_ranges(TABLE, columns, runs, monitor, visit, |_, _| Ok(()))?;
            return Ok(found);
        }
        let mut statement = self.prepare(&format!(
            "SELECT 1 FROM {TABLE} WHERE segment_id = ?1 AND typeof(seq_id) = 'blob' LIMIT 1"
        ))?;
        match statement.exists([segment]) {
            Ok(found) => Ok(found),
            Err(error) if self.is_damage(&error) => Ok(true),
            Err(error) => Err(self.failed(error)),
        }
    }
}

/// One record as the tables hold it.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) seq_id: Option<u64>,
    pub(crate) created_at: Option<String>,
    pub(crate) texts: Texts,
}

impl Record {
    pub(crate) fn clear(&mut self) {
        self.id.clear();
        self.seq_id = None;
        self.created_at = None;
        self.texts.clear();
    }
}

/// Number of records read with one statement, unless they are large.
pub(crate) const RECORDS_PER_STATEMENT: usize = 64;

/// Largest rowid span per wanted record for which the whole span is read with one statement.
const MAX_ROWIDS_PER_RECORD: usize = 4;

/// Reads records by rowid.
#[derive(Debug)]
pub(crate) struct RecordReader<'d> {
    database: &'d Database,
    head: Statement<'d>,
    heads: Statement<'d>,
    /// Heads of records that will be asked for, in ascending order of rowid.
    ahead: VecDeque<(i64, Head)>,
    values: Option<ValueReader<'d>>,
    lists: Option<ValueReader<'d>>,
    /// Number of records whose document and metadata are unreadable or incomplete.
    pub(crate) damaged_texts: u64,
    /// Number of documents taken from the full-text table.
    pub(crate) copied_documents: u64,
    /// Opened when the first lost document is met; the inner `None` means that no copy is usable.
    copies: Option<Option<DocumentCopies<'d>>>,
    /// True if a text that was read may contain a page of zeros.
    has_damaged_values: bool,
}

#[derive(Debug)]
struct Head {
    id: String,
    seq_id: Option<u64>,
    created_at: Option<String>,
}

impl Head {
    /// From the columns id, sequence number and time of creation.
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: text(row, 0).unwrap_or_default(),
            seq_id: SeqId::decode(row.get_ref(1)?).map(|seq_id| seq_id.value),
            created_at: text(row, 2),
        })
    }
}

impl<'d> RecordReader<'d> {
    /// Returns `None` if there is no table of records.
    pub(crate) fn new(database: &'d Database) -> Result<Option<Self>> {
        if !database.has_table(TABLE) {
            return Ok(None);
        }
        let created_at = database.column_or_null(TABLE, CREATED_AT);
        let columns = format!("embedding_id, seq_id, {created_at}, rowid");
        Ok(Some(Self {
            database,
            head: database.prepare(&format!("SELECT {columns} FROM {TABLE} WHERE rowid = ?1"))?,
            heads: database.prepare(&format!(
                "SELECT {columns} FROM {TABLE} WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid"
            ))?,
            ahead: VecDeque::new(),
            values: ValueReader::new(database, VALUES)?,
            lists: match database.is_empty(LISTS)? {
                true => None,
                false => ValueReader::new(database, LISTS)?,
            },
            damaged_texts: 0,
            copied_documents: 0,
            copies: None,
            has_damaged_values: !database.is_sound(VALUES),
        }))
    }

    /// Reads ahead the records that will be asked for next, in ascending order of rowid. One
    /// statement for all of them is faster than one per record.
    pub(crate) fn read_ahead(
        &mut self,
        mut rowids: impl DoubleEndedIterator<Item = i64> + ExactSizeIterator,
    ) -> Result<()> {
        self.ahead.clear();
        let max_span = rowids.len().saturating_mul(MAX_ROWIDS_PER_RECORD) as u64;
        let (Some(first), Some(last)) = (rowids.next(), rowids.next_back()) else {
            return Ok(());
        };
        if last.abs_diff(first) >= max_span {
            return Ok(());
        }
        let database = self.database;
        let mut rows = self
            .heads
            .query([first, last])
            .map_err(|error| database.failed(error))?;
        let mut bytes = 0;
        while bytes < BYTES_AHEAD {
            match rows.next() {
                Ok(Some(row)) => {
                    let head = Head::of(row).map_err(|error| database.failed(error))?;
                    bytes += head.id.len();
                    if let Some(rowid) = super::integer(row, 3) {
                        self.ahead.push_back((rowid, head));
                    }
                }
                Ok(None) => break,
                // Records that were not read ahead are looked up one by one.
                Err(error) if database.is_damage(&error) => break,
                Err(error) => return Err(database.failed(error)),
            }
        }
        for values in [&mut self.values, &mut self.lists].into_iter().flatten() {
            values.read_ahead(first, last)?;
        }
        Ok(())
    }

    /// Reads the head of a record; `None` if it cannot be read.
    fn head(&mut self, rowid: i64) -> Result<Option<Head>> {
        while self.ahead.front().is_some_and(|head| head.0 <= rowid) {
            match self.ahead.pop_front() {
                Some((of, head)) if of == rowid => return Ok(Some(head)),
                _ => {}
            }
        }
        match self.head.query_row([rowid], Head::of) {
            Ok(head) => Ok(Some(head)),
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            Err(error) if self.database.is_damage(&error) => Ok(None),
            Err(error) => Err(self.database.failed(error)),
        }
    }

    /// Replaces a lost document by its copy, if there is a usable one.
    fn read_copy(&mut self, rowid: i64, texts: &mut Texts, monitor: &Monitor<'_>) -> Result<()> {
        let is_readable = |text: &String| !text.contains('\0');
        if texts.document.as_ref().is_some_and(is_readable) {
            return Ok(());
        }
        let copies = match &mut self.copies {
            Some(copies) => copies,
            None => {
                let copies = DocumentCopies::new(self.database, monitor)?;
                self.copies.insert(copies)
            }
        };
        if let Some(copies) = copies {
            if let Some(document) = copies.read(rowid)? {
                texts.document = Some(document);
                self.copied_documents += 1;
            }
        }
        Ok(())
    }

    /// Reads a record into `record`. Returns whether its id could be read.
    pub(crate) fn read(
        &mut self,
        rowid: i64,
        record: &mut Record,
        monitor: &Monitor<'_>,
    ) -> Result<bool> {
        record.clear();
        let head = self.head(rowid)?;
        let has_id = head.is_some();
        if let Some(head) = head {
            record.id = head.id;
            record.seq_id = head.seq_id;
            record.created_at = head.created_at;
        }
        let texts = &mut record.texts;
        let mut is_whole = true;
        if let Some(values) = &mut self.values {
            is_whole &= values.each(rowid, monitor, |key, value| {
                // NaN is stored as NULL: a row without any value is a NaN.
                match value {
                    None => texts.set_nan(key),
                    value => texts.set(key, value),
                }
            })?;
        }
        if let Some(lists) = &mut self.lists {
            is_whole &= lists.each(rowid, monitor, |key, value| {
                texts.append(&key, value.unwrap_or(Value::Null));
            })?;
        }
        if self.has_damaged_values {
            // A page of zeros within a text still reads as text.
            is_whole &= texts
                .document
                .as_ref()
                .is_none_or(|text| !text.contains('\0'));
        }
        if !is_whole {
            self.damaged_texts += 1;
            self.read_copy(rowid, texts, monitor)?;
        }
        Ok(has_id)
    }
}

/// Reads the sequence numbers of records. A record carries the number of the last write that
/// changed it.
#[derive(Debug)]
pub(crate) struct SeqIdReader<'d> {
    database: &'d Database,
    head: Statement<'d>,
}

impl<'d> SeqIdReader<'d> {
    /// Returns `None` if there is no table of records.
    pub(crate) fn new(database: &'d Database) -> Result<Option<Self>> {
        if !database.has_table(TABLE) {
            return Ok(None);
        }
        let head = database.prepare(&format!("{HEAD} WHERE rowid = ?1"))?;
        Ok(Some(Self { database, head }))
    }

    /// Returns `None` if it cannot be read.
    pub(crate) fn read(&mut self, rowid: i64) -> Result<Option<u64>> {
        let read = self
            .head
            .query_row([rowid], |row| Ok(SeqId::decode(row.get_ref(1)?)));
        match read {
            Ok(seq_id) => Ok(seq_id.map(|seq_id| seq_id.value)),
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            // The caller is stepping through the ids of all records (see `note_damage`).
            Err(error) if self.database.note_damage(&error) => Ok(None),
            Err(error) => Err(self.database.failed(error)),
        }
    }
}
