//! What an operator chooses of private information retrieval.

use super::PirError;
use crate::{
    bucket::PrefixBits,
    pir::PREPARER_BYTES,
    server::{ServerError, cores},
    wire::pir_shape,
};

/// Most queries that a server can be told to let wait.
const MAX_WAITING: usize = 4096;

/// How queries for rows are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PirOptions {
    /// Bytes of memory that all matrices may take, while they are made and while
    /// they follow changes. A directory that needs more is not served.
    pub memory_bytes: u64,
    /// Threads that answer; 0 for half of the cores, so that buckets have the
    /// others.
    pub threads: usize,
    /// How many queries may wait for each partition; one more is refused with a
    /// time to come back. Each takes 264 KB at most.
    pub max_waiting: usize,
}

impl Default for PirOptions {
    fn default() -> Self {
        Self { memory_bytes: 8 << 30, threads: 0, max_waiting: 32 }
    }
}

impl PirOptions {
    /// Checks what can be checked without a directory.
    pub(in crate::server) fn check(&self) -> Result<(), ServerError> {
        let refused = |name, rule| Err(ServerError::Option { name, rule });
        if self.threads > 512 {
            return refused("pir threads", "must be at most 512");
        }
        if !(1..=MAX_WAITING).contains(&self.max_waiting) {
            return refused("pir max_waiting", "must be from 1 to 4096");
        }
        Ok(())
    }

    /// Threads that answer.
    pub(super) fn threads(&self) -> usize {
        match self.threads {
            0 => (cores() / 2).max(1),
            chosen => chosen,
        }
    }

    /// Bytes of memory for a directory: all matrices, what follows their changes, and
    /// what makes the last of them while the others are followed already.
    pub(super) fn needed_bytes(bits: PrefixBits) -> u64 {
        let (shape, partitions) = (pir_shape(bits), u64::from(bits.partitions()));
        let making = (cores() * PREPARER_BYTES) as u64;
        let following = shape.following_bytes() + PREPARER_BYTES as u64;
        let last = shape.memory_bytes().saturating_add(making.max(following));
        let others = (partitions - 1).saturating_mul(shape.memory_bytes() + following);
        others.saturating_add(last)
    }

    /// Whether the memory suffices for a directory.
    pub(super) fn admit(&self, bits: PrefixBits) -> Result<(), PirError> {
        let needed_bytes = Self::needed_bytes(bits);
        if needed_bytes <= self.memory_bytes {
            return Ok(());
        }
        Err(PirError::Memory {
            partitions: bits.partitions(),
            rows: pir_shape(bits).rows(),
            needed_bytes,
            budget_bytes: self.memory_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_needs_more_memory_is_refused_with_the_numbers() {
        let bits = |bits| PrefixBits::new(bits).unwrap();
        let options = PirOptions::default();
        options.check().unwrap();
        options.admit(bits(16)).unwrap();
        let refused = options.admit(bits(17)).unwrap_err().to_string();
        for number in ["2 partitions of 65536 rows", "8.0 GiB"] {
            assert!(refused.contains(number), "{refused}");
        }
        // The largest there is can be told, too.
        assert!(options.admit(bits(32)).is_err());
        let exact = PirOptions { memory_bytes: PirOptions::needed_bytes(bits(17)), ..options };
        exact.admit(bits(17)).unwrap();
        let less = PirOptions { memory_bytes: exact.memory_bytes - 1, ..exact };
        assert!(less.admit(bits(17)).is_err());
    }

    #[test]
    fn options_that_cannot_be_are_refused() {
        for options in [
            PirOptions { threads: 513, ..PirOptions::default() },
            PirOptions { max_waiting: 0, ..PirOptions::default() },
            PirOptions { max_waiting: 4097, ..PirOptions::default() },
        ] {
            assert!(options.check().is_err(), "{options:?}");
        }
        assert!(PirOptions::default().threads() >= 1);
        assert_eq!(PirOptions { threads: 3, ..PirOptions::default() }.threads(), 3);
    }
}
