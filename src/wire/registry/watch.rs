//! Changes of buckets, as they are watched. `Debug` prints no bucket number.

use std::fmt;

use super::{WireError, proto};
use crate::bucket::{BucketNumber, PrefixBits};

/// A public place in the log of changes, for a directory of so many bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The directory's prefix bits.
    pub prefix_bits: PrefixBits,
    /// One for each of its partitions, ascending.
    pub sequences: Vec<u64>,
}

impl TryFrom<proto::Checkpoint> for Checkpoint {
    type Error = WireError;

    fn try_from(checkpoint: proto::Checkpoint) -> Result<Self, WireError> {
        let rule = |field, rule| WireError::Rule { field, rule };
        let prefix_bits = PrefixBits::new(checkpoint.prefix_bits)
            .map_err(|_| rule("checkpoint.prefix_bits", "must be at most 32"))?;
        if checkpoint.sequences.len() as u64 != u64::from(prefix_bits.partitions()) {
            let field = "checkpoint.sequences";
            return Err(rule(field, "must be one for each partition of prefix_bits"));
        }
        Ok(Self { prefix_bits, sequences: checkpoint.sequences })
    }
}

impl From<Checkpoint> for proto::Checkpoint {
    fn from(checkpoint: Checkpoint) -> Self {
        Self { prefix_bits: checkpoint.prefix_bits.get().into(), sequences: checkpoint.sequences }
    }
}

/// Watches for changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Where to go on; `None`: from now on.
    pub from: Option<Checkpoint>,
}

impl TryFrom<proto::WatchInvalidationsRequest> for Watch {
    type Error = WireError;

    fn try_from(request: proto::WatchInvalidationsRequest) -> Result<Self, WireError> {
        Ok(Self { from: request.checkpoint.map(TryInto::try_into).transpose()? })
    }
}

impl From<Watch> for proto::WatchInvalidationsRequest {
    fn from(watch: Watch) -> Self {
        Self { checkpoint: watch.from.map(Into::into) }
    }
}

/// A bucket that changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Invalidated {
    /// Which.
    pub number: BucketNumber,
    /// What it changed to.
    pub version: u64,
}

impl fmt::Debug for Invalidated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invalidated(..)")
    }
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalidations {
    /// Any bucket may have changed.
    pub everything: bool,
    /// Buckets that changed.
    pub changed: Vec<Invalidated>,
    /// Where to go on: all changes before it were told.
    pub checkpoint: Option<Checkpoint>,
}

impl Invalidations {
    /// Checks an answer of a directory of so many bits.
    ///
    /// # Errors
    /// A bucket that it has not, or a checkpoint that cannot be.
    pub fn check(
        response: proto::WatchInvalidationsResponse,
        bits: PrefixBits,
    ) -> Result<Self, WireError> {
        let check = |invalidation: &proto::Invalidation| {
            let number = BucketNumber::new(invalidation.number, bits).map_err(|_| {
                let rule = "must fit in the directory's prefix bits";
                WireError::Rule { field: "changed.number", rule }
            })?;
            Ok(Invalidated { number, version: invalidation.version })
        };
        Ok(Self {
            everything: response.everything,
            changed: response.changed.iter().map(check).collect::<Result<_, WireError>>()?,
            checkpoint: response.checkpoint.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<Invalidations> for proto::WatchInvalidationsResponse {
    fn from(invalidations: Invalidations) -> Self {
        let changed = invalidations.changed.iter().map(|changed| proto::Invalidation {
            number: changed.number.get(),
            version: changed.version,
        });
        Self {
            everything: invalidations.everything,
            changed: changed.collect(),
            checkpoint: invalidations.checkpoint.map(Into::into),
        }
    }
}
