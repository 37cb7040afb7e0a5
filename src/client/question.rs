//! One batch: which lookups it holds, in which order its elements and its
//! prefixes stand, and the bytes that ask for them.

use rand::{CryptoRng, seq::SliceRandom as _};

use super::{ClientError, decoys::Decoy};
use crate::{
    bucket::{BucketNumber, Placement, PrefixBits},
    identifier::Sii,
    oprf::{BlindedBatch, Output},
    secret::Secret,
    wire::{BUCKET_BATCHES, Evaluate, Fetch, MAX_BUCKETS_PER_FETCH, Parameters, proto},
};

/// One lookup of a batch.
pub(super) enum Asked {
    /// Somebody's, and their place among all that the caller asks for.
    Contact(usize, Sii),
    /// Nobody's.
    Decoy(Decoy),
}

impl Asked {
    fn placement(&self) -> Placement {
        match self {
            Self::Contact(_, sii) => Placement::of(sii),
            Self::Decoy(decoy) => decoy.placement.clone(),
        }
    }

    fn input(&self) -> &[u8] {
        match self {
            Self::Contact(_, sii) => sii.as_bytes(),
            Self::Decoy(decoy) => decoy.input.expose(),
        }
    }
}

/// The most bits that may be sent to a directory of so many.
pub(super) fn sent_bits(directory: PrefixBits, pinned: PrefixBits) -> PrefixBits {
    directory.min(pinned)
}

/// The sizes of the batches that hold `lookups`, fewest first filled: all full
/// but the last, and that one of the least size that holds the rest.
pub(super) fn batches(
    lookups: usize,
    directory: PrefixBits,
    pinned: PrefixBits,
) -> Result<Vec<usize>, ClientError> {
    let beneath = 1_u64 << (directory.get() - sent_bits(directory, pinned).get());
    let allowed = || {
        let fits = |size: &usize| *size as u64 * beneath <= MAX_BUCKETS_PER_FETCH;
        BUCKET_BATCHES.iter().copied().filter(fits)
    };
    let most = allowed().max().ok_or(ClientError::DirectoryTooDeep { directory, pinned })?;
    let mut sizes = vec![most; lookups / most];
    let rest = lookups % most;
    if rest > 0 {
        sizes.extend(allowed().find(|size| *size >= rest));
    }
    Ok(sizes)
}

/// A batch, blinded.
pub(super) struct Question {
    /// In the order of the prefixes.
    asked: Vec<Asked>,
    placements: Vec<Placement>,
    batch: BlindedBatch,
    /// Where the element of each lookup stands.
    element_of: Vec<usize>,
}

impl Question {
    /// Blinds a batch that is shuffled already: two elements for each lookup,
    /// the second of a random input, in an order that has nothing to do with
    /// that of the prefixes.
    pub(super) fn blind(asked: Vec<Asked>, rng: &mut impl CryptoRng) -> Result<Self, ClientError> {
        let second: Vec<Secret<32>> = asked.iter().map(|_| Secret::random(rng)).collect();
        let mut inputs: Vec<(Option<usize>, &[u8])> = asked
            .iter()
            .enumerate()
            .map(|(place, asked)| (Some(place), asked.input()))
            .chain(second.iter().map(|second| (None, second.expose().as_slice())))
            .collect();
        inputs.shuffle(rng);
        let mut element_of = vec![0; asked.len()];
        for (element, (place, _)) in inputs.iter().enumerate() {
            if let Some(slot) = place.and_then(|place| element_of.get_mut(place)) {
                *slot = element;
            }
        }
        let bytes: Vec<&[u8]> = inputs.iter().map(|(_, input)| *input).collect();
        let batch = BlindedBatch::blind(&bytes, rng).map_err(ClientError::Input)?;
        let placements = asked.iter().map(Asked::placement).collect();
        Ok(Self { asked, placements, batch, element_of })
    }

    pub(super) fn batch(&self) -> &BlindedBatch {
        &self.batch
    }

    /// How many elements are sent.
    pub(super) fn elements(&self) -> usize {
        2 * self.asked.len()
    }

    /// Each lookup with its output and what came for its prefix, given in the
    /// order of the elements and of the prefixes.
    pub(super) fn answered<'a, B>(
        &'a self,
        outputs: impl Fn(&B) -> Option<&'a [Output]>,
        buckets: &'a [B],
    ) -> impl Iterator<Item = (&'a Asked, &'a B, &'a Output)> {
        let places = self.asked.iter().zip(&self.element_of).zip(buckets);
        places.filter_map(move |((asked, element), bucket)| {
            Some((asked, bucket, outputs(bucket)?.get(*element)?))
        })
    }

    /// The two requests under these parameters. The blinded elements are the
    /// same each time.
    pub(super) fn requests(
        &self,
        parameters: &Parameters,
        pinned: PrefixBits,
    ) -> Result<Requests, ClientError> {
        let directory = parameters.prefix_bits;
        let bits = sent_bits(directory, pinned);
        // Checked again: the parameters may have changed since the plan.
        if !batches(self.asked.len(), directory, pinned)?.contains(&self.asked.len()) {
            return Err(ClientError::DirectoryTooDeep { directory, pinned });
        }
        let epoch = parameters.newest().ok_or(ClientError::ParametersContradicted)?.epoch;
        let fetch = Fetch {
            epoch,
            directory_prefix_bits: directory,
            prefix_bits: bits,
            prefixes: self.placements.iter().map(|placement| placement.bucket(bits)).collect(),
        };
        let numbers: Vec<_> = fetch.numbers().collect();
        // Beneath each prefix lie equally many buckets, and one is the right one.
        let beneath = numbers.len() / self.placements.len().max(1);
        let right = self.placements.iter().enumerate().filter_map(|(place, placement)| {
            let number = placement.bucket(directory);
            let here = numbers.get(place * beneath..(place + 1) * beneath)?;
            Some(place * beneath + here.iter().position(|beneath| *beneath == number)?)
        });
        let right = right.collect();
        let blinded_elements = self.batch.blinded_elements().to_vec().into();
        Ok(Requests {
            evaluate: Evaluate { epoch, blinded_elements }.into(),
            fetch: fetch.into(),
            numbers,
            right,
        })
    }
}

/// What goes out at once.
pub(super) struct Requests {
    pub(super) evaluate: proto::EvaluateRequest,
    pub(super) fetch: proto::FetchBucketsRequest,
    /// The buckets that must come, in order.
    pub(super) numbers: Vec<BucketNumber>,
    /// Which of them hold the lookups, ascending, one for each prefix.
    pub(super) right: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bucket::DirectoryId,
        epoch::Epoch,
        oprf::ServerKey,
        wire::{ELEMENT_BATCHES, EpochKey},
    };

    fn bits(bits: u32) -> PrefixBits {
        PrefixBits::new(bits).unwrap()
    }

    fn question(lookups: usize) -> Question {
        let asked = (0..lookups).map(|n| {
            let sii = Sii::from_canonical(&format!("acct:user{n}@wa.example")).unwrap();
            Asked::Contact(n, sii)
        });
        Question::blind(asked.collect(), &mut rand::rng()).unwrap()
    }

    fn parameters(prefix_bits: PrefixBits) -> (Parameters, ServerKey) {
        let key = ServerKey::derive(&Secret::new([1; 32]), b"test").unwrap();
        let parameters = Parameters {
            directory: DirectoryId::from_bytes([0; 16]),
            serial: 1,
            not_before_s: 0,
            not_after_s: 1,
            prefix_bits,
            epochs: vec![EpochKey { epoch: Epoch::FIRST, key: key.public_key() }],
            refresh_period_s: 1,
            regions: Vec::new(),
        };
        (parameters, key)
    }

    #[test]
    fn batches_are_full_but_the_last_and_that_one_is_the_least_that_holds_the_rest() {
        let of = |lookups| batches(lookups, bits(17), bits(17)).unwrap();
        assert!(of(0).is_empty());
        for (lookups, expected) in
            [(1, 1), (2, 4), (4, 4), (5, 16), (16, 16), (17, 64), (64, 64), (65, 256), (256, 256)]
        {
            assert_eq!(of(lookups), [expected], "{lookups}");
        }
        assert_eq!(of(257), [256, 1]);
        assert_eq!(of(600), [256, 256, 256]);
    }

    #[test]
    fn a_deeper_directory_means_smaller_batches_and_in_the_end_none() {
        let of = |directory| batches(300, bits(directory), bits(17));
        assert_eq!(of(23).unwrap(), [256, 64]);
        assert_eq!(of(24).unwrap(), [64, 64, 64, 64, 64]);
        assert_eq!(of(31).unwrap(), [1; 300]);
        assert!(matches!(of(32), Err(ClientError::DirectoryTooDeep { .. })));
        assert_eq!(batches(300, bits(4), bits(17)).unwrap(), [256, 64]);
    }

    #[test]
    fn every_lookup_meets_its_own_output_and_bucket() {
        let question = question(16);
        let (parameters, key) = parameters(bits(9));
        let requests = question.requests(&parameters, bits(6)).unwrap();
        assert_eq!(requests.fetch.prefix_bits, 6);
        assert_eq!(requests.numbers.len(), 16 * 8);
        assert_eq!(requests.evaluate.blinded_elements.len(), 32 * 32);
        let rng = &mut rand::rng();
        let (evaluated, proof) =
            key.blind_evaluate_batch(&requests.evaluate.blinded_elements, rng).unwrap();
        let outputs = question.batch().finalize(&evaluated, &proof, &key.public_key()).unwrap();
        let buckets: Vec<_> = requests.right.iter().map(|at| requests.numbers[*at]).collect();
        let mut seen = 0;
        for (asked, bucket, output) in question.answered(|_| Some(outputs.as_slice()), &buckets) {
            let Asked::Contact(_, sii) = asked else { panic!("no decoys here") };
            assert_eq!(*bucket, Placement::of(sii).bucket(bits(9)));
            assert!(*output == key.evaluate_many(&[sii]).unwrap()[0]);
            seen += 1;
        }
        assert_eq!(seen, 16);
    }

    #[test]
    fn elements_stand_in_another_order_than_prefixes() {
        // By chance alike once in 256! / 2^256 batches.
        let in_order = |question: &Question| question.element_of.is_sorted();
        assert!(!in_order(&question(256)));
        assert_ne!(question(64).element_of, question(64).element_of);
    }

    #[test]
    fn sizes_are_those_of_the_wire() {
        for (lookups, elements) in BUCKET_BATCHES.into_iter().zip(ELEMENT_BATCHES) {
            assert_eq!(2 * lookups, elements);
        }
    }
}
