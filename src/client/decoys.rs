//! What fills a batch up: a set made once and asked again in the same order,
//! like contacts are. Fresh dummies would be filtered out by whoever compares
//! two syncs.

use std::sync::Arc;

use rand::CryptoRng;
use zeroize::Zeroizing;

use super::{
    ClientError,
    blocking::blocking,
    state::{Part, Parts},
};
use crate::{bucket::Placement, secret::Secret};

/// Bytes of a placement, then of an input.
const DECOY_BYTES: usize = 64;

/// More than any batch needs: 65 lookups fill up to 256.
const DECOYS: usize = 256;

/// A lookup of nobody.
#[derive(Clone)]
pub(super) struct Decoy {
    pub(super) placement: Placement,
    pub(super) input: Secret<32>,
    /// Whether it is of the stored set, and will be asked again.
    pub(super) stored: bool,
}

impl Decoy {
    fn random(rng: &mut impl CryptoRng) -> Self {
        let mut placement = [0; 32];
        rng.fill_bytes(&mut placement);
        let placement = Placement::from_bytes(placement);
        Self { placement, input: Secret::random(rng), stored: false }
    }
}

/// The stored set.
pub(super) struct Decoys(Vec<Decoy>);

impl Decoys {
    /// Reads the set, or makes and stores it. What is damaged is not made
    /// anew: two sets would tell both from the contacts.
    pub(super) async fn load(parts: &Parts) -> Result<Self, ClientError> {
        if let Some(payload) = parts.load(Part::Decoys).await? {
            return Self::decode(&Zeroizing::new(payload))
                .ok_or(ClientError::StateDamaged(Part::Decoys));
        }
        let parts = parts.clone();
        blocking(move || {
            let payload = Self::random(&mut rand::rng());
            parts.store(Part::Decoys, &payload)?;
            Self::decode(&payload).ok_or(ClientError::StateDamaged(Part::Decoys))
        })
        .await
    }

    /// The first of the set, in its order.
    pub(super) fn first(&self, count: usize) -> impl Iterator<Item = Decoy> {
        self.0.iter().take(count).cloned()
    }

    /// The first of those that are due: a decoy that was asked within the
    /// refresh period is not asked again within it, since no contact would be.
    /// When all were, chance makes others, which look like contacts that are
    /// asked once; those of the set would be known by their haste.
    pub(super) fn due(
        &self,
        count: usize,
        is_due: impl Fn(&Decoy) -> bool,
        rng: &mut impl CryptoRng,
    ) -> Vec<Decoy> {
        let mut due: Vec<_> =
            self.0.iter().filter(|decoy| is_due(decoy)).take(count).cloned().collect();
        due.resize_with(count, || Decoy::random(rng));
        due
    }

    fn random(rng: &mut impl CryptoRng) -> Zeroizing<Vec<u8>> {
        let mut payload = Zeroizing::new(vec![0; DECOYS * DECOY_BYTES]);
        rng.fill_bytes(&mut payload);
        payload
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let (decoys, []) = payload.as_chunks::<DECOY_BYTES>() else { return None };
        if decoys.len() != DECOYS {
            return None;
        }
        let decoys = decoys.iter().map(|decoy| {
            let (placement, input) = decoy.split_first_chunk()?;
            Some(Decoy {
                placement: Placement::from_bytes(*placement),
                input: Secret::new(input.try_into().ok()?),
                stored: true,
            })
        });
        Some(Self(decoys.collect::<Option<_>>()?))
    }
}

/// Shared by all clones of a client.
pub(super) type SharedDecoys = Arc<Decoys>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bucket::DirectoryId,
        client::state::{MemoryState, State as _},
    };

    fn placements(decoys: &Decoys, count: usize) -> Vec<[u8; 32]> {
        decoys.first(count).map(|decoy| *decoy.placement.expose()).collect()
    }

    #[tokio::test]
    async fn decoys_are_made_once_and_come_in_the_same_order_ever_after() {
        let state = Arc::new(MemoryState::new());
        let parts = Parts::new(state, DirectoryId::from_bytes([1; 16]));
        let made = Decoys::load(&parts).await.unwrap();
        let read = Decoys::load(&parts).await.unwrap();
        assert_eq!(placements(&made, DECOYS), placements(&read, DECOYS));
        assert_eq!(placements(&made, 3), placements(&read, 191)[..3]);
        let mut distinct = placements(&made, DECOYS);
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), DECOYS);
    }

    #[tokio::test]
    async fn decoys_that_are_not_due_are_passed_over_and_chance_fills_up() {
        let parts = Parts::new(Arc::new(MemoryState::new()), DirectoryId::from_bytes([1; 16]));
        let decoys = Decoys::load(&parts).await.unwrap();
        let all = placements(&decoys, DECOYS);
        let due = |count, passed: usize| {
            let is_due = |decoy: &Decoy| !all[..passed].contains(decoy.placement.expose());
            let due = decoys.due(count, is_due, &mut rand::rng());
            due.iter().map(|d| (*d.placement.expose(), d.stored)).collect::<Vec<_>>()
        };
        let stored = |range: std::ops::Range<usize>| {
            all[range].iter().map(|placement| (*placement, true)).collect::<Vec<_>>()
        };
        assert_eq!(due(3, 0), stored(0..3));
        assert_eq!(due(3, 5), stored(5..8));
        let short = due(3, DECOYS - 1);
        assert_eq!(short[..1], stored(DECOYS - 1..DECOYS));
        assert!(short[1..].iter().all(|(placement, kept)| !kept && !all.contains(placement)));
    }

    #[tokio::test]
    async fn a_damaged_set_is_an_error_and_stays_as_it_is() {
        let state = Arc::new(MemoryState::new());
        let directory = DirectoryId::from_bytes([1; 16]);
        let parts = Parts::new(state.clone(), directory);
        Decoys::load(&parts).await.unwrap();
        let mut bytes = state.load(&directory, Part::Decoys).unwrap().unwrap();
        bytes[100] ^= 1;
        state.store(&directory, Part::Decoys, &bytes).unwrap();
        let refused = Decoys::load(&parts).await;
        assert!(matches!(refused, Err(ClientError::StateDamaged(Part::Decoys))));
        assert_eq!(state.load(&directory, Part::Decoys).unwrap().unwrap(), bytes);
    }
}
