//! What each operation does to an identifier, as one pass over its bucket's
//! draft: it is checked whole before anything is written, and a refusal leaves
//! nothing behind.

use ed25519_dalek::VerifyingKey;

use super::{LedgerError, draft::Draft};
use crate::{
    bucket::{Audience, MAX_MAPPINGS, Mapping, SignedMapping, Slots},
    identifier::{Provider, Sii, Ssi, User},
    registry::{
        circle::{Circle, CircleId},
        row::{Listing, MAX_PROOFS, Placed, Sequence},
        verified::{ProofRecord, VerifiedClaim, VerifiedControl},
    },
};

/// A mapping holds for so long after its proof, at most: 30 days.
pub const MAX_VERIFIED_S: u64 = 30 * 86_400;

/// A used proof is remembered for so long after it expired: a call that was
/// let in before may still wait for its turn.
const REMEMBERED_S: u64 = 600;

/// One mapping of an identifier: whom it leads to, and in which circle it is
/// found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Which {
    /// Whom it leads to.
    pub ssi: Ssi,
    /// The circle that finds it; `None` if everybody does.
    pub circle: Option<CircleId>,
}

/// A claim: the proof that it rests on, and the mapping as its provider signed
/// it.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Who controls which identifier, and for which provider.
    pub verified: VerifiedClaim,
    /// The user at that provider.
    pub user: User,
    /// Whom the mapping is meant for.
    pub audience: Audience,
    /// Seconds for which an answer may be kept.
    pub ttl_s: u32,
    /// Until when the mapping counts as verified, seconds since 1970: at most
    /// [`MAX_VERIFIED_S`] after the proof.
    pub verified_until: u32,
    /// The provider's signature over all of it.
    pub signature: [u8; 64],
    /// The circle that is to find it; `None` if everybody is.
    pub circle: Option<Circle>,
}

/// What a claim came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// A mapping that was not there.
    New,
    /// A mapping that was there, as it was signed now.
    Renewed,
}

/// A number or address that changes its operator. Any of the two may be a
/// provider of this directory.
#[derive(Debug, Clone)]
pub struct Port {
    /// The identifier.
    pub sii: Sii,
    /// The old operator, if it is a provider: its mappings go.
    pub from: Option<Provider>,
    /// The claim of the new operator, if it is a provider.
    pub to: Option<Claim>,
}

/// What a port came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ported {
    /// Mappings of the old operator that are gone.
    pub released: usize,
    /// The new operator's mapping.
    pub claimed: Option<Claimed>,
}

/// A claim's mapping, whose signature was verified, and its provider's share of
/// a bucket.
pub(super) struct Checked {
    pub(super) signed: SignedMapping,
    pub(super) share: usize,
}

impl Claim {
    /// The mapping, within the bounds of its proof.
    ///
    /// # Errors
    /// [`LedgerError::Ssi`], [`LedgerError::VerifiedTooLong`] or
    /// [`LedgerError::Lapsed`].
    pub(super) fn mapping(&self, now_s: u64) -> Result<SignedMapping, LedgerError> {
        let ssi = Ssi::new(self.verified.provider().clone(), self.user.clone());
        let ssi = ssi.map_err(LedgerError::Ssi)?;
        let until_s = u64::from(self.verified_until);
        if until_s > self.verified.proven_s().saturating_add(MAX_VERIFIED_S) {
            return Err(LedgerError::VerifiedTooLong);
        }
        // Also refuses 0, which would mean that nothing sweeps it.
        if until_s <= now_s {
            return Err(LedgerError::Lapsed);
        }
        let mapping = Mapping {
            ssi,
            audience: self.audience,
            default_since: 0,
            verified_until: self.verified_until,
            ttl_s: self.ttl_s,
        };
        Ok(SignedMapping { mapping, signature: self.signature })
    }
}

/// Adds a mapping, or renews it; `default_since` is what a new one begins with.
pub(super) fn claim(
    draft: &mut Draft,
    claim: &Claim,
    checked: &Checked,
    default_since: u32,
    now_s: u64,
) -> Result<Claimed, LedgerError> {
    let (sii, provider) = (claim.verified.sii(), claim.verified.provider());
    let mut claimed = checked.signed.clone();
    let ours = draft.count(provider);
    let (listing, slots) = draft.edit(sii);
    use_up(listing, claim.verified.proof(), now_s)?;
    let circle = claim.circle.as_ref().map(Circle::id);
    let which = Which { ssi: claimed.mapping.ssi.clone(), circle };
    if let Some(placed) = find(listing, &which) {
        claimed.mapping.default_since = placed.signed.mapping.default_since;
        placed.signed = claimed;
        return Ok(Claimed::Renewed);
    }
    if listing.placed().count() >= MAX_MAPPINGS {
        return Err(LedgerError::TooManyMappings);
    }
    if ours >= checked.share {
        return Err(LedgerError::ShareTaken);
    }
    let slot = slots.take_random(&mut rand::rng()).ok_or(LedgerError::BucketFull)?;
    claimed.mapping.default_since = default_since;
    let placed = Placed { signed: claimed, slot };
    let known = listing.sequences.iter_mut().find(|it| it.circle == claim.circle);
    match (known, &claim.circle) {
        (Some(sequence), _) => sequence.placed.push(placed),
        // The open sequence is the first.
        (None, None) => {
            listing.sequences.insert(0, Sequence { circle: None, placed: vec![placed] });
        }
        (None, Some(circle)) => {
            let circle = Some(circle.clone());
            listing.sequences.push(Sequence { circle, placed: vec![placed] });
        }
    }
    Ok(Claimed::New)
}

/// Removes the mappings of an identifier that are not to be kept; they are
/// returned, and those left move up.
pub(super) fn remove(
    draft: &mut Draft,
    sii: &Sii,
    keep: impl Fn(Option<&Circle>, &Mapping) -> bool,
) -> Vec<Mapping> {
    let (listing, slots) = draft.edit(sii);
    remove_from(listing, slots, keep)
}

fn remove_from(
    listing: &mut Listing,
    slots: &mut Slots,
    keep: impl Fn(Option<&Circle>, &Mapping) -> bool,
) -> Vec<Mapping> {
    let mut removed = Vec::new();
    for Sequence { circle, placed } in &mut listing.sequences {
        placed.retain(|placed| {
            let kept = keep(circle.as_ref(), &placed.signed.mapping);
            if !kept {
                slots.release(placed.slot);
                removed.push(placed.signed.mapping.clone());
            }
            kept
        });
    }
    listing.sequences.retain(|sequence| !sequence.placed.is_empty());
    removed
}

/// Removes a provider's mapping to a user, in whatever circles it is found.
pub(super) fn release_own(
    draft: &mut Draft,
    sii: &Sii,
    provider: &Provider,
    user: &User,
) -> Result<usize, LedgerError> {
    let theirs =
        |mapping: &Mapping| mapping.ssi.provider() == provider && mapping.ssi.user() == user;
    match remove(draft, sii, |_, mapping| !theirs(mapping)).len() {
        0 => Err(LedgerError::NotFound),
        removed => Ok(removed),
    }
}

/// Removes one mapping, on the word of whoever controls the identifier.
pub(super) fn release(
    draft: &mut Draft,
    control: &VerifiedControl,
    which: &Which,
    now_s: u64,
) -> Result<(), LedgerError> {
    let (listing, slots) = draft.edit(control.sii());
    use_up(listing, control.proof(), now_s)?;
    let meant = |circle: Option<&Circle>, mapping: &Mapping| {
        mapping.ssi == which.ssi && circle.map(Circle::id) == which.circle
    };
    match remove_from(listing, slots, |circle, mapping| !meant(circle, mapping)).len() {
        0 => Err(LedgerError::NotFound),
        _ => Ok(()),
    }
}

/// Gives one mapping the strictly greatest time of all, so that it is the
/// default wherever it is found.
pub(super) fn set_default(
    draft: &mut Draft,
    control: &VerifiedControl,
    which: &Which,
    now_s: u64,
) -> Result<(), LedgerError> {
    let now = u32::try_from(now_s).map_err(|_| LedgerError::Clock)?;
    let (listing, _) = draft.edit(control.sii());
    use_up(listing, control.proof(), now_s)?;
    let mine = find(listing, which).ok_or(LedgerError::NotFound)?.signed.mapping.default_since;
    let since = |placed: &Placed| placed.signed.mapping.default_since;
    let greatest = listing.placed().map(since).max().unwrap_or(0);
    let holders = listing.placed().filter(|placed| since(placed) == greatest).count();
    if mine == greatest && holders == 1 {
        return Ok(());
    }
    let after = greatest.checked_add(1).ok_or(LedgerError::Clock)?;
    if let Some(placed) = find(listing, which) {
        placed.signed.mapping.default_since = now.max(after);
    }
    Ok(())
}

/// Changes whom a mapping is meant for, as its provider signed it anew.
pub(super) fn set_audience(
    draft: &mut Draft,
    sii: &Sii,
    which: &Which,
    audience: Audience,
    signature: [u8; 64],
    key: &VerifyingKey,
) -> Result<(), LedgerError> {
    let (listing, _) = draft.edit(sii);
    let placed = find(listing, which).ok_or(LedgerError::NotFound)?;
    let mapping = Mapping { audience, ..placed.signed.mapping.clone() };
    let signed = SignedMapping { mapping, signature };
    let provider = which.ssi.provider();
    signed.verify(sii, key).map_err(|_| LedgerError::Signature(provider.clone()))?;
    placed.signed = signed;
    Ok(())
}

/// Moves an identifier from one operator to another. A default of the old
/// operator's becomes the new one's.
pub(super) fn port(
    draft: &mut Draft,
    port: &Port,
    checked: Option<&Checked>,
    now_s: u64,
) -> Result<Ported, LedgerError> {
    let removed = match &port.from {
        None => Vec::new(),
        Some(from) => remove(draft, &port.sii, |_, mapping| mapping.ssi.provider() != from),
    };
    let inherited = removed.iter().map(|mapping| mapping.default_since).max().unwrap_or(0);
    let claimed = match (&port.to, checked) {
        (Some(to), Some(checked)) => Some(claim(draft, to, checked, inherited, now_s)?),
        _ => None,
    };
    Ok(Ported { released: removed.len(), claimed })
}

/// Removes what lapsed of all identifiers of a bucket, and forgets those of
/// whom nothing but expired proofs is left.
pub(super) fn sweep(draft: &mut Draft, now_s: u64) -> usize {
    let lapsed = |mapping: &Mapping| {
        mapping.verified_until != 0 && u64::from(mapping.verified_until) <= now_s
    };
    let mut removed = 0;
    for sii in draft.siis() {
        let (listing, slots) = draft.edit(&sii);
        removed += remove_from(listing, slots, |_, mapping| !lapsed(mapping)).len();
        // Others are written when their identifier is, and not for this alone.
        if listing.sequences.is_empty() {
            prune(listing, now_s);
        }
    }
    removed
}

fn find<'a>(listing: &'a mut Listing, which: &Which) -> Option<&'a mut Placed> {
    let sequences = listing.sequences.iter_mut();
    let mut sequences =
        sequences.filter(|sequence| sequence.circle.as_ref().map(Circle::id) == which.circle);
    let placed = &mut sequences.next()?.placed;
    placed.iter_mut().find(|placed| placed.signed.mapping.ssi == which.ssi)
}

/// Records a proof as used.
fn use_up(listing: &mut Listing, proof: ProofRecord, now_s: u64) -> Result<(), LedgerError> {
    check_unused(listing, proof, now_s)?;
    prune(listing, now_s);
    if listing.used.len() >= MAX_PROOFS {
        return Err(LedgerError::TooManyProofs);
    }
    listing.used.push(proof);
    Ok(())
}

/// Refuses a proof that was used, or whose use would not be remembered.
pub(super) fn check_unused(
    listing: &Listing,
    proof: ProofRecord,
    now_s: u64,
) -> Result<(), LedgerError> {
    if proof.expires_s <= now_s {
        return Err(LedgerError::ProofExpired);
    }
    if listing.used.iter().any(|used| used.hash == proof.hash) {
        return Err(LedgerError::ProofUsed);
    }
    Ok(())
}

fn prune(listing: &mut Listing, now_s: u64) {
    listing.used.retain(|proof| proof.expires_s.saturating_add(REMEMBERED_S) > now_s);
}
