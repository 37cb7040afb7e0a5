//! Canonical forms, keys and places.

use std::fs;

use blindbook::{
    bucket::{BucketNumber, DirectoryId, Placement, PlacementError, PrefixBits},
    identifier::{IdentifierError, Provider, Sii, Ssi, User},
    keyring::{self, KeyringError},
    oprf::ServerKey,
};
use serde_json::Value;

use crate::vector::{Case, NOTHING};

pub(crate) fn identifier(case: Case<'_>) {
    let canonical = canonical(case).unwrap();
    if case.text("kind") == "ssi" {
        assert_eq!(canonical, format!("{}@{}", case.text("user"), case.text("provider")));
    } else {
        assert_eq!(canonical, case.text("canonical"));
    }
}

pub(crate) fn identifier_refusal(case: Case<'_>, _: &Value) -> String {
    canonical(case).map_or_else(|error| format!("{error:?}"), |_| NOTHING.into())
}

fn canonical(case: Case<'_>) -> Result<String, IdentifierError> {
    let kind = case.text("kind");
    if kind == "ssi" {
        let provider = Provider::parse(case.text("provider"))?;
        let ssi = Ssi::new(provider, User::parse(case.text("user"))?)?;
        return Ok(format!("{}@{}", ssi.user().as_str(), ssi.provider()));
    }
    let input = case.text("input");
    Ok(match kind {
        "sii" => {
            let region = case.has("region").then(|| case.text("region").parse()).transpose()?;
            Sii::parse(input, region)?.as_str().to_owned()
        }
        "canonical_sii" => Sii::from_canonical(input)?.as_str().to_owned(),
        "provider" => Provider::parse(input)?.as_str().to_owned(),
        "canonical_provider" => Provider::from_canonical(input)?.as_str().to_owned(),
        "user" => User::parse(input)?.as_str().to_owned(),
        "canonical_user" => User::from_canonical(input)?.as_str().to_owned(),
        kind => panic!("there is no kind {kind}"),
    })
}

pub(crate) fn keys(case: Case<'_>) {
    if case.has("provider") {
        let key = case.signing_key("seed").verifying_key();
        assert_eq!(key, case.public_key("public_key"));
        let read = with_file(case.text("provider_file"), keyring::provider_public_key);
        assert_eq!(read.unwrap(), key);
        return;
    }
    let identity = case.signing_key("identity_seed").verifying_key();
    assert_eq!(identity, case.public_key("identity_public_key"));
    let directory = DirectoryId::of(&identity);
    assert_eq!(directory, case.directory());
    let read = with_file(case.text("identity_file"), keyring::identity_public_key);
    assert_eq!(read.unwrap(), identity);
    for epoch in case.list("epochs") {
        let info = keyring::oprf_info(&directory, epoch.epoch());
        assert_eq!(info, epoch.bytes("info"));
        let key = ServerKey::derive(&epoch.seed("seed"), &info).unwrap();
        assert_eq!(key.public_key().to_bytes().as_slice(), epoch.bytes("public_key"));
    }
}

pub(crate) fn key_refusal(case: Case<'_>, _: &Value) -> String {
    match with_file(case.text("identity_file"), keyring::identity_public_key) {
        Ok(_) => NOTHING.into(),
        Err(KeyringError::Malformed { .. }) => "file".into(),
        Err(KeyringError::PublicKey(_)) => "key".into(),
        Err(error) => panic!("{case}: {error}"),
    }
}

fn with_file<T>(text: &str, read: impl Fn(&std::path::Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pub");
    fs::write(&path, text).unwrap();
    read(&path)
}

pub(crate) fn placement(case: Case<'_>) {
    if case.has("sii") {
        let placement = Placement::of(&Sii::from_canonical(case.text("sii")).unwrap());
        assert_eq!(placement.expose().as_slice(), case.bytes("placement"));
        let numbers = case.get("numbers");
        let keys: Vec<_> = numbers.0.as_object().unwrap().keys().collect();
        assert!(!keys.is_empty());
        for key in keys {
            let bits = PrefixBits::new(key.parse().unwrap()).unwrap();
            let number = placement.bucket(bits);
            assert_eq!(number.get(), numbers.u32(key), "{key} bits");
            assert_eq!(number.partition(bits), case.get("partitions").u32(key), "{key} bits");
        }
        return;
    }
    let (bits, deep) = (case.bits("prefix_bits"), case.bits("directory_prefix_bits"));
    let prefix = BucketNumber::new(case.u32("prefix"), bits).unwrap();
    let (first, count) = prefix.beneath(bits, deep).unwrap();
    assert_eq!((first.get(), count), (case.u32("first"), case.u64("count")));
}

pub(crate) fn placement_refusal(case: Case<'_>, _: &Value) -> String {
    let number = PrefixBits::new(case.u32("prefix_bits"))
        .and_then(|bits| BucketNumber::new(case.u32("number"), bits));
    let refused = match number {
        Ok(_) => NOTHING,
        Err(PlacementError::PrefixBits(_)) => "prefix_bits",
        Err(PlacementError::Number(_)) => "number",
    };
    refused.into()
}
