//! `ef_construction` as numbers of groups and candidates.
//!
//! | ef_construction | 16 | 50 | 100 | 200 | 400 | 1024 and more |
//! |---|---|---|---|---|---|---|
//! | groups that a node is in | 5 | 8 | 10 | 12 | 28 | 64 |
//! | candidates that a node keeps | 34 | 40 | 40 | 40 | 40 | 40 |
//!
//! Both grow with `ef_construction` and never fall. Up to 200, twice the effort adds two groups; the
//! graph then has the recall of the native engine at the same `ef_construction`. Many groups come in
//! rounds with leaders of their own, so that only one round is in memory. A group that is too large is
//! carved again, which adds groups to its nodes. If ten or more groups turn out to be
//! [too few](super::cover), sixteen are added. Insertions into the upper levels use half of
//! `ef_construction`.

/// For large efforts the number of groups is `ef_construction` / 16.
const EF_PER_GROUP: usize = 16;

/// For small efforts the number of groups is log2(`ef_construction`²) − 3.
const SMALL_EFFORT_BIAS: u32 = 3;

/// Limits of the number of groups per node.
const MIN_GROUPS: usize = 2;
const MAX_GROUPS: usize = 64;

/// Maximum number of groups per node in a single round, 4 bytes each.
const MAX_FAN_OUT: usize = 12;

/// Groups of a node in each of several rounds. They take 6 bytes each, because they are found while
/// candidates are held.
pub(super) const FAN_OUT_OF_ROUNDS: usize = 8;

/// Rounds that are added if the groups were [too few](super::cover).
pub(super) const EXTRA_ROUNDS: usize = 2;

/// Below this number of groups a node, none are added: the caller asked for a fast build, and insertion
/// with the same effort gives a worse graph anyway.
const MIN_GROUPS_CHECKED: usize = 10;

/// Maximum number of candidates that a node keeps, 5 bytes each: 256 bytes per node together with
/// its groups. If m0 is larger, m0 candidates are kept.
const MAX_ROOM: usize = 40;

/// Minimum number of candidates that a node keeps, even with few groups.
const MIN_ROOM: usize = 24;

/// Maximum number of candidates that one group gives a node, unless m is larger.
const PICKS: usize = 16;

/// The amount of work for a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effort {
    /// Number of times that all nodes are carved into groups.
    pub(super) rounds: usize,
    /// Leaders that each node follows in one round.
    pub(super) fan_out: usize,
    /// Maximum number of candidates that one group gives a node.
    pub(super) picks: usize,
    /// Maximum number of candidates that a node keeps.
    pub(super) room: usize,
}

impl Effort {
    pub(super) fn new(ef_construction: usize, m: usize, m0: usize) -> Self {
        // Squared so that the integer logarithm is 2 · log2(ef), rounded down.
        let square = ef_construction.saturating_mul(ef_construction);
        let few = square.max(1).ilog2().saturating_sub(SMALL_EFFORT_BIAS) as usize;
        let groups = few.max(ef_construction / EF_PER_GROUP);
        let groups = groups.clamp(MIN_GROUPS, MAX_GROUPS);
        let rounds = if groups <= MAX_FAN_OUT {
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
                .saturating_add(MIN_ROOM)
                .min(MAX_ROOM)
                .max(m0),
        }
    }

    /// Returns true if coverage is measured, so that rounds can be added.
    pub(super) fn is_checked(self) -> bool {
        self.rounds.saturating_mul(self.fan_out) >= MIN_GROUPS_CHECKED
    }

    /// Leaders that each node follows in a round, extra rounds included.
    pub(super) fn fan_out(self, round: usize) -> usize {
        if round < self.rounds {
            self.fan_out
        } else {
            FAN_OUT_OF_ROUNDS
        }
    }
}

/// The `ef_construction` of insertions into the upper levels. These levels only lead a search close to
/// its target; more effort leads it no closer.
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
        assert!(before.rounds * before.fan_out >= MAX_GROUPS);
    }
}
