//! What a client is told: which directory, how to reach it, and how much it
//! may tell.

use std::{fmt, time::Duration};

use ed25519_dalek::VerifyingKey;
use zeroize::Zeroizing;

use super::{ClientError, tokens::TokenSupply};
use crate::{
    bucket::{Circle, PrefixBits},
    clock::Clock,
    identifier::Provider,
};

/// Bits that may be sent unless told otherwise: about 140 entries share them
/// in the largest directory that uses all of them.
const MAX_PREFIX_BITS: u32 = 17;

/// Most connections that one client keeps.
const MAX_CONNECTIONS: usize = 64;

/// Answers kept unless told otherwise: the address books of a few people, in 4
/// MiB of state.
const CACHED_ANSWERS: usize = 16_384;

/// How a [`Client`](super::Client) reaches a directory and what it accepts.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `https://HOST[:PORT]`, or `http://HOST[:PORT]` for plain text.
    pub server: String,
    /// The directory's identity key: pinned, never learned.
    pub identity: VerifyingKey,
    /// The PEM certificates that may sign the server's; the Web's roots when
    /// there are none. Whatever TLS says, every answer is checked against
    /// `identity`.
    pub ca_pem: Option<Vec<u8>>,
    /// For a partner of the directory, whose account pays. It says who asks:
    /// never for a person.
    pub certificate: Option<ClientCertificate>,
    /// The most bits of a placement that are sent, whatever the server signs.
    pub max_prefix_bits: PrefixBits,
    /// How long one exchange may take, its one retry included.
    pub deadline: Duration,
    /// Connections kept, used in turn.
    pub connections: usize,
    /// Keys of application providers that are known otherwise. Those of all
    /// other providers are pinned when they are first seen.
    pub provider_keys: Vec<(Provider, VerifyingKey)>,
    /// The circle whose mappings are found beside the open ones. What is asked
    /// is alike with and without.
    pub circle: Option<Circle>,
    /// How many answers are kept, the oldest going first; with 0 each lookup
    /// asks the network.
    pub cached_answers: usize,
    /// How lookups are hidden. `None`: single ones by private information retrieval
    /// where the directory offers it, all others in buckets; a directory that once
    /// offered it cannot take it back unnoticed.
    pub mode: Option<Mode>,
    /// Where anonymous tokens come from, for a directory that asks for them; the
    /// evaluations of a client without are not paid for.
    pub tokens: Option<TokenSupply>,
    /// How soon [`Client::follow`](super::Client::follow) connects again.
    pub reconnect: Reconnect,
    /// What time it is.
    pub clock: Clock,
}

/// How lookups are hidden from the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Among the people whose hash begins alike: the directory learns a prefix.
    Bucket,
    /// By private information retrieval: it learns which of its partitions, of ten
    /// million people, and nothing where there is one. What comes bears no version:
    /// an old answer, or one that withholds, is not noticed. Lookups cost the
    /// directory much more, and are never answered in buckets instead.
    Pir,
}

/// The certificate of a partner that looks up for itself.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The chain, PEM, the partner's own first.
    pub chain_pem: Vec<u8>,
    /// Its private key, PEM.
    pub key_pem: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate(..)")
    }
}

/// The pauses before a lost connection is made again: each twice the one
/// before, and each of them between half and one and a half of that, so that
/// the clients of a server that restarts do not come all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// The first pause after a connection that held.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Default for Reconnect {
    /// One second to one minute.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(60) }
    }
}

impl ClientOptions {
    /// The defaults for the directory of this identity at this address.
    #[must_use]
    pub fn new(server: impl Into<String>, identity: VerifyingKey) -> Self {
        Self {
            server: server.into(),
            identity,
            ca_pem: None,
            certificate: None,
            max_prefix_bits: PrefixBits::new(MAX_PREFIX_BITS).unwrap_or(PrefixBits::ZERO),
            deadline: Duration::from_secs(10),
            connections: 4,
            provider_keys: Vec::new(),
            circle: None,
            cached_answers: CACHED_ANSWERS,
            mode: None,
            tokens: None,
            reconnect: Reconnect::default(),
            clock: Clock::system(),
        }
    }

    pub(super) fn check(&self) -> Result<(), ClientError> {
        let refuse = |option, rule| Err(ClientError::Option { option, rule });
        if self.identity.is_weak() {
            return refuse("identity", "must be an Ed25519 key of the full order");
        }
        if self.provider_keys.iter().any(|(_, key)| key.is_weak()) {
            return refuse("provider_keys", "must be Ed25519 keys of the full order");
        }
        if self.deadline.is_zero() {
            return refuse("deadline", "must be longer than nothing");
        }
        if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            return refuse("connections", "must be 1 to 64");
        }
        if self.reconnect.first.is_zero() || self.reconnect.longest < self.reconnect.first {
            return refuse("reconnect", "must pause, and longest for at least as long as first");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        let good = ClientOptions::new("", SigningKey::from_bytes(&[1; 32]).verifying_key());
        assert!(good.check().is_ok());
        let weak = VerifyingKey::from_bytes(&[0; 32]).unwrap();
        let provider = Provider::parse("wa.example").unwrap();
        let restless = Reconnect { first: Duration::ZERO, ..Reconnect::default() };
        let falling = Reconnect { longest: Duration::from_millis(999), ..Reconnect::default() };
        for (bad, name) in [
            (ClientOptions { identity: weak, ..good.clone() }, "identity"),
            (
                ClientOptions { provider_keys: vec![(provider, weak)], ..good.clone() },
                "provider_keys",
            ),
            (ClientOptions { deadline: Duration::ZERO, ..good.clone() }, "deadline"),
            (ClientOptions { connections: 0, ..good.clone() }, "connections"),
            (ClientOptions { connections: 65, ..good.clone() }, "connections"),
            (ClientOptions { reconnect: restless, ..good.clone() }, "reconnect"),
            (ClientOptions { reconnect: falling, ..good }, "reconnect"),
        ] {
            let refused = bad.check();
            assert!(matches!(refused, Err(ClientError::Option { option, .. }) if option == name));
        }
    }
}
