//! Which of several daemons watches what: a stable hash of its name, so that
//! every shard knows without asking the others, and nothing moves as long as
//! their number stays. Pure.

/// One of several daemons that share the work of one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    total: u32,
}

impl Shard {
    /// One daemon for everything.
    pub const WHOLE: Self = Self { index: 0, total: 1 };

    /// The shard `index` (from 0) of `total`; `None` unless it is one of them.
    pub fn new(index: u32, total: u32) -> Option<Self> {
        (index < total).then_some(Self { index, total })
    }

    /// From 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many there are; 1 at least.
    pub fn total(self) -> u32 {
        self.total
    }

    /// Whether it watches what `parts` name.
    pub fn owns(self, parts: &[&str]) -> bool {
        stable_hash(parts) % u64::from(self.total) == u64::from(self.index)
    }
}

/// A hash that is the same in every release and on every machine: FNV-1a with a
/// finalizer. The standard library's may change between releases.
pub fn stable_hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (position, part) in parts.iter().enumerate() {
        // Where a part ends matters.
        let separator = (position > 0).then_some(0);
        for byte in separator.into_iter().chain(part.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_one_owner_and_each_shard_its_part() {
        for total in [1, 2, 3, 8] {
            let shards: Vec<Shard> = (0..total).filter_map(|i| Shard::new(i, total)).collect();
            let mut owned = vec![0_u32; shards.len()];
            for number in 0..8_000 {
                let name = format!("crast-{number}");
                let owners: Vec<usize> = (0..shards.len())
                    .filter(|at| shards[*at].owns(&["cri-a", &name]))
                    .collect();
                assert_eq!(owners.len(), 1);
                owned[owners[0]] += 1;
            }
            let fair = 8_000 / total;
            for count in owned {
                assert!(count.abs_diff(fair) * 10 < fair, "{count} of about {fair}");
            }
        }
    }

    #[test]
    fn the_hash_stays_what_it_is_and_sees_where_a_part_ends() {
        // FNV-1a of "a" is published: 0xaf63dc4c8601ec8c.
        let mut expected = 0xaf63_dc4c_8601_ec8c_u64;
        expected ^= expected >> 32;
        expected = expected.wrapping_mul(0xd6e8_feb8_6659_fd93);
        expected ^= expected >> 32;
        assert_eq!(stable_hash(&["a"]), expected);
        assert_ne!(stable_hash(&["a", "bc"]), stable_hash(&["ab", "c"]));
    }

    #[test]
    fn a_shard_is_one_of_its_number() {
        assert_eq!(Shard::new(2, 2), None);
        assert_eq!(Shard::new(0, 0), None);
        assert_eq!(Shard::new(0, 1), Some(Shard::WHOLE));
    }
}
