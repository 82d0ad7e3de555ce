//! What rows of the log do to one id.

use crate::store::queue::Operation;

/// A row of the log in eight bytes. They order as the rows do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Logged(u64);

const VECTOR: u64 = 1;
const OPERATION_BITS: u32 = 2;

impl Logged {
    /// `None` for an operation that changes no record.
    pub(super) fn new(seq_id: i64, operation: Operation, has_vector: bool) -> Option<Self> {
        let code = match operation {
            Operation::Add => 0,
            Operation::Update => 1,
            Operation::Upsert => 2,
            Operation::Delete => 3,
            Operation::Backfill | Operation::Unknown(_) => return None,
        };
        let seq_id = u64::try_from(seq_id).ok()?;
        Some(Self(
            seq_id << (OPERATION_BITS + 1) | code << 1 | u64::from(has_vector),
        ))
    }

    pub(super) fn seq_id(self) -> i64 {
        i64::try_from(self.0 >> (OPERATION_BITS + 1)).unwrap_or(i64::MAX)
    }

    pub(super) fn operation(self) -> Operation {
        match self.0 >> 1 & 3 {
            0 => Operation::Add,
            1 => Operation::Update,
            2 => Operation::Upsert,
            _ => Operation::Delete,
        }
    }

    pub(super) fn has_vector(self) -> bool {
        self.0 & VECTOR != 0
    }

    pub(super) fn is_add(self) -> bool {
        self.operation() == Operation::Add
    }

    pub(super) fn is_delete(self) -> bool {
        self.operation() == Operation::Delete
    }

    pub(super) fn changes_vector(self) -> bool {
        self.has_vector() || self.is_delete()
    }
}

/// The row with an id's vector after the rows of `group`, or `Some(None)` when it has none any
/// more; `None` when it is what it was before.
pub(super) fn replay_vectors(group: &[(u64, Logged)], mut present: bool) -> Option<Option<Logged>> {
    let mut change = None;
    for (_, logged) in group {
        let applies = match logged.operation() {
            Operation::Add => !present,
            Operation::Update => present,
            Operation::Delete => {
                if present {
                    change = Some(None);
                    present = false;
                }
                continue;
            }
            _ => true,
        };
        if applies && logged.has_vector() {
            change = Some(Some(*logged));
            present = true;
        }
    }
    change
}

/// The row with the last vector of an id, of which the index should know and does not.
pub(super) fn last_vector(group: &[(u64, Logged)]) -> Option<Logged> {
    let mut found = None;
    for (_, logged) in group {
        match logged.operation() {
            Operation::Delete => found = None,
            Operation::Add if found.is_some() => {}
            _ if logged.has_vector() => found = Some(*logged),
            _ => {}
        }
    }
    found
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is the same record, whatever was merged into it.
    Kept,
    Gone,
    /// It is another record, which this row of the log has created.
    Created(i64),
}

/// What becomes of a record by the rows of `group`.
pub(super) fn presence(group: &[(u64, Logged)], present: bool) -> Presence {
    let mut presence = match present {
        true => Presence::Kept,
        false => Presence::Gone,
    };
    for (_, logged) in group {
        match logged.operation() {
            Operation::Delete => presence = Presence::Gone,
            Operation::Add | Operation::Upsert if presence == Presence::Gone => {
                presence = Presence::Created(logged.seq_id());
            }
            _ => {}
        }
    }
    presence
}
