//! The keys of application providers that a client trusts: given, or first
//! seen; replaced only by a key that the one before vouches for.

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;

use crate::{identifier::Provider, wire::ProviderList};

/// A pinned key.
#[derive(Clone, PartialEq, Eq)]
struct Pin {
    /// The key that was given or first seen.
    anchor: VerifyingKey,
    /// The key that it led to, step by step.
    current: VerifyingKey,
}

/// All pinned keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Pins(BTreeMap<Provider, Pin>);

/// What the pins say about a listed provider.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trust {
    /// Its mappings verify under this key.
    Key(VerifyingKey),
    /// Its key changed, and the pinned one does not vouch.
    Changed,
}

impl Pins {
    /// Starts again from given keys. One that is the anchor already keeps what
    /// it led to.
    pub(super) fn give(&mut self, given: &[(Provider, VerifyingKey)]) {
        for (provider, key) in given {
            if self.0.get(provider).is_none_or(|pin| pin.anchor != *key) {
                self.0.insert(provider.clone(), Pin { anchor: *key, current: *key });
            }
        }
    }

    /// Judges a signed list. Providers that are new to the client are pinned,
    /// all of them at once: what is pinned never shows who was found.
    pub(super) fn judge(&mut self, list: &ProviderList) -> BTreeMap<Provider, Trust> {
        let judged = list.providers.iter().map(|listed| {
            let pin = self
                .0
                .entry(listed.name.clone())
                .or_insert(Pin { anchor: listed.key, current: listed.key });
            let trust = if listed.follows(&pin.current) {
                pin.current = listed.key;
                Trust::Key(listed.key)
            } else {
                Trust::Changed
            };
            (listed.name.clone(), trust)
        });
        judged.collect()
    }

    /// Length and name, anchor, current; by name.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (provider, pin) in &self.0 {
            let name = provider.as_str().as_bytes();
            // A provider's name is shorter than an entry.
            bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(pin.anchor.as_bytes());
            bytes.extend_from_slice(pin.current.as_bytes());
        }
        bytes
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut pins = BTreeMap::new();
        while let Some((length, rest)) = bytes.split_first() {
            let (name, rest) = rest.split_at_checked(usize::from(*length))?;
            let (anchor, rest) = rest.split_first_chunk()?;
            let (current, rest) = rest.split_first_chunk()?;
            let provider = Provider::from_canonical(std::str::from_utf8(name).ok()?).ok()?;
            let pin = Pin {
                anchor: VerifyingKey::from_bytes(anchor).ok()?,
                current: VerifyingKey::from_bytes(current).ok()?,
            };
            if pins.insert(provider, pin).is_some() {
                return None;
            }
            bytes = rest;
        }
        Some(Self(pins))
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::{
        bucket::DirectoryId,
        wire::{self, KeySuccession},
    };

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn name() -> Provider {
        Provider::parse("wa.example").unwrap()
    }

    /// A list with one provider, whose key is the last of `chain`.
    fn list(chain: &[u8]) -> ProviderList {
        let successions = chain
            .windows(2)
            .map(|step| KeySuccession::sign(&name(), &key(step[0]), &key(step[1]).verifying_key()));
        ProviderList {
            directory: DirectoryId::from_bytes([0; 16]),
            serial: 1,
            providers: vec![wire::Provider {
                name: name(),
                key: key(*chain.last().unwrap()).verifying_key(),
                successions: successions.collect(),
            }],
        }
    }

    fn judge(pins: &mut Pins, chain: &[u8]) -> Trust {
        pins.judge(&list(chain))[&name()]
    }

    #[test]
    fn the_first_key_seen_is_pinned_and_only_its_successors_replace_it() {
        let mut pins = Pins::default();
        let trusted = |seed| Trust::Key(key(seed).verifying_key());
        assert_eq!(judge(&mut pins, &[1]), trusted(1));
        assert_eq!(judge(&mut pins, &[2]), Trust::Changed);
        assert_eq!(judge(&mut pins, &[1]), trusted(1));
        assert_eq!(judge(&mut pins, &[1, 2]), trusted(2));
        // The list may forget its past, the client does not go back.
        assert_eq!(judge(&mut pins, &[2, 3]), trusted(3));
        assert_eq!(judge(&mut pins, &[1]), Trust::Changed);
    }

    #[test]
    fn a_given_key_overrules_what_was_seen_and_keeps_what_it_led_to() {
        let mut pins = Pins::default();
        judge(&mut pins, &[9]);
        let given = [(name(), key(1).verifying_key())];
        pins.give(&given);
        assert_eq!(judge(&mut pins, &[9]), Trust::Changed);
        assert_eq!(judge(&mut pins, &[1, 2]), Trust::Key(key(2).verifying_key()));
        pins.give(&given);
        assert_eq!(judge(&mut pins, &[2]), Trust::Key(key(2).verifying_key()));
    }

    #[test]
    fn pins_round_trip_and_a_cut_is_damage() {
        let mut pins = Pins::default();
        judge(&mut pins, &[1, 2]);
        pins.give(&[(Provider::parse("sg.example").unwrap(), key(3).verifying_key())]);
        let bytes = pins.encode();
        assert!(Pins::decode(&bytes) == Some(pins));
        let one = bytes.len() / 2;
        for length in (1..bytes.len()).filter(|length| *length != one) {
            assert!(Pins::decode(&bytes[..length]).is_none(), "{length}");
        }
        assert!(Pins::decode(&[bytes.clone(), bytes].concat()).is_none());
    }
}
