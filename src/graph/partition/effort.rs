//! What `ef_construction` means here.
//!
//! | ef_construction | 50 | 100 | 200 | 400 | 1600 and more |
//! |---|---|---|---|---|---|
//! | groups that a node is in | 2 | 4 | 8 | 16 | 64 |
//! | candidates that a node keeps | 14 | 18 | 24 | 24 | 24 |
//!
//! Both grow with it and never fall. More groups than [`FAN_OUT_MAX`] come in rounds, each with
//! leaders of its own, so that the memory of one round is enough.

/// Effort for each group that a node is in.
const EF_PER_GROUP: usize = 25;

const GROUPS_MIN: usize = 2;
const GROUPS_MAX: usize = 64;

/// Groups of a node in one round. They take 6 bytes each.
const FAN_OUT_MAX: usize = 8;

/// Candidates that a node keeps, of 8 bytes each: with the groups, less than 256 bytes for each
/// node. Where the lists of the graph are longer than usual, it is three quarters of their length.
const ROOM_MAX: usize = 24;

/// Candidates that a node gets from one group at most, unless m is more.
const PICKS: usize = 16;

/// How much work is put into the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effort {
    /// Times that all nodes are carved into groups.
    pub(super) rounds: usize,
    /// Leaders that each node follows.
    pub(super) fan_out: usize,
    /// The most candidates that a node gets from one group.
    pub(super) picks: usize,
    /// The most candidates that a node keeps.
    pub(super) room: usize,
}

impl Effort {
    pub(super) fn new(ef_construction: usize, m: usize, m0: usize) -> Self {
        let groups = ef_construction / EF_PER_GROUP;
        let groups = groups.clamp(GROUPS_MIN, GROUPS_MAX);
        let rounds = groups.div_ceil(FAN_OUT_MAX);
        Self {
            rounds,
            fan_out: groups.div_ceil(rounds),
            picks: m.max(PICKS),
            room: groups
                .saturating_mul(2)
                .saturating_add(10)
                .min(ROOM_MAX)
                .max(m0 / 4 * 3),
        }
    }
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
            assert!(effort.fan_out <= FAN_OUT_MAX);
            // With its groups, their numbers and its own number.
            assert!(8 * effort.room + 6 * effort.fan_out + 4 <= 256);
            before = effort;
        }
        assert_eq!(before.rounds * before.fan_out, GROUPS_MAX);
    }
}
