//! Byte-for-byte agreement with the voprf crate, both ways round, and the
//! refusal of whatever it does not check.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod oprf_support;

use blindbook::{
    oprf::{BlindedBatch, MAX_INPUT_BYTES, OprfError, PublicKey, ServerKey},
    secret::Secret,
};
use oprf_support::Rng06;
use proptest::{collection::vec, prelude::*};
use rand::{SeedableRng as _, rngs::StdRng};
use voprf::{
    BlindedElement, EvaluationElement, Group as _, Proof, Ristretto255, VoprfClient, VoprfServer,
};

type Client = VoprfClient<Ristretto255>;
type Server = VoprfServer<Ristretto255>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn our_server_answers_voprf_clients_as_its_own_server_would(
        seed: [u8; 32],
        info in vec(any::<u8>(), 0..80),
        inputs in vec(vec(any::<u8>(), 0..300), 1..12),
        random: u64,
    ) {
        our_server_matches(&seed, &info, &inputs, random);
    }

    #[test]
    fn our_client_opens_the_answers_of_voprf_servers(
        seed: [u8; 32],
        info in vec(any::<u8>(), 0..80),
        inputs in vec(vec(any::<u8>(), 0..300), 1..12),
        random: u64,
    ) {
        our_client_matches(&seed, &info, &inputs, random);
    }

    #[test]
    fn one_flipped_bit_in_an_answer_is_refused(
        inputs in vec(vec(any::<u8>(), 0..40), 1..5),
        position: prop::sample::Index,
        random: u64,
    ) {
        let mut rng = StdRng::seed_from_u64(random);
        let server = server(1);
        let batch = BlindedBatch::blind(&inputs, &mut rng).unwrap();
        let (evaluated, proof) =
            server.blind_evaluate_batch(batch.blinded_elements(), &mut rng).unwrap();

        let mut answer = [evaluated.as_slice(), &proof].concat();
        let bit = position.index(answer.len() * 8);
        answer[bit / 8] ^= 1 << (bit % 8);
        let (evaluated, proof) = answer.split_at(evaluated.len());
        let refused = batch.finalize(evaluated, proof, &server.public_key());
        let for_a_reason = matches!(
            refused,
            Err(OprfError::MalformedElement { .. }
                | OprfError::IdentityElement { .. }
                | OprfError::MalformedProof
                | OprfError::InvalidProof)
        );
        prop_assert!(for_a_reason);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_evaluated_but_never_panic(
        blinded in vec(any::<u8>(), 0..200),
        proof in vec(any::<u8>(), 0..80),
    ) {
        let mut rng = StdRng::seed_from_u64(0);
        let server = server(1);
        if let Ok((evaluated, _)) = server.blind_evaluate_batch(&blinded, &mut rng) {
            prop_assert_eq!(evaluated.len(), blinded.len());
        }
        let batch = BlindedBatch::blind(&["input"], &mut rng).unwrap();
        prop_assert!(batch.finalize(&blinded, &proof, &server.public_key()).is_err());
        if let Ok(key) = PublicKey::from_bytes(&blinded) {
            prop_assert_eq!(key.to_bytes().to_vec(), blinded);
        }
    }
}

/// Sizes on both sides of the multiscalar algorithms' and the chunks' limits.
#[test]
fn large_batches_match_on_both_sides() {
    for size in [128_u32, 190, 257, 512] {
        let inputs: Vec<_> = (0..size).map(|n| format!("tel:+1415{n:07}").into_bytes()).collect();
        our_server_matches(&[9; 32], b"large", &inputs, u64::from(size));
        our_client_matches(&[9; 32], b"large", &inputs, u64::from(size));
    }
}

#[test]
fn the_longest_input_is_evaluated_and_one_byte_more_is_refused() {
    let server = server(1);
    let oracle = Server::new_from_seed(&[1; 32], b"test").unwrap();
    let longest = vec![b'a'; MAX_INPUT_BYTES];
    let outputs = server.evaluate_many(&[&longest]).unwrap();
    assert_eq!(outputs[0].expose().as_slice(), &oracle.evaluate(&longest).unwrap()[..]);

    let too_long = vec![b'a'; MAX_INPUT_BYTES + 1];
    let inputs = [longest, too_long];
    let refused = OprfError::InputTooLong { index: 1 };
    assert_eq!(server.evaluate_many(&inputs).unwrap_err(), refused);
    assert_eq!(BlindedBatch::blind(&inputs, &mut rand::rng()).unwrap_err(), refused);
}

#[test]
fn a_refused_input_is_named_by_its_place_in_the_whole_list() {
    let mut inputs = vec![Vec::new(); 700];
    inputs[600] = vec![0; MAX_INPUT_BYTES + 1];
    assert_eq!(
        server(1).evaluate_many(&inputs).unwrap_err(),
        OprfError::InputTooLong { index: 600 }
    );
}

#[test]
fn an_info_that_is_too_long_is_refused() {
    let seed = Secret::new([1; 32]);
    assert!(ServerKey::derive(&seed, &vec![0; 65_535]).is_ok());
    assert_eq!(ServerKey::derive(&seed, &vec![0; 65_536]).unwrap_err(), OprfError::InfoTooLong);
}

#[test]
fn batches_without_elements_or_with_too_many_are_refused() {
    let mut rng = rand::rng();
    let none: [&str; 0] = [];
    assert_eq!(BlindedBatch::blind(&none, &mut rng).unwrap_err(), OprfError::EmptyBatch);
    let many = vec![""; 65_536];
    assert_eq!(BlindedBatch::blind(&many, &mut rng).unwrap_err(), OprfError::TooManyElements);

    // Refused by its size: the elements are not even looked at.
    let many = vec![0; 65_536 * 32];
    let refused = server(1).blind_evaluate_batch(&many, &mut rng).unwrap_err();
    assert_eq!(refused, OprfError::TooManyElements);
    assert!(server(1).evaluate_many(&none).unwrap().is_empty());
}

#[test]
fn one_blinded_batch_is_finalized_under_every_active_key() {
    let mut rng = rand::rng();
    let inputs = ["tel:+14155550100", "mailto:alice@example.com"];
    let batch = BlindedBatch::blind(&inputs, &mut rng).unwrap();
    let [old, new] = [1, 2].map(|seed| {
        let server = server(seed);
        let (evaluated, proof) =
            server.blind_evaluate_batch(batch.blinded_elements(), &mut rng).unwrap();
        let outputs = batch.finalize(&evaluated, &proof, &server.public_key()).unwrap();
        assert_eq!(outputs, server.evaluate_many(&inputs).unwrap());
        outputs
    });
    assert_ne!(old, new);
}

#[test]
fn a_proof_holds_for_its_own_batch_and_key_alone() {
    let mut rng = rand::rng();
    let [ours, other] = [1, 2].map(server);
    let batch = BlindedBatch::blind(&["a", "b"], &mut rng).unwrap();
    let again = BlindedBatch::blind(&["a", "b"], &mut rng).unwrap();
    assert_ne!(batch.blinded_elements(), again.blinded_elements());

    let (evaluated, proof) = ours.blind_evaluate_batch(batch.blinded_elements(), &mut rng).unwrap();
    let (elsewhere, _) = other.blind_evaluate_batch(batch.blinded_elements(), &mut rng).unwrap();
    let mixed = [&evaluated[..32], &elsewhere[32..]].concat();
    for refused in [
        batch.finalize(&evaluated, &proof, &other.public_key()),
        batch.finalize(&elsewhere, &proof, &ours.public_key()),
        batch.finalize(&mixed, &proof, &ours.public_key()),
        again.finalize(&evaluated, &proof, &ours.public_key()),
    ] {
        assert_eq!(refused.unwrap_err(), OprfError::InvalidProof);
    }
    assert!(batch.finalize(&evaluated, &proof, &ours.public_key()).is_ok());
}

#[test]
fn debug_shows_no_key_input_or_output() {
    let server = server(1);
    let batch = BlindedBatch::blind(&["tel:+14155550100"], &mut rand::rng()).unwrap();
    let outputs = server.evaluate_many(&["tel:+14155550100"]).unwrap();
    assert_eq!(format!("{server:?}"), "ServerKey(..)");
    assert_eq!(format!("{batch:?}"), "BlindedBatch(1 elements of 32 bytes)");
    assert_eq!(format!("{:?}", outputs[0]), "Output(Secret(..))");
}

fn our_server_matches(seed: &[u8; 32], info: &[u8], inputs: &Vec<Vec<u8>>, random: u64) {
    let ours = ServerKey::derive(&Secret::new(*seed), info).unwrap();
    let theirs = Server::new_from_seed(seed, info).unwrap();
    let key = theirs.get_public_key();
    assert_eq!(ours.public_key().to_bytes()[..], Ristretto255::serialize_elem(key)[..]);

    let mut rng = Rng06(StdRng::seed_from_u64(random));
    let (clients, blinded): (Vec<_>, Vec<_>) = inputs
        .iter()
        .map(|input| Client::blind(input, &mut rng).unwrap())
        .map(|blinded| (blinded.state, blinded.message))
        .unzip();

    let nonce = || StdRng::seed_from_u64(random ^ 1);
    let (evaluated, proof) =
        ours.blind_evaluate_batch(&blinded_bytes(&blinded), &mut nonce()).unwrap();
    let expected = theirs.batch_blind_evaluate(&mut Rng06(nonce()), &blinded).unwrap();
    assert_eq!(evaluated, evaluated_bytes(&expected.messages));
    assert_eq!(proof.as_slice(), &expected.proof.serialize()[..]);

    let messages: Vec<_> = evaluated
        .chunks(32)
        .map(|element| EvaluationElement::deserialize(element).unwrap())
        .collect();
    let proof = Proof::deserialize(&proof).unwrap();
    let finalized = Client::batch_finalize(inputs, &clients, &messages, &proof, key).unwrap();
    let published = ours.evaluate_many(inputs).unwrap();
    assert_eq!(published.len(), inputs.len());
    for ((input, output), finalized) in inputs.iter().zip(&published).zip(finalized) {
        assert_eq!(output.expose().as_slice(), &finalized.unwrap()[..]);
        assert_eq!(output.expose().as_slice(), &theirs.evaluate(input).unwrap()[..]);
    }
}

fn our_client_matches(seed: &[u8; 32], info: &[u8], inputs: &[Vec<u8>], random: u64) {
    let theirs = Server::new_from_seed(seed, info).unwrap();
    let key = PublicKey::from_bytes(&Ristretto255::serialize_elem(theirs.get_public_key()));

    let blinds = || StdRng::seed_from_u64(random);
    let batch = BlindedBatch::blind(inputs, &mut blinds()).unwrap();
    let mut blinds = Rng06(blinds());
    let blinded: Vec<_> =
        inputs.iter().map(|input| Client::blind(input, &mut blinds).unwrap().message).collect();
    assert_eq!(batch.blinded_elements(), blinded_bytes(&blinded));

    let blinded: Vec<_> = batch
        .blinded_elements()
        .chunks(32)
        .map(|element| BlindedElement::deserialize(element).unwrap())
        .collect();
    let answer = theirs.batch_blind_evaluate(&mut blinds, &blinded).unwrap();
    let outputs = batch
        .finalize(&evaluated_bytes(&answer.messages), &answer.proof.serialize(), &key.unwrap())
        .unwrap();
    let expected: Vec<_> = inputs.iter().map(|input| theirs.evaluate(input).unwrap()).collect();
    assert!(outputs.iter().map(|output| &output.expose()[..]).eq(expected.iter().map(|y| &y[..])));
    assert_eq!(outputs.len(), inputs.len());
}

fn blinded_bytes(elements: &[BlindedElement<Ristretto255>]) -> Vec<u8> {
    elements.iter().flat_map(BlindedElement::serialize).collect()
}

fn evaluated_bytes(elements: &[EvaluationElement<Ristretto255>]) -> Vec<u8> {
    elements.iter().flat_map(EvaluationElement::serialize).collect()
}

fn server(seed: u8) -> ServerKey {
    ServerKey::derive(&Secret::new([seed; 32]), b"test").unwrap()
}
