//! The tokens that a client has, by day, and how it gets more.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use tokio::sync::Mutex;

use super::{IssueTokens, MAX_ISSUED, TokenSupply};
use crate::{
    bucket::DirectoryId,
    client::{
        ClientError, Clock,
        blocking::blocking,
        connect::Pool,
        state::{Part, Parts},
    },
    token::{Blinded, Challenge, Day, Pass, PublicKey, SIGNATURE_BYTES, TOKEN_BYTES},
    wire::{SignedBody, TokenKeys, WireError, proto},
};

/// Tokens are had so many at a time: how many says nothing of what they pay for.
const LOT: usize = 32;

/// Tokens that expire so soon are not spent any more: a request takes time, and
/// clocks differ.
const SPARE_S: u64 = 300;

/// Tokens by the day of their key.
#[derive(Default)]
struct Purse(BTreeMap<Day, Vec<Pass>>);

impl Purse {
    /// For each token its day and its bytes.
    fn encode(&self) -> Vec<u8> {
        let all =
            self.0.iter().flat_map(|(day, passes)| passes.iter().map(move |pass| (day, pass)));
        all.flat_map(|(day, pass)| {
            day.number().to_be_bytes().into_iter().chain(pass.expose().iter().copied())
        })
        .collect()
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let (entries, rest) = payload.as_chunks::<{ 4 + TOKEN_BYTES }>();
        let mut purse = Self::default();
        for entry in entries {
            let (day, pass) = entry.split_first_chunk()?;
            let day = Day::new(u32::from_be_bytes(*day));
            purse.0.entry(day).or_default().push(Pass::new(pass.try_into().ok()?));
        }
        rest.is_empty().then_some(purse)
    }

    /// Takes tokens of one day, the oldest that are good for some time.
    fn take(&mut self, count: usize, now_s: u64) -> Option<Vec<Pass>> {
        let late_s = now_s.saturating_add(SPARE_S);
        let good = |day: &Day| day.redeems(now_s) && day.redeems(late_s);
        self.0.retain(|day, _| day.redeems(now_s));
        let enough = |(day, passes): &(&Day, &mut Vec<Pass>)| good(day) && passes.len() >= count;
        let (_, passes) = self.0.iter_mut().find(enough)?;
        Some(passes.split_off(passes.len() - count))
    }

    fn count(&self, day: Day) -> usize {
        self.0.get(&day).map_or(0, Vec::len)
    }
}

/// Spends tokens, and gets more when there are too few.
pub(in crate::client) struct Wallet {
    supply: TokenSupply,
    pool: Arc<Pool>,
    identity: VerifyingKey,
    parts: Parts,
    clock: Clock,
    purse: Mutex<Purse>,
}

impl Wallet {
    pub(in crate::client) async fn load(
        supply: TokenSupply,
        pool: &Arc<Pool>,
        identity: VerifyingKey,
        parts: &Parts,
        clock: Clock,
    ) -> Result<Self, ClientError> {
        let purse = match parts.load(Part::Tokens).await? {
            Some(payload) => {
                Purse::decode(&payload).ok_or(ClientError::StateDamaged(Part::Tokens))?
            }
            None => Purse::default(),
        };
        let (pool, parts, purse) = (Arc::clone(pool), parts.clone(), Mutex::new(purse));
        Ok(Self { supply, pool, identity, parts, clock, purse })
    }

    /// Tokens for so many elements, one after another as they are sent. They are
    /// out of the state already: nothing sends them for anything else.
    pub(in crate::client) async fn take(&self, count: usize) -> Result<Bytes, ClientError> {
        let mut purse = self.purse.lock().await;
        let mut taken = purse.take(count, self.clock.now_s());
        if taken.is_none() {
            self.fill(&mut purse, count).await?;
            taken = purse.take(count, self.clock.now_s());
        }
        // A day may end just now: the next call has the new one's.
        let taken = taken.ok_or(ClientError::TokensExpired)?;
        self.save(&purse).await?;
        let bytes: Vec<u8> = taken.iter().flat_map(|pass| *pass.expose()).collect();
        Ok(bytes.into())
    }

    /// Has at least so many tokens of today.
    pub(in crate::client) async fn stock(&self, count: usize) -> Result<(), ClientError> {
        let mut purse = self.purse.lock().await;
        if purse.count(Day::at(self.clock.now_s())) >= count {
            return Ok(());
        }
        self.fill(&mut purse, count).await
    }

    /// Gets what lacks of `count` tokens of today, in whole lots, and stores it.
    async fn fill(&self, purse: &mut Purse, count: usize) -> Result<(), ClientError> {
        let today = Day::at(self.clock.now_s());
        let lacking = count.saturating_sub(purse.count(today)).next_multiple_of(LOT);
        if lacking == 0 {
            return Ok(());
        }
        let key = self.key(today).await?;
        let mut left = lacking;
        while left > 0 {
            let lot = left.min(MAX_ISSUED);
            left -= lot;
            let passes = self.issued(today, key.clone(), lot).await?;
            purse.0.entry(today).or_default().extend(passes);
            self.save(purse).await?;
        }
        Ok(())
    }

    /// The directory's key of today, from its signed list.
    async fn key(&self, today: Day) -> Result<PublicKey, ClientError> {
        let response =
            self.pool
                .call(|| {
                    let (mut stub, pool) = (self.pool.quota_stub()?, Arc::clone(&self.pool));
                    Ok(async move {
                        stub.get_token_keys(pool.request(proto::GetTokenKeysRequest {})).await
                    })
                })
                .await?;
        let wrong = |error| match error {
            WireError::Signature(_) => ClientError::TokenKeysForged,
            error => ClientError::TokenKeysMalformed(error),
        };
        let signed = SignedBody::try_from(response).map_err(wrong)?;
        let keys = TokenKeys::verify(&signed, &self.identity).map_err(wrong)?;
        keys.key(today).cloned().ok_or(ClientError::TokensExpired)
    }

    async fn issued(
        &self,
        day: Day,
        key: PublicKey,
        count: usize,
    ) -> Result<Vec<Pass>, ClientError> {
        let directory = DirectoryId::of(&self.identity);
        let blinding = key.clone();
        let blinded = blocking(move || {
            let challenge = Challenge::of(directory.as_bytes(), day);
            let blind = |_| blinding.blind(&challenge, &mut rand::rng());
            (0..count)
                .map(blind)
                .collect::<Result<Vec<Blinded>, _>>()
                .map_err(|_| ClientError::Computation)
        })
        .await?;
        let messages = blinded.iter().map(|blinded| blinded.message().try_into());
        let messages = messages.collect::<Result<Vec<[u8; SIGNATURE_BYTES]>, _>>();
        let messages = messages.map_err(|_| ClientError::Computation)?;
        let issued = self.supply.0.issue(IssueTokens { day, blinded: messages }).await;
        let signatures = issued.map_err(ClientError::TokensRefused)?;
        if signatures.len() != blinded.len() {
            return Err(ClientError::TokensForged);
        }
        blocking(move || {
            let pairs = blinded.iter().zip(&signatures);
            pairs
                .map(|(blinded, signature)| blinded.finalize(signature, &key))
                .collect::<Result<Vec<Pass>, _>>()
                .map_err(|_| ClientError::TokensForged)
        })
        .await
    }

    async fn save(&self, purse: &Purse) -> Result<(), ClientError> {
        let (parts, payload) = (self.parts.clone(), purse.encode());
        blocking(move || parts.store(Part::Tokens, &payload)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u64 = 86_400;

    fn pass(of: u8) -> Pass {
        Pass::new(&[of; TOKEN_BYTES])
    }

    #[test]
    fn a_purse_gives_each_token_once_the_oldest_good_ones_first() {
        let mut purse = Purse::default();
        let today = Day::new(20_000);
        let now_s = 20_000 * DAY_S + 1000;
        for (day, of) in [(today.before().before(), 1), (today.before(), 2), (today, 3)] {
            purse.0.insert(day, (0..3).map(|_| pass(of)).collect());
        }
        assert_eq!(purse.take(2, now_s), Some(vec![pass(2); 2]));
        // Never of two days, and none that has expired.
        assert_eq!(purse.take(2, now_s), Some(vec![pass(3); 2]));
        assert_eq!(purse.take(2, now_s), None);
        assert_eq!(purse.take(1, now_s), Some(vec![pass(2)]));
        assert_eq!(purse.count(today), 1);
        // Not so shortly before its end.
        let end_s = 20_002 * DAY_S;
        assert_eq!(purse.take(1, end_s - 1), None);
        assert_eq!(purse.take(1, end_s - 1000), Some(vec![pass(3)]));
    }

    #[test]
    fn a_purse_is_read_as_it_was_written() {
        let mut purse = Purse::default();
        purse.0.insert(Day::new(1), vec![pass(1), pass(2)]);
        purse.0.insert(Day::new(2), vec![pass(3)]);
        let bytes = purse.encode();
        assert_eq!(Purse::decode(&bytes).unwrap().0, purse.0);
        assert!(Purse::decode(&bytes[1..]).is_none());
        assert!(Purse::decode(&[]).unwrap().0.is_empty());
    }
}
