//! The directory's signed bodies: parameters and provider list.
//!
//! Input: one byte that chooses the kind, then the body, which is signed here so
//! that the decoder is reached. A body is taken only under its own kind's
//! signature, and what it says survives being signed again.

#![no_main]

use std::sync::LazyLock;

use blindbook::{
    bucket::{BUCKET_ENTRIES, DirectoryId, ENTRY_BYTES},
    wire::{Parameters, ProviderList, SignedBody, WireError},
};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use libfuzzer_sys::{Corpus, fuzz_target};

static IDENTITY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[9; 32]));

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((choice, bytes)) = data.split_first() else { return Corpus::Reject };
    let identity = IDENTITY.verifying_key();
    match choice % 3 {
        0 => parameters(&signed("parameters", bytes), &identity),
        1 => providers(&signed("providers", bytes), &identity),
        _ => unsigned(bytes, &identity),
    }
    Corpus::Keep
});

/// Signs any body, valid or not, as docs/protocol.md says.
fn signed(kind: &str, body: &[u8]) -> SignedBody {
    let input = [b"blindbook v1 ", kind.as_bytes(), &[0], body].concat();
    let signature = IDENTITY.sign(&input).to_bytes();
    SignedBody { body: body.to_vec().into(), signature }
}

fn parameters(signed: &SignedBody, identity: &VerifyingKey) {
    let other = ProviderList::verify(signed, identity);
    assert!(matches!(other, Err(WireError::Signature(_))), "a signature served two kinds");
    match Parameters::verify(signed, identity) {
        Ok(parameters) => {
            assert_eq!(parameters.directory, DirectoryId::of(identity));
            assert!(parameters.not_before_s < parameters.not_after_s);
            assert!((1..=2).contains(&parameters.epochs.len()));
            assert!(parameters.epochs.is_sorted_by(|one, next| one.epoch < next.epoch));
            assert_eq!(parameters.newest(), parameters.epochs.last());
            assert_eq!((ENTRY_BYTES, BUCKET_ENTRIES), (192, 256));
            let again = Parameters::verify(&parameters.sign(&IDENTITY), identity);
            assert_eq!(again.as_ref(), Ok(&parameters));
            altered(signed, |altered| Parameters::verify(altered, identity).err());
        }
        Err(error) => assert!(!matches!(error, WireError::Signature(_))),
    }
}

fn providers(signed: &SignedBody, identity: &VerifyingKey) {
    let other = Parameters::verify(signed, identity);
    assert!(matches!(other, Err(WireError::Signature(_))), "a signature served two kinds");
    match ProviderList::verify(signed, identity) {
        Ok(list) => {
            assert_eq!(list.directory, DirectoryId::of(identity));
            assert!(list.providers.is_sorted_by(|one, next| one.name < next.name));
            for provider in &list.providers {
                assert_eq!(list.get(&provider.name), Some(provider));
                assert!(provider.follows(&provider.key), "a key follows itself");
            }
            let again = ProviderList::verify(&list.sign(&IDENTITY), identity);
            assert_eq!(again.as_ref(), Ok(&list));
            altered(signed, |altered| ProviderList::verify(altered, identity).err());
        }
        Err(error) => assert!(!matches!(error, WireError::Signature(_))),
    }
}

/// What was signed does not hold once a bit of body or signature differs.
fn altered(signed: &SignedBody, refusal: impl Fn(&SignedBody) -> Option<WireError>) {
    let mut body = signed.body.to_vec();
    let middle = body.len() / 2;
    if let Some(byte) = body.get_mut(middle) {
        *byte ^= 1;
    }
    let mut signature = signed.signature;
    signature[7] ^= 0x10;
    for altered in [
        SignedBody { body: body.into(), signature: signed.signature },
        SignedBody { body: signed.body.clone(), signature },
    ] {
        assert!(matches!(refusal(&altered), Some(WireError::Signature(_))));
    }
}

/// Bytes as a client's state folder or a stranger hands them in.
fn unsigned(bytes: &[u8], identity: &VerifyingKey) {
    let Ok(signed) = SignedBody::from_bytes(bytes) else {
        assert!(bytes.len() < 64, "a signature of 64 bytes was there");
        return;
    };
    assert_eq!(signed.to_bytes(), bytes);
    assert!(matches!(Parameters::verify(&signed, identity), Err(WireError::Signature(_))));
    assert!(matches!(ProviderList::verify(&signed, identity), Err(WireError::Signature(_))));
}
