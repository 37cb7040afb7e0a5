//! Parameters and provider lists.

use blindbook::{
    bucket::DirectoryId,
    identifier,
    oprf::PublicKey,
    wire::{EpochKey, KeySuccession, Parameters, Provider, ProviderList, SignedBody, WireError},
};
use serde_json::Value;

use crate::{
    sealed::assert_signs,
    vector::{Case, NOTHING},
};

/// The name of the check that refused.
pub(crate) fn wire_refusal(error: WireError) -> String {
    match error {
        WireError::Signature(_) => "signature",
        error => error.field(),
    }
    .into()
}

/// A field that this version does not know is kept by the signature alone.
const UNKNOWN_FIELD: &str = "unknown_field";

fn signed_body(case: Case<'_>) -> Result<SignedBody, WireError> {
    SignedBody::from_parts(case.bytes("body").into(), &case.bytes("signature"))
}

pub(crate) fn parameters(case: Case<'_>) {
    let identity = case.signing_key("identity_seed");
    let fields = case.get("parameters");
    assert_eq!((fields.u32("entry_bytes"), fields.u32("bucket_entries")), (192, 256));
    let epochs = fields.list("epochs").map(|epoch| EpochKey {
        epoch: epoch.epoch(),
        key: PublicKey::from_bytes(&epoch.bytes("public_key")).unwrap(),
    });
    let regions = fields.list("regions").map(|region| region.0.as_str().unwrap().to_owned());
    let expected = Parameters {
        directory: fields.directory(),
        serial: fields.u64("serial"),
        not_before_s: fields.u64("not_before_s"),
        not_after_s: fields.u64("not_after_s"),
        prefix_bits: fields.bits("prefix_bits"),
        epochs: epochs.collect(),
        refresh_period_s: fields.u32("refresh_period_s"),
        regions: regions.collect(),
        pir: None,
    };
    let signed = signed_body(case).unwrap();
    let verified = Parameters::verify(&signed, &case.public_key("identity_public_key"));
    assert_eq!(verified.as_ref(), Ok(&expected));
    assert_eq!(expected.directory, DirectoryId::of(&identity.verifying_key()));
    if case.text("name") != UNKNOWN_FIELD {
        assert_eq!(expected.sign(&identity), signed);
    }
    assert_signs(&identity.verifying_key(), case);
}

pub(crate) fn parameters_refusal(case: Case<'_>, _: &Value) -> String {
    let identity = case.public_key("identity_public_key");
    signed_body(case)
        .and_then(|signed| Parameters::verify(&signed, &identity))
        .map_or_else(wire_refusal, |_| NOTHING.into())
}

fn read_providers(fields: Case<'_>) -> ProviderList {
    let succession = |step: Case<'_>| KeySuccession {
        old: step.public_key("old_public_key"),
        new: step.public_key("new_public_key"),
        signature: step.array("signature"),
    };
    let provider = |provider: Case<'_>| Provider {
        name: identifier::Provider::from_canonical(provider.text("name")).unwrap(),
        key: provider.public_key("public_key"),
        successions: provider.list("successions").map(succession).collect(),
    };
    ProviderList {
        directory: fields.directory(),
        serial: fields.u64("serial"),
        providers: fields.list("providers").map(provider).collect(),
    }
}

fn provider<'a>(list: &'a ProviderList, case: Case<'_>) -> &'a Provider {
    list.get(&identifier::Provider::parse(case.text("provider")).unwrap()).unwrap()
}

pub(crate) fn providers(case: Case<'_>) {
    let identity = case.signing_key("identity_seed");
    let expected = read_providers(case.get("providers"));
    let signed = signed_body(case).unwrap();
    let verified = ProviderList::verify(&signed, &case.public_key("identity_public_key"));
    assert_eq!(verified.as_ref(), Ok(&expected));
    if case.text("name") != UNKNOWN_FIELD {
        assert_eq!(expected.sign(&identity), signed);
    }
    assert_signs(&identity.verifying_key(), case);

    if case.has("follows") {
        for pin in case.list("follows") {
            assert!(provider(&expected, pin).follows(&pin.public_key("pinned")), "{pin}");
        }
        let last = expected.providers.last().and_then(|last| last.successions.last()).unwrap();
        let signature = ed25519_dalek::Signature::from_bytes(&last.signature);
        last.old.verify_strict(&case.bytes("succession_input"), &signature).unwrap();
    }
}

pub(crate) fn providers_refusal(case: Case<'_>, _: &Value) -> String {
    let identity = case.public_key("identity_public_key");
    let verified = signed_body(case).and_then(|signed| ProviderList::verify(&signed, &identity));
    match verified {
        Err(error) => wire_refusal(error),
        Ok(list) if case.has("pinned") => {
            let pinned = case.get("pinned");
            let follows = provider(&list, pinned).follows(&pinned.public_key("public_key"));
            if follows { NOTHING.into() } else { "succession".into() }
        }
        Ok(_) => NOTHING.into(),
    }
}
