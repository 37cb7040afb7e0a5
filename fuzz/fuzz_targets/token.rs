//! What concerns tokens and quotas: requests to issue, signatures that come back,
//! public keys, and what is written down of an account.
//!
//! Input: one byte that chooses, then the bytes. What is taken keeps every bound
//! that its checked form promises, and is written again as it was read.

#![no_main]

use blindbook::{
    access::quota::Leases,
    token::{PublicKey, SIGNATURE_BYTES},
    wire::{IssueTokens, MAX_ISSUED, WireError, issued_from_proto, proto},
};
use libfuzzer_sys::{Corpus, fuzz_target};
use prost::Message as _;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((choice, bytes)) = data.split_first() else { return Corpus::Reject };
    match choice % 4 {
        0 => request(bytes),
        1 => response(bytes, usize::from(choice / 4)),
        2 => key(bytes),
        _ => leases(bytes),
    }
    Corpus::Keep
});

/// A refusal names a field, and nothing that came in.
fn refused(error: WireError) {
    let field = error.field();
    assert!(!field.is_empty());
    assert!(error.to_string().starts_with(field));
}

fn request(bytes: &[u8]) {
    let Ok(request) = proto::IssueTokensRequest::decode(bytes) else { return };
    let sent = request.clone();
    match IssueTokens::try_from(request) {
        Ok(checked) => {
            assert!((1..=MAX_ISSUED).contains(&checked.blinded.len()));
            let back = proto::IssueTokensRequest::from(checked);
            assert!(back == sent, "the checked form lost or added something");
        }
        Err(error) => refused(error),
    }
}

fn response(bytes: &[u8], asked: usize) {
    let Ok(response) = proto::IssueTokensResponse::decode(bytes) else { return };
    match issued_from_proto(&response, asked) {
        Ok(signatures) => {
            assert_eq!(signatures.len(), asked);
            assert_eq!(response.blind_signatures.len(), asked * SIGNATURE_BYTES);
        }
        Err(error) => refused(error),
    }
}

fn key(bytes: &[u8]) {
    if let Ok(key) = PublicKey::decode(bytes) {
        assert_eq!(key.encoded(), bytes);
    }
}

fn leases(bytes: &[u8]) {
    if let Some(leases) = Leases::decode(bytes) {
        let written = leases.encode();
        assert_eq!(Leases::decode(&written), Some(leases));
        // Those of before there were queries are written in the form of today.
        assert!(written == bytes || bytes.len() < written.len());
    }
}
