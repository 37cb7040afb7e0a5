//! Mappings, entries and buckets.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use blindbook::{
    bucket::{
        Audience, Bucket, BucketNumber, DirectoryId, Entry, EntryError, EntryKeys, Mapping,
        MappingError, SignedMapping,
    },
    identifier::{Provider, Sii, Ssi, User},
    wire::{bucket_from_proto, bucket_to_proto, proto},
};
use ed25519_dalek::{Signature, VerifyingKey};
use prost::Message as _;
use serde_json::Value;

use crate::{
    signed::wire_refusal,
    vector::{Case, Drawn, NOTHING},
};

/// The mapping of a case's field `mapping`, or of a result.
pub(crate) fn read_mapping(case: Case<'_>) -> Mapping {
    let provider = Provider::from_canonical(case.text("provider")).unwrap();
    let user = User::from_canonical(case.text("user")).unwrap();
    Mapping {
        ssi: Ssi::new(provider, user).unwrap(),
        audience: match case.text("audience") {
            "personal" => Audience::Personal,
            "business" => Audience::Business,
            audience => panic!("there is no audience {audience}"),
        },
        default_since: case.u32("default_since"),
        verified_until: case.u32("verified_until"),
        ttl_s: case.u32("ttl_s"),
    }
}

fn signed_mapping(case: Case<'_>) -> SignedMapping {
    SignedMapping { mapping: read_mapping(case.get("mapping")), signature: case.array("signature") }
}

/// The bytes that the vector says are signed are those of the signature.
pub(crate) fn assert_signs(key: &VerifyingKey, case: Case<'_>) {
    let signature = Signature::from_bytes(&case.array("signature"));
    key.verify_strict(&case.bytes("signature_input"), &signature).unwrap();
}

pub(crate) fn mapping(case: Case<'_>) {
    let sii = Sii::from_canonical(case.text("sii")).unwrap();
    let key = case.signing_key("provider_seed");
    assert_eq!(key.verifying_key(), case.public_key("provider_public_key"));
    let signed = SignedMapping::sign(&sii, read_mapping(case.get("mapping")), &key);
    assert_eq!(signed, signed_mapping(case));
    assert_eq!(signed.verify(&sii, &key.verifying_key()), Ok(()));
    assert_signs(&key.verifying_key(), case);
}

pub(crate) fn mapping_refusal(case: Case<'_>, _: &Value) -> String {
    let sii = Sii::from_canonical(case.text("sii")).unwrap();
    let refused = match signed_mapping(case).verify(&sii, &case.public_key("provider_public_key")) {
        Ok(()) => NOTHING,
        Err(MappingError::Signature) => "signature",
        Err(MappingError::Malformed) => "malformed",
    };
    refused.into()
}

pub(crate) fn entry(case: Case<'_>) {
    let keys = EntryKeys::of(&case.array("y"));
    let (directory, epoch, n) = (case.directory(), case.epoch(), case.u32("n"));
    let signed = signed_mapping(case);
    let bytes: [u8; 192] = case.array("entry");

    let mut nonce = Drawn::new([case.bytes("nonce")]);
    let sealed = keys.seal(&directory, epoch, n, &signed, &mut nonce).unwrap();
    assert!(sealed == Entry::from_bytes(bytes), "{case}: sealing gives other bytes");
    assert!(nonce.is_spent());
    assert_eq!(keys.open(&directory, epoch, n, &sealed), Ok(signed));

    // What the room keeps to itself: tag, key and plaintext.
    assert_eq!(bytes[..8], case.bytes("tag"));
    assert_eq!(bytes[8..20], case.bytes("nonce"));
    let nonce: [u8; 12] = case.array("nonce");
    let aad = case.bytes("associated_data");
    let plaintext = Aes256Gcm::new(&case.array::<32>("key").into())
        .decrypt(&nonce.into(), Payload { msg: &bytes[20..], aad: &aad })
        .unwrap();
    assert_eq!(plaintext, case.bytes("plaintext"));
}

pub(crate) fn entry_refusal(case: Case<'_>, _: &Value) -> String {
    let opened = EntryKeys::of(&case.array("y")).open(
        &case.directory(),
        case.epoch(),
        case.u32("n"),
        &Entry::from_bytes(case.array("entry")),
    );
    let refused = match opened {
        Ok(_) => NOTHING,
        Err(EntryError::NotAuthentic) => "authentic",
        Err(EntryError::Mapping(MappingError::Malformed)) => "malformed",
        Err(EntryError::Mapping(MappingError::Signature)) => "signature",
    };
    refused.into()
}

pub(crate) fn bucket(case: Case<'_>) {
    let identity = case.signing_key("identity_seed");
    let directory = DirectoryId::of(&identity.verifying_key());
    let bits = case.bits("prefix_bits");
    let bucket = Bucket::sign(
        case.epoch(),
        bits,
        BucketNumber::new(case.u32("number"), bits).unwrap(),
        case.u64("version"),
        case.get("entries").filled().into(),
        &directory,
        &identity,
    )
    .unwrap();
    assert_eq!(bucket.signature().as_slice(), case.bytes("signature"));
    assert_signs(&case.public_key("identity_public_key"), case);

    let message = case.get("message").message();
    assert!(bucket_to_proto(&bucket).encode_to_vec() == message, "{case}: another message");
    let response = proto::FetchBucketsResponse::decode(message).unwrap();
    assert!(bucket_from_proto(response, bits).unwrap() == bucket);
}

pub(crate) fn bucket_refusal(case: Case<'_>, _: &Value) -> String {
    let identity = case.public_key("identity_public_key");
    let response = proto::FetchBucketsResponse::decode(case.get("message").message()).unwrap();
    match bucket_from_proto(response, case.bits("prefix_bits")) {
        Err(error) => wire_refusal(error),
        Ok(bucket) => match bucket.verify(&DirectoryId::of(&identity), &identity) {
            Ok(()) => NOTHING.into(),
            Err(_) => "signature".into(),
        },
    }
}
