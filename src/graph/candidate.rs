//! Nodes sorted by their distance.

/// A node and its key, packed so that integers compare by key, then by node: 32 bits of key, 31
/// bits of node and a mark bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate(u64);

impl Candidate {
    const MARK: u64 = 1;

    /// Maximum number of nodes: 31 bits each, without the last value.
    pub(crate) const MAX_NODES: u32 = (1 << 31) - 1;

    #[inline(always)]
    pub(crate) fn new(key: f32, node: u32) -> Self {
        Self(u64::from(ordered(key)) << 32 | u64::from(node) << 1)
    }

    #[inline(always)]
    pub(crate) fn with_order(order: u32, node: u32) -> Self {
        Self(u64::from(order) << 32 | u64::from(node) << 1)
    }

    /// The key as an integer in the same order.
    #[inline(always)]
    pub(crate) fn order(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    pub(crate) fn key(self) -> f32 {
        let order = self.order();
        // Reverses `ordered`.
        f32::from_bits(if order >> 31 == 0 {
            !order
        } else {
            order & !(1 << 31)
        })
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low half")]
    pub(crate) fn node(self) -> u32 {
        self.0 as u32 >> 1
    }

    #[inline(always)]
    pub(crate) fn marked(self) -> Self {
        Self(self.0 | Self::MARK)
    }

    #[inline(always)]
    pub(crate) fn unmarked(self) -> Self {
        Self(self.0 & !Self::MARK)
    }

    #[inline(always)]
    pub(crate) fn is_marked(self) -> bool {
        self.0 & Self::MARK != 0
    }
}

/// Maps a float to an integer of the same order: flips the sign bit of positive floats and all bits
/// of negative ones.
#[inline(always)]
pub(crate) fn ordered(key: f32) -> u32 {
    let bits = key.to_bits();
    if bits >> 31 == 0 {
        bits | 1 << 31
    } else {
        !bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_sort_by_key_then_by_node_and_give_both_back() {
        let keys = [
            f32::NEG_INFINITY,
            -2.5,
            -f32::MIN_POSITIVE,
            -0.0,
            0.0,
            f32::from_bits(1),
            1.0,
            f32::MAX,
            f32::INFINITY,
        ];
        let nodes = [0, 1, Candidate::MAX_NODES - 1];
        let mut candidates = Vec::new();
        for key in keys {
            for node in nodes {
                let candidate = Candidate::new(key, node);
                assert_eq!(candidate.key().to_bits(), key.to_bits());
                assert_eq!(candidate.node(), node);
                assert_eq!(candidate.marked().node(), node);
                assert_eq!(candidate.marked().unmarked(), candidate);
                candidates.push(candidate);
            }
        }
        assert!(candidates.is_sorted());
    }
}
