//! Requests as a server takes them, answers as a client does.

use blindbook::{
    bucket::BucketNumber,
    wire::{Evaluate, Evaluation, Fetch, WireError, proto},
};
use prost::Message as _;
use serde_json::Value;

use crate::{
    signed::wire_refusal,
    vector::{Case, NOTHING},
};

pub(crate) fn message(case: Case<'_>) {
    match case.text("type") {
        "EvaluateRequest" => evaluate_request(case),
        "EvaluateResponse" => evaluate_response(case),
        "FetchBucketsRequest" => fetch_request(case),
        other => panic!("there is no message {other}"),
    }
}

fn evaluate_request(case: Case<'_>) {
    let message = given(case);
    let elements = case.get("message").get("middle").filled();
    assert_eq!(elements.len(), 32 * case.usize("elements"));
    let evaluate = Evaluate {
        epoch: case.epoch(),
        blinded_elements: elements.into(),
        tokens: Vec::new().into(),
    };
    let request = proto::EvaluateRequest::decode(message.clone()).unwrap();
    assert!(Evaluate::try_from(request).unwrap() == evaluate);
    assert_eq!(proto::EvaluateRequest::from(evaluate).encode_to_vec(), message);
}

fn evaluate_response(case: Case<'_>) {
    let evaluations = case.list("evaluations").map(|evaluation| Evaluation {
        epoch: evaluation.epoch(),
        evaluated_elements: evaluation.get("evaluated_elements").filled().into(),
        proof: evaluation.array("proof"),
    });
    let evaluations: Vec<_> = evaluations.collect();
    let response = Evaluation::response(evaluations.clone());
    let (encoded, given) = (response.encode_to_vec(), case.get("message"));
    assert_eq!(encoded.len(), given.usize("bytes"));
    assert_eq!(blake3::hash(&encoded).as_bytes().as_slice(), given.bytes("blake3"));
    assert!(Evaluation::check(response, case.usize("elements")).unwrap() == evaluations);
}

fn fetch_request(case: Case<'_>) {
    let message = given(case);
    let bits = case.bits("prefix_bits");
    let prefix = |prefix: Case<'_>| {
        BucketNumber::new(prefix.0.as_u64().unwrap().try_into().unwrap(), bits).unwrap()
    };
    let fetch = Fetch {
        epoch: case.epoch(),
        directory_prefix_bits: case.bits("directory_prefix_bits"),
        prefix_bits: bits,
        prefixes: case.list("prefixes").map(prefix).collect(),
    };
    let numbers: Vec<[u8; 4]> = fetch.numbers().map(|number| number.get().to_be_bytes()).collect();
    assert_eq!(numbers.len(), case.usize("buckets"));
    let hash = blake3::hash(numbers.as_flattened());
    assert_eq!(hash.as_bytes().as_slice(), case.bytes("numbers_blake3"));

    let request = proto::FetchBucketsRequest::decode(message.clone()).unwrap();
    assert!(Fetch::try_from(request).unwrap() == fetch);
    assert_eq!(proto::FetchBucketsRequest::from(fetch).encode_to_vec(), message);
}

fn given(case: Case<'_>) -> bytes::Bytes {
    let message = case.get("message").message();
    assert_eq!(message.len(), case.get("message").usize("bytes"));
    message
}

pub(crate) fn message_refusal(case: Case<'_>, _: &Value) -> String {
    let message = given(case);
    let refused: Result<(), WireError> = match case.text("type") {
        "EvaluateRequest" => {
            Evaluate::try_from(proto::EvaluateRequest::decode(message).unwrap()).map(|_| ())
        }
        "EvaluateResponse" => {
            let response = proto::EvaluateResponse::decode(message).unwrap();
            Evaluation::check(response, case.usize("elements")).map(|_| ())
        }
        "FetchBucketsRequest" => {
            Fetch::try_from(proto::FetchBucketsRequest::decode(message).unwrap()).map(|_| ())
        }
        other => panic!("there is no message {other}"),
    };
    refused.map_or_else(wire_refusal, |()| NOTHING.into())
}
