//! One batch: which lookups it holds, in which order its elements and its
//! prefixes stand, and the bytes that ask for them.

use bytes::Bytes;
use rand::{CryptoRng, seq::SliceRandom as _};
use zeroize::Zeroizing;

use super::{ClientError, cache::Outputs, decoys::Decoy};
use crate::{
    bucket::{BucketNumber, Circle, Placement, PrefixBits, circle::oprf_input},
    epoch::Epoch,
    identifier::Sii,
    oprf::{BlindedBatch, Output},
    secret::Secret,
    token::ELEMENTS_PER_TOKEN,
    wire::{BUCKET_BATCHES, Evaluate, Fetch, MAX_BUCKETS_PER_FETCH, Parameters, proto},
};

/// Elements of one lookup: its own, and the circle's or one of chance.
const ELEMENTS_PER_LOOKUP: usize = 2;

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

    /// The OPRF input, outside of any circle.
    pub(super) fn input(&self) -> &[u8] {
        match self {
            Self::Contact(_, sii) => sii.as_bytes(),
            Self::Decoy(decoy) => decoy.input.expose(),
        }
    }

    /// Whether it may come again, and is kept until then.
    pub(super) const fn is_asked_again(&self) -> bool {
        match self {
            Self::Contact(..) => true,
            Self::Decoy(decoy) => decoy.stored,
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

/// A batch, in the order of its prefixes.
pub(super) struct Question {
    asked: Vec<Asked>,
    placements: Vec<Placement>,
}

impl Question {
    /// Takes a batch that is shuffled already.
    pub(super) fn new(asked: Vec<Asked>) -> Self {
        let placements = asked.iter().map(Asked::placement).collect();
        Self { asked, placements }
    }

    /// What is looked up, in the order of the prefixes.
    pub(super) fn asked(&self) -> impl Iterator<Item = (&Asked, &Placement)> {
        self.asked.iter().zip(&self.placements)
    }

    /// Where the first lookup's bucket lies.
    pub(super) fn placement(&self) -> Option<&Placement> {
        self.placements.first()
    }

    /// How many tokens its evaluation costs: one for each lookup.
    pub(super) const fn tokens(&self) -> usize {
        self.asked.len() * ELEMENTS_PER_LOOKUP / ELEMENTS_PER_TOKEN
    }

    /// What names each lookup, in the same order.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &[u8]> {
        self.asked.iter().map(Asked::input)
    }

    /// The requests under these parameters: for the buckets, and for the
    /// outputs unless they are known.
    pub(super) fn requests(
        &self,
        blinded: Option<&Blinded>,
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
        let evaluate = blinded.map(|blinded| blinded.request(epoch));
        Ok(Requests { evaluate, fetch: fetch.into(), numbers, right })
    }
}

/// The elements of a batch: the same whenever it is sent.
pub(super) struct Blinded {
    batch: BlindedBatch,
    /// Where the two elements of each lookup stand; the second only if its
    /// output is of use.
    elements_of: Vec<(usize, Option<usize>)>,
}

impl Blinded {
    /// Blinds two inputs for each lookup, the second of the identifier in the
    /// circle or else of chance, in an order that has nothing to do with that
    /// of the prefixes.
    pub(super) fn new(
        question: &Question,
        circle: Option<&Circle>,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, ClientError> {
        let second: Vec<(bool, Zeroizing<Vec<u8>>)> = question
            .asked
            .iter()
            .map(|asked| {
                if let (Asked::Contact(_, sii), Some(circle)) = (asked, circle) {
                    return (true, oprf_input(sii, Some(circle)));
                }
                let mut chance = Zeroizing::new(vec![0; 32]);
                rng.fill_bytes(&mut chance);
                (false, chance)
            })
            .collect();
        let first = question.inputs().enumerate().map(|(place, input)| (2 * place, input));
        let others = second.iter().enumerate();
        let others = others.map(|(place, (_, input))| (2 * place + 1, input.as_slice()));
        let mut inputs: Vec<(usize, &[u8])> = first.chain(others).collect();
        inputs.shuffle(rng);
        let bytes: Vec<&[u8]> = inputs.iter().map(|(_, input)| *input).collect();
        let batch = BlindedBatch::blind(&bytes, rng).map_err(ClientError::Input)?;
        let mut elements: Vec<(usize, usize)> =
            inputs.iter().enumerate().map(|(element, (which, _))| (*which, element)).collect();
        elements.sort_unstable();
        let (pairs, _) = elements.as_chunks::<2>();
        let elements_of = pairs
            .iter()
            .zip(&second)
            .map(|([(_, first), (_, other)], (of_use, _))| (*first, of_use.then_some(*other)))
            .collect();
        Ok(Self { batch, elements_of })
    }

    pub(super) fn batch(&self) -> &BlindedBatch {
        &self.batch
    }

    /// The request for their outputs, not paid for.
    pub(super) fn request(&self, epoch: Epoch) -> proto::EvaluateRequest {
        let blinded_elements = self.batch.blinded_elements().to_vec().into();
        Evaluate { epoch, blinded_elements, tokens: Bytes::new() }.into()
    }

    /// How many elements are sent.
    pub(super) fn elements(&self) -> usize {
        2 * self.elements_of.len()
    }

    /// The outputs of each lookup, in the order of the prefixes, from those in
    /// the order of the elements.
    pub(super) fn outputs(&self, finalized: &[Output]) -> Option<Vec<Outputs>> {
        let output = |element: usize| Some(Secret::new(*finalized.get(element)?.expose()));
        self.elements_of
            .iter()
            .map(|(first, second)| {
                let circle = match second {
                    Some(second) => Some(output(*second)?),
                    None => None,
                };
                Some(Outputs { open: output(*first)?, circle })
            })
            .collect()
    }
}

/// What goes out at once.
pub(super) struct Requests {
    pub(super) evaluate: Option<proto::EvaluateRequest>,
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
        Question::new(asked.collect())
    }

    fn blind(question: &Question, circle: Option<&Circle>) -> Blinded {
        Blinded::new(question, circle, &mut rand::rng()).unwrap()
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
            pir: None,
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
    fn every_lookup_meets_its_own_outputs_and_bucket() {
        let (parameters, key) = parameters(bits(9));
        let circle = Circle::new(Secret::new([9; 32]));
        for circle in [None, Some(&circle)] {
            let question = question(16);
            let blinded = blind(&question, circle);
            let requests = question.requests(Some(&blinded), &parameters, bits(6)).unwrap();
            assert_eq!(requests.fetch.prefix_bits, 6);
            assert_eq!(requests.numbers.len(), 16 * 8);
            let elements = requests.evaluate.unwrap().blinded_elements;
            assert_eq!(elements.len(), 32 * 32);
            let rng = &mut rand::rng();
            let (evaluated, proof) = key.blind_evaluate_batch(&elements, rng).unwrap();
            let finalized =
                blinded.batch().finalize(&evaluated, &proof, &key.public_key()).unwrap();
            let outputs = blinded.outputs(&finalized).unwrap();
            let buckets = requests.right.iter().map(|at| requests.numbers[*at]);
            for (((asked, placement), bucket), outputs) in
                question.asked().zip(buckets).zip(&outputs)
            {
                let Asked::Contact(_, sii) = asked else { panic!("no decoys here") };
                assert_eq!(bucket, placement.bucket(bits(9)));
                let expected = |circle| {
                    let outputs = key.evaluate_many(&[oprf_input(sii, circle).as_slice()]);
                    Secret::new(*outputs.unwrap()[0].expose())
                };
                assert!(outputs.open == expected(None));
                assert!(outputs.circle == circle.map(|circle| expected(Some(circle))));
            }
            assert_eq!(outputs.len(), 16);
        }
    }

    #[test]
    fn elements_stand_in_another_order_than_prefixes() {
        // By chance alike once in 256! / 2^256 batches.
        let order = |question: &Question| {
            let order = blind(question, None).elements_of.into_iter().map(|(first, _)| first);
            order.collect::<Vec<_>>()
        };
        assert!(!order(&question(256)).is_sorted());
        let question = question(64);
        assert_ne!(order(&question), order(&question));
    }

    #[test]
    fn known_outputs_are_not_asked_for() {
        let (parameters, _) = parameters(bits(9));
        let requests = question(4).requests(None, &parameters, bits(9)).unwrap();
        assert!(requests.evaluate.is_none());
        assert_eq!(requests.fetch.prefixes.len(), 4);
    }

    #[test]
    fn sizes_are_those_of_the_wire() {
        for (lookups, elements) in BUCKET_BATCHES.into_iter().zip(ELEMENT_BATCHES) {
            assert_eq!(2 * lookups, elements);
        }
    }
}
