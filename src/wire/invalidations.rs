//! Which buckets change: what a watcher asks for, and what it is told.

use prost::Message as _;

use super::{WireError, proto};
use crate::bucket::{BucketNumber, PrefixBits};

/// Most changes that one message may hold; more go into the next one.
pub const MAX_INVALIDATIONS: usize = 4096;

/// Longest message of a watch: a checkpoint of 2^16 partitions, and as many
/// changes as there may be.
pub const MAX_INVALIDATIONS_BYTES: usize = 1024 * 1024;

/// A public place in the log of changes, the same for all watchers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    prefix_bits: PrefixBits,
    sequences: Vec<u64>,
}

impl Checkpoint {
    /// The place in a directory of so many prefix bits that has this sequence
    /// in each partition, ascending by partition.
    ///
    /// # Errors
    /// There are not as many sequences as partitions.
    pub fn new(prefix_bits: PrefixBits, sequences: Vec<u64>) -> Result<Self, WireError> {
        if u32::try_from(sequences.len()) == Ok(prefix_bits.partitions()) {
            Ok(Self { prefix_bits, sequences })
        } else {
            let rule = "must be one for each partition of that many prefix bits";
            Err(WireError::Rule { field: "checkpoint.sequences", rule })
        }
    }

    /// The directory's prefix bits.
    #[must_use]
    pub const fn prefix_bits(&self) -> PrefixBits {
        self.prefix_bits
    }

    /// Of each partition.
    #[must_use]
    pub fn sequences(&self) -> &[u64] {
        &self.sequences
    }

    /// Encoded, as a watcher keeps it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        proto::Checkpoint::from(self.clone()).encode_to_vec()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// No encoded checkpoint, or none that can be.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let checkpoint = proto::Checkpoint::decode(bytes);
        checkpoint.map_err(|_| WireError::Encoding("checkpoint"))?.try_into()
    }
}

impl TryFrom<proto::Checkpoint> for Checkpoint {
    type Error = WireError;

    fn try_from(checkpoint: proto::Checkpoint) -> Result<Self, WireError> {
        let prefix_bits = PrefixBits::new(checkpoint.prefix_bits).map_err(|_| WireError::Rule {
            field: "checkpoint.prefix_bits",
            rule: "must be at most 32",
        })?;
        Self::new(prefix_bits, checkpoint.sequences)
    }
}

impl From<Checkpoint> for proto::Checkpoint {
    fn from(checkpoint: Checkpoint) -> Self {
        Self { prefix_bits: checkpoint.prefix_bits.get().into(), sequences: checkpoint.sequences }
    }
}

/// A request to be told of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Where to go on; `None`: from now on.
    pub checkpoint: Option<Checkpoint>,
}

impl Watch {
    /// Decodes and checks an encoded request.
    ///
    /// # Errors
    /// Not an encoded request, or one that is refused.
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let request = proto::WatchInvalidationsRequest::decode(message);
        request.map_err(|_| WireError::Encoding("request"))?.try_into()
    }
}

impl TryFrom<proto::WatchInvalidationsRequest> for Watch {
    type Error = WireError;

    fn try_from(request: proto::WatchInvalidationsRequest) -> Result<Self, WireError> {
        let checkpoint = request.checkpoint.map(Checkpoint::try_from).transpose()?;
        Ok(Self { checkpoint })
    }
}

impl From<Watch> for proto::WatchInvalidationsRequest {
    fn from(watch: Watch) -> Self {
        Self { checkpoint: watch.checkpoint.map(Into::into) }
    }
}

/// A bucket that changed, and the version that it changed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalidation {
    /// Which bucket.
    pub number: BucketNumber,
    /// At least 1.
    pub version: u64,
}

/// What a watcher is told at once.
///
/// The first message of a stream holds a checkpoint, and so does each that says
/// `everything`; others may hold none. Numbers are within the prefix bits of
/// the message's checkpoint, or of the last one before it; those differ from
/// the ones that the watcher knows only where the message says `everything`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalidations {
    /// Any bucket may have changed.
    pub everything: bool,
    /// At most [`MAX_INVALIDATIONS`] buckets that changed.
    pub changed: Vec<Invalidation>,
    /// All changes before it were sent.
    pub checkpoint: Option<Checkpoint>,
}

impl Invalidations {
    /// Decodes and checks an encoded message, as [`Self::check`] does.
    ///
    /// # Errors
    /// Not an encoded message, or one that is refused.
    pub fn decode(message: &[u8], known: Option<PrefixBits>) -> Result<Self, WireError> {
        let response = proto::WatchInvalidationsResponse::decode(message);
        Self::check(response.map_err(|_| WireError::Encoding("response"))?, known)
    }

    /// Checks a message of a stream. `known` are the prefix bits of the last
    /// checkpoint before it: of the stream, or else the one asked for.
    ///
    /// # Errors
    /// A field breaks a rule; the sender is at fault.
    pub fn check(
        response: proto::WatchInvalidationsResponse,
        known: Option<PrefixBits>,
    ) -> Result<Self, WireError> {
        let rule = |field, rule| WireError::Rule { field, rule };
        let checkpoint = response.checkpoint.map(Checkpoint::try_from).transpose()?;
        let bits = match (&checkpoint, known) {
            (None, _) if response.everything => return Err(WireError::Missing("checkpoint")),
            (None, None) => return Err(WireError::Missing("checkpoint")),
            (None, Some(known)) => known,
            (Some(checkpoint), Some(known))
                if checkpoint.prefix_bits != known && !response.everything =>
            {
                let broken = "must be as before, unless everything changed";
                return Err(rule("checkpoint.prefix_bits", broken));
            }
            (Some(checkpoint), _) => checkpoint.prefix_bits,
        };
        if response.changed.len() > MAX_INVALIDATIONS {
            return Err(rule("changed", "must hold at most 4096 buckets"));
        }
        let changed = response
            .changed
            .into_iter()
            .map(|proto::Invalidation { number, version }| {
                let number = BucketNumber::new(number, bits)
                    .map_err(|_| rule("changed.number", "must fit in prefix_bits bits"))?;
                if version == 0 {
                    return Err(rule("changed.version", "must be at least 1"));
                }
                Ok(Invalidation { number, version })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { everything: response.everything, changed, checkpoint })
    }
}

impl From<Invalidations> for proto::WatchInvalidationsResponse {
    fn from(invalidations: Invalidations) -> Self {
        let changed = invalidations.changed.into_iter().map(|changed| proto::Invalidation {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(bits: u32) -> PrefixBits {
        PrefixBits::new(bits).unwrap()
    }

    fn checkpoint(prefix_bits: u32, sequences: usize) -> proto::Checkpoint {
        proto::Checkpoint { prefix_bits, sequences: vec![7; sequences] }
    }

    fn response(
        changed: &[(u32, u64)],
        checkpoint: Option<proto::Checkpoint>,
    ) -> proto::WatchInvalidationsResponse {
        let changed =
            changed.iter().map(|&(number, version)| proto::Invalidation { number, version });
        proto::WatchInvalidationsResponse {
            everything: false,
            changed: changed.collect(),
            checkpoint,
        }
    }

    #[test]
    fn a_checkpoint_has_one_sequence_for_each_partition() {
        let field = |checkpoint: proto::Checkpoint| {
            Checkpoint::try_from(checkpoint).err().map(|error| error.field())
        };
        for (prefix_bits, partitions) in [(0, 1), (16, 1), (17, 2), (20, 16), (32, 65_536)] {
            assert_eq!(field(checkpoint(prefix_bits, partitions)), None);
            for wrong in [0, partitions - 1, partitions + 1] {
                let refused = field(checkpoint(prefix_bits, wrong));
                assert_eq!(refused, Some("checkpoint.sequences"));
            }
        }
        assert_eq!(field(checkpoint(33, 1)), Some("checkpoint.prefix_bits"));
    }

    #[test]
    fn requests_checkpoints_and_messages_round_trip() {
        let place = Checkpoint::new(bits(17), vec![1, u64::MAX]).unwrap();
        assert_eq!(Checkpoint::from_bytes(&place.to_bytes()), Ok(place.clone()));
        for checkpoint in [None, Some(place.clone())] {
            let watch = Watch { checkpoint };
            let message = proto::WatchInvalidationsRequest::from(watch.clone()).encode_to_vec();
            assert_eq!(Watch::decode(&message), Ok(watch));
        }
        let number = BucketNumber::new(0x1_ffff, bits(17)).unwrap();
        let told = Invalidations {
            everything: true,
            changed: vec![Invalidation { number, version: 3 }],
            checkpoint: Some(place),
        };
        let message = proto::WatchInvalidationsResponse::from(told.clone()).encode_to_vec();
        assert_eq!(Invalidations::decode(&message, Some(bits(16))), Ok(told));
        assert!(Invalidations::decode(&[0xff], None).is_err());
        assert!(Watch::decode(&[0xff]).is_err());
    }

    #[test]
    fn the_longest_message_fits() {
        let changed: Vec<_> = (0..MAX_INVALIDATIONS).map(|_| (u32::MAX, u64::MAX)).collect();
        let longest = response(&changed, Some(checkpoint(32, 65_536)));
        assert!(longest.encoded_len() <= MAX_INVALIDATIONS_BYTES);
        assert!(Invalidations::check(longest, None).is_ok());
    }

    #[test]
    fn what_breaks_a_rule_is_refused_by_field() {
        let field = |response, known: Option<u32>| {
            Invalidations::check(response, known.map(bits)).err().map(|error| error.field())
        };
        let known = Some(4);
        assert_eq!(field(response(&[(15, 1)], None), known), None);
        assert_eq!(field(response(&[(16, 1)], None), known), Some("changed.number"));
        assert_eq!(field(response(&[(15, 0)], None), known), Some("changed.version"));
        assert_eq!(field(response(&[], None), None), Some("checkpoint"));
        assert_eq!(field(response(&[(15, 1)], Some(checkpoint(4, 1))), None), None);
        let deeper = response(&[(31, 1)], Some(checkpoint(5, 1)));
        assert_eq!(field(deeper.clone(), known), Some("checkpoint.prefix_bits"));
        let split = proto::WatchInvalidationsResponse { everything: true, ..deeper };
        assert_eq!(field(split.clone(), known), None);
        let nowhere = proto::WatchInvalidationsResponse { checkpoint: None, ..split };
        assert_eq!(field(nowhere, known), Some("checkpoint"));
        let many = vec![(1, 1); MAX_INVALIDATIONS + 1];
        assert_eq!(field(response(&many, None), known), Some("changed"));
    }
}
