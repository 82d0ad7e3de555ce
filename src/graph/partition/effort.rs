//! What `ef_construction` means here.
//!
//! | ef_construction | 16 | 50 | 100 | 200 | 400 | 1024 and more |
//! |---|---|---|---|---|---|---|
//! | groups that a node is in | 5 | 8 | 10 | 12 | 28 | 64 |
//! | candidates that a node keeps | 34 | 40 | 40 | 40 | 40 | 40 |
//!
//! Both grow with it and never fall. Up to 200 there are two more groups for twice the effort: these
//! have the recall that native has with the same `ef_construction`. Many groups come in rounds, each
//! with leaders of its own, so that the memory of one round is enough. A group that is too large is
//! carved again, which puts its nodes into more. Where ten groups and more turn out to be
//! [not enough](super::cover), there are sixteen more. Insertions into the layers above 0 keep half of
//! `ef_construction`.

/// Effort for each group that a node is in, where there are many.
const EF_PER_GROUP: usize = 16;

/// What the logarithm of the square of the effort, to base 2, is more than the number of groups where
/// they are few.
const LOGARITHM_LESS: u32 = 3;

const GROUPS_MIN: usize = 2;
const GROUPS_MAX: usize = 64;

/// Groups of a node, of 4 bytes each, where there is one round.
const FAN_OUT_MAX: usize = 12;

/// Groups of a node in each of several rounds. They take 6 bytes each, for they are found while
/// candidates are held.
pub(super) const FAN_OUT_OF_ROUNDS: usize = 8;

/// Rounds that are added where the groups were [not enough](super::cover).
pub(super) const ROUNDS_MORE: usize = 2;

/// With fewer groups for each node, none are added: who asks for that little effort wants it to be
/// little, and insertions with as little make a worse graph of any vectors.
const GROUPS_CHECKED: usize = 10;

/// Candidates that a node keeps, of 5 bytes each: with the groups, no more than 256 bytes for each
/// node. Where lists are longer than usual, it is as many as a list has room for.
const ROOM_MAX: usize = 40;

/// Candidates that a node keeps however few groups it is in.
const ROOM_MIN: usize = 24;

/// Candidates that a node gets from one group at most, unless m is more.
const PICKS: usize = 16;

/// How much work is put into the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effort {
    /// Times that all nodes are carved into groups.
    pub(super) rounds: usize,
    /// Leaders that each node follows in one of them.
    pub(super) fan_out: usize,
    /// The most candidates that a node gets from one group.
    pub(super) picks: usize,
    /// The most candidates that a node keeps.
    pub(super) room: usize,
}

impl Effort {
    pub(super) fn new(ef_construction: usize, m: usize, m0: usize) -> Self {
        let square = ef_construction.saturating_mul(ef_construction);
        let few = square.max(1).ilog2().saturating_sub(LOGARITHM_LESS) as usize;
        let groups = few.max(ef_construction / EF_PER_GROUP);
        let groups = groups.clamp(GROUPS_MIN, GROUPS_MAX);
        let rounds = if groups <= FAN_OUT_MAX {
            1
        } else {
            groups.div_ceil(FAN_OUT_OF_ROUNDS)
        };
        Self {
            rounds,
            fan_out: groups.div_ceil(rounds),
            picks: m.max(PICKS),
            room: groups
                .saturating_mul(2)
                .saturating_add(ROOM_MIN)
                .min(ROOM_MAX)
                .max(m0),
        }
    }

    /// Whether rounds may be added.
    pub(super) fn is_checked(self) -> bool {
        self.rounds.saturating_mul(self.fan_out) >= GROUPS_CHECKED
    }

    /// Leaders that each node follows in a round, which may be one of those that are added.
    pub(super) fn fan_out(self, round: usize) -> usize {
        if round < self.rounds {
            self.fan_out
        } else {
            FAN_OUT_OF_ROUNDS
        }
    }
}

/// The `ef_construction` of insertions into the layers above 0. They only lead a search near its end,
/// and with more they lead it no nearer.
pub(super) fn above(ef_construction: usize, m: usize) -> usize {
    (ef_construction / 2).max(m).min(ef_construction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_effort_is_never_less_work() {
        let mut before = Effort::new(0, 16, 32);
        for ef_construction in 0..3000 {
            let effort = Effort::new(ef_construction, 16, 32);
            assert!(effort.rounds * effort.fan_out >= before.rounds * before.fan_out);
            assert!(effort.rounds >= before.rounds && effort.room >= before.room);
            // With its groups and its own number.
            let of_groups = if effort.rounds > 1 { 6 } else { 4 };
            assert!(5 * effort.room + of_groups * effort.fan_out + 4 <= 256);
            assert!(5 * effort.room + 6 * FAN_OUT_OF_ROUNDS + 4 <= 256);
            before = effort;
        }
        assert!(before.rounds * before.fan_out >= GROUPS_MAX);
    }
}
