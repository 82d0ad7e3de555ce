//! Effect of queue rows on one id.

use crate::store::queue::Operation;

/// A queue row in eight bytes: sequence number (61 bits), operation (2), has-vector flag (1). The
/// order of the values is the order of the rows.
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

/// Replays the rows of `group` on the vector of one id.
///
/// Returns the row with the new vector, `Some(None)` if the vector was deleted, and `None` if it is
/// unchanged.
pub(super) fn replay_vectors(group: &[(u64, Logged)], mut present: bool) -> Option<Option<Logged>> {
    let mut change = None;
    for (_, logged) in group {
        let applies = match logged.operation() {
            // An add to an existing id and an update of a missing one do nothing, as in Chroma.
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

/// The last queue entry of this id that carries a vector but is missing from the segment.
pub(super) fn last_vector(group: &[(u64, Logged)]) -> Option<Logged> {
    let mut found = None;
    for (_, logged) in group {
        match logged.operation() {
            Operation::Delete => found = None,
            // The first add of an id wins: later ones do nothing while it exists.
            Operation::Add if found.is_some() => {}
            _ if logged.has_vector() => found = Some(*logged),
            _ => {}
        }
    }
    found
}

/// State of a record after the replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// The same record, possibly with other texts.
    Kept,
    Gone,
    /// Another record of the same id, created by this queue row.
    Created(i64),
}

/// Replays the rows of `group` on the existence of a record.
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
