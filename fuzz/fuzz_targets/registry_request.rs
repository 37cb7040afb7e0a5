//! What partners and administrators send to the registry and what it answers, decoded and checked.
//!
//! Input: one byte that chooses the message, then its encoding. What is taken
//! holds canonical names and says the same after another trip over the wire;
//! nothing that is printed of it holds a name.

#![no_main]

use std::fmt::Debug;

use blindbook::wire::{
    Invalidations, Watch, WireError,
    admin::{ListPartners, PartnersListed, PutPartner},
    proto,
    registry::{
        ChallengeStarted, Claim, FinishVerification, List, Listed, Outcome, Port, Release,
        SetPreferences, StartChallenge, StartVerification, VerificationFinished,
    },
};
use libfuzzer_sys::{Corpus, fuzz_target};
use prost::Message;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((choice, bytes)) = data.split_first() else { return Corpus::Reject };
    match choice % 15 {
        0 => trip::<StartVerification, proto::StartVerificationRequest>(bytes),
        1 => trip::<FinishVerification, proto::FinishVerificationRequest>(bytes),
        2 => trip::<StartChallenge, proto::StartChallengeRequest>(bytes),
        3 => trip::<Claim, proto::ClaimRequest>(bytes),
        4 => trip::<Claim, proto::ClaimManyRequest>(bytes),
        5 => trip::<SetPreferences, proto::SetPreferencesRequest>(bytes),
        6 => trip::<Release, proto::ReleaseRequest>(bytes),
        7 => trip::<Port, proto::PortRequest>(bytes),
        8 => trip::<List, proto::ListRequest>(bytes),
        9 => trip::<Watch, proto::WatchInvalidationsRequest>(bytes),
        10 => {
            told::<ChallengeStarted, proto::StartChallengeResponse>(bytes)
                | trip::<VerificationFinished, proto::FinishVerificationResponse>(bytes)
        }
        11 => {
            trip::<Listed, proto::ListResponse>(bytes)
                | trip::<Outcome, proto::ClaimManyResponse>(bytes)
        }
        12 => invalidations(bytes),
        13 => trip::<PutPartner, proto::PutPartnerRequest>(bytes),
        _ => {
            trip::<PartnersListed, proto::ListPartnersResponse>(bytes)
                | trip::<ListPartners, proto::ListPartnersRequest>(bytes)
        }
    }
    .then_some(Corpus::Keep)
    .unwrap_or(Corpus::Reject)
});

/// As [`told`], and nothing that is printed of it holds a name.
fn trip<T, P>(bytes: &[u8]) -> bool
where
    P: Message + Default + From<T>,
    T: TryFrom<P, Error = WireError> + Clone + PartialEq + Debug,
{
    if let Some(checked) = P::decode(bytes).ok().and_then(|message| T::try_from(message).ok()) {
        let printed = format!("{checked:?}");
        let kinds = printed.split("mailto:").skip(1).all(|rest| rest.starts_with(".."));
        assert!(kinds && !printed.contains("tel:+"), "{printed}");
    }
    told::<T, P>(bytes)
}

/// Whether the bytes are an encoding at all.
fn told<T, P>(bytes: &[u8]) -> bool
where
    P: Message + Default + From<T>,
    T: TryFrom<P, Error = WireError> + Clone + PartialEq,
{
    let Ok(message) = P::decode(bytes) else { return false };
    match T::try_from(message) {
        Ok(checked) => {
            let back = P::from(checked.clone());
            let again =
                P::decode(back.encode_to_vec().as_slice()).expect("what was encoded decodes");
            match T::try_from(again) {
                Ok(twice) => assert!(twice == checked, "the checked form lost or added something"),
                Err(error) => panic!("what was taken is refused after another trip: {error}"),
            }
        }
        Err(error) => refused(error),
    }
    true
}

/// A refusal names a field of the proto.
fn refused(error: WireError) {
    let field = error.field();
    assert!(!field.is_empty());
    assert!(field.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'.')), "{field}");
    assert!(error.to_string().starts_with(field));
}

fn invalidations(bytes: &[u8]) -> bool {
    match Invalidations::decode(bytes, None) {
        Ok(told) => {
            let bits = told.checkpoint.as_ref().map(|checkpoint| checkpoint.prefix_bits());
            let bits = bits.expect("the first message of a stream has a checkpoint");
            assert!(told.changed.iter().all(|changed| {
                u64::from(changed.number.get()) < bits.buckets() && changed.version > 0
            }));
            let message = proto::WatchInvalidationsResponse::from(told.clone()).encode_to_vec();
            assert!(Invalidations::decode(&message, Some(bits)).is_ok_and(|twice| twice == told));
            true
        }
        Err(WireError::Encoding(_)) => false,
        Err(error) => {
            refused(error);
            true
        }
    }
}
