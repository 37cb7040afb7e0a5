//! Messages as the other side sends them, decoded and checked.
//!
//! Input: one byte that chooses the message, then its encoding. What is taken
//! keeps every bound that the checked form promises, and says the same after
//! another trip over the wire.

#![no_main]

use blindbook::{
    bucket::{BUCKET_BYTES, PrefixBits},
    token::TOKEN_BYTES,
    wire::{
        BUCKET_BATCHES, ELEMENT_BATCHES, ELEMENT_BYTES, Evaluate, Evaluation, Fetch,
        MAX_BUCKETS_PER_FETCH, WireError, bucket_from_proto, bucket_to_proto, proto,
    },
};
use libfuzzer_sys::{Corpus, fuzz_target};
use prost::Message;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((choice, bytes)) = data.split_first() else { return Corpus::Reject };
    match choice % 4 {
        0 => decode(bytes).map(evaluate_request),
        1 => decode(bytes).map(fetch_request),
        2 => decode(bytes).map(|response| evaluate_response(response, usize::from(choice / 4))),
        _ => decode(bytes).map(|response| fetch_response(response, u32::from(choice / 4))),
    }
    .map_or(Corpus::Reject, |()| Corpus::Keep)
});

fn decode<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    M::decode(bytes).ok()
}

/// A refusal names a field of the proto, and nothing that came in.
fn refused(error: WireError) {
    let field = error.field();
    assert!(!field.is_empty());
    assert!(field.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'.')), "{field}");
    assert!(error.to_string().starts_with(field));
}

/// The same message after another trip.
fn again<M: Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).expect("what was encoded decodes")
}

fn evaluate_request(request: proto::EvaluateRequest) {
    let sent = request.clone();
    match Evaluate::try_from(request) {
        Ok(checked) => {
            let bytes = checked.blinded_elements.len();
            assert!(ELEMENT_BATCHES.iter().any(|batch| batch * ELEMENT_BYTES == bytes));
            let tokens = checked.tokens.len();
            assert!(tokens == 0 || tokens == bytes / ELEMENT_BYTES / 2 * TOKEN_BYTES);
            let back = proto::EvaluateRequest::from(checked.clone());
            assert_eq!(back, sent, "the checked form lost or added something");
            assert!(Evaluate::try_from(again(&back)).is_ok_and(|twice| twice == checked));
        }
        Err(error) => refused(error),
    }
}

fn fetch_request(request: proto::FetchBucketsRequest) {
    let sent = request.clone();
    match Fetch::try_from(request) {
        Ok(checked) => {
            assert!(BUCKET_BATCHES.contains(&checked.prefixes.len()));
            assert!(checked.prefix_bits <= checked.directory_prefix_bits);
            let numbers: Vec<_> = checked.numbers().collect();
            let count = checked.buckets_per_prefix() * checked.prefixes.len() as u64;
            assert_eq!(numbers.len() as u64, count);
            assert!(count <= MAX_BUCKETS_PER_FETCH);
            let bits = checked.directory_prefix_bits;
            for (place, number) in numbers.iter().enumerate() {
                assert!(u64::from(number.get()) < bits.buckets());
                let prefix = checked.prefixes[place / checked.buckets_per_prefix() as usize];
                assert_eq!(number.above(bits, checked.prefix_bits), Some(prefix));
            }
            let back = proto::FetchBucketsRequest::from(checked.clone());
            assert_eq!(back, sent, "the checked form lost or added something");
            assert!(Fetch::try_from(again(&back)).is_ok_and(|twice| twice == checked));
        }
        Err(error) => refused(error),
    }
}

fn evaluate_response(response: proto::EvaluateResponse, elements: usize) {
    let sent = response.clone();
    match Evaluation::check(response, elements) {
        Ok(evaluations) => {
            assert!((1..=2).contains(&evaluations.len()));
            assert!(evaluations.is_sorted_by(|one, next| one.epoch < next.epoch));
            for evaluation in &evaluations {
                assert_eq!(evaluation.evaluated_elements.len(), elements * ELEMENT_BYTES);
            }
            assert_eq!(Evaluation::response(evaluations), sent);
        }
        Err(error) => refused(error),
    }
}

fn fetch_response(response: proto::FetchBucketsResponse, bits: u32) {
    let Ok(bits) = PrefixBits::new(bits) else { return };
    let sent = response.clone();
    match bucket_from_proto(response, bits) {
        Ok(bucket) => {
            assert!(u64::from(bucket.number.get()) < bits.buckets());
            assert_eq!(bucket.entries().len(), BUCKET_BYTES);
            assert_eq!(bucket_to_proto(&bucket), sent);
        }
        Err(error) => refused(error),
    }
}
