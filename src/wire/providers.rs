//! The directory's application providers and the keys that sign their mappings.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use prost::Message as _;

use super::{SignedBody, WireError, array, proto, signed::Kind};
use crate::{bucket::DirectoryId, identifier};

/// Most keys that one provider may have had in a list.
const MAX_SUCCESSIONS: usize = 64;

/// One provider key vouching for the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySuccession {
    /// The key before.
    pub old: VerifyingKey,
    /// The key after.
    pub new: VerifyingKey,
    /// Ed25519 by the old key over
    /// `"blindbook v1 succession" || lp(provider) || new key`.
    pub signature: [u8; 64],
}

impl KeySuccession {
    /// The old key of a provider vouches for the new one.
    #[must_use]
    pub fn sign(provider: &identifier::Provider, old: &SigningKey, new: &VerifyingKey) -> Self {
        let signature = old.sign(&succession_input(provider, new)).to_bytes();
        Self { old: old.verifying_key(), new: *new, signature }
    }

    /// Whether the old key signed the new one, for this provider.
    #[must_use]
    pub fn holds(&self, provider: &identifier::Provider) -> bool {
        self.old
            .verify_strict(
                &succession_input(provider, &self.new),
                &Signature::from_bytes(&self.signature),
            )
            .is_ok()
    }
}

fn succession_input(provider: &identifier::Provider, new: &VerifyingKey) -> Vec<u8> {
    let name = provider.as_str().as_bytes();
    // A provider's name is far shorter than 2^16 bytes.
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes();
    [b"blindbook v1 succession".as_slice(), &length, name, new.as_bytes()].concat()
}

/// One application provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its domain name.
    pub name: identifier::Provider,
    /// The key that signs its mappings now.
    pub key: VerifyingKey,
    /// How earlier keys lead to this one, oldest first.
    pub successions: Vec<KeySuccession>,
}

impl Provider {
    /// Whether the key of now is `pinned`, or vouched for by it, step by step.
    #[must_use]
    pub fn follows(&self, pinned: &VerifyingKey) -> bool {
        let mut key = *pinned;
        for step in &self.successions {
            if step.old == key && step.holds(&self.name) {
                key = step.new;
            }
        }
        key == self.key
    }
}

/// All application providers of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderList {
    /// The directory that they are listed in.
    pub directory: DirectoryId,
    /// Never falls.
    pub serial: u64,
    /// Ascending by name.
    pub providers: Vec<Provider>,
}

impl ProviderList {
    /// Encodes and signs.
    #[must_use]
    pub fn sign(&self, identity: &SigningKey) -> SignedBody {
        let key = |key: &VerifyingKey| key.as_bytes().to_vec().into();
        let body = proto::ProviderList {
            directory_id: self.directory.as_bytes().to_vec().into(),
            serial: self.serial,
            providers: self
                .providers
                .iter()
                .map(|provider| proto::Provider {
                    name: provider.name.as_str().into(),
                    public_key: key(&provider.key),
                    successions: provider
                        .successions
                        .iter()
                        .map(|step| proto::KeySuccession {
                            old_public_key: key(&step.old),
                            new_public_key: key(&step.new),
                            signature: step.signature.to_vec().into(),
                        })
                        .collect(),
                })
                .collect(),
        };
        SignedBody::sign(Kind::Providers, body.encode_to_vec(), identity)
    }

    /// Verifies the signature, then decodes and checks. The serial is the
    /// caller's to check.
    ///
    /// # Errors
    /// Not signed by `identity`, not of its directory, or malformed.
    pub fn verify(signed: &SignedBody, identity: &VerifyingKey) -> Result<Self, WireError> {
        signed.verify(Kind::Providers, identity)?;
        let body = proto::ProviderList::decode(signed.body.clone())
            .map_err(|_| WireError::Encoding("providers"))?;
        let directory = DirectoryId::from_bytes(array("directory_id", &body.directory_id)?);
        if directory != DirectoryId::of(identity) {
            return Err(WireError::Rule {
                field: "directory_id",
                rule: "must be the identity key's",
            });
        }
        let providers = body.providers.iter().map(check_provider).collect::<Result<Vec<_>, _>>()?;
        if !providers.is_sorted_by(|one, next| one.name < next.name) {
            return Err(WireError::Rule { field: "providers", rule: "must ascend by name" });
        }
        Ok(Self { directory, serial: body.serial, providers })
    }

    /// The provider of a name.
    #[must_use]
    pub fn get(&self, name: &identifier::Provider) -> Option<&Provider> {
        let place = self.providers.binary_search_by(|provider| provider.name.cmp(name)).ok()?;
        self.providers.get(place)
    }
}

fn check_provider(provider: &proto::Provider) -> Result<Provider, WireError> {
    let name = identifier::Provider::from_canonical(&provider.name)
        .map_err(|_| WireError::Rule { field: "providers.name", rule: "must be a domain name" })?;
    if provider.successions.len() > MAX_SUCCESSIONS {
        return Err(WireError::Rule { field: "providers.successions", rule: "must be at most 64" });
    }
    let successions = provider
        .successions
        .iter()
        .map(|step| {
            Ok(KeySuccession {
                old: check_key("providers.successions.old_public_key", &step.old_public_key)?,
                new: check_key("providers.successions.new_public_key", &step.new_public_key)?,
                signature: array("providers.successions.signature", &step.signature)?,
            })
        })
        .collect::<Result<_, WireError>>()?;
    Ok(Provider {
        name,
        key: check_key("providers.public_key", &provider.public_key)?,
        successions,
    })
}

fn check_key(field: &'static str, bytes: &[u8]) -> Result<VerifyingKey, WireError> {
    VerifyingKey::from_bytes(&array(field, bytes)?)
        .ok()
        .filter(|key| !key.is_weak())
        .ok_or(WireError::Rule { field, rule: "must be an Ed25519 key of the full order" })
}

impl From<SignedBody> for proto::ListProvidersResponse {
    fn from(signed: SignedBody) -> Self {
        Self { body: signed.body, signature: signed.signature.to_vec().into() }
    }
}

impl TryFrom<proto::ListProvidersResponse> for SignedBody {
    type Error = WireError;

    fn try_from(response: proto::ListProvidersResponse) -> Result<Self, WireError> {
        Self::from_parts(response.body, &response.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_trusted_only_when_each_key_before_vouches() {
        let keys: Vec<_> = (1..=4).map(|n| SigningKey::from_bytes(&[n; 32])).collect();
        let public: Vec<_> = keys.iter().map(SigningKey::verifying_key).collect();
        let name = identifier::Provider::parse("wa.example").unwrap();
        let provider = Provider {
            name: name.clone(),
            key: public[2],
            successions: vec![
                KeySuccession::sign(&name, &keys[0], &public[1]),
                KeySuccession::sign(&name, &keys[1], &public[2]),
            ],
        };
        assert!(provider.follows(&public[0]));
        assert!(provider.follows(&public[1]));
        assert!(provider.follows(&public[2]));
        assert!(!provider.follows(&public[3]));

        let mut forged = provider.clone();
        forged.successions[1].signature[0] ^= 1;
        assert!(!forged.follows(&public[0]));
        let elsewhere = identifier::Provider::parse("sg.example").unwrap();
        let mut borrowed = provider;
        borrowed.successions[1] = KeySuccession::sign(&elsewhere, &keys[1], &public[2]);
        assert!(!borrowed.follows(&public[1]));
    }

    #[test]
    fn a_list_round_trips_and_an_unsorted_or_foreign_one_is_refused() {
        let identity = SigningKey::from_bytes(&[9; 32]);
        let provider = |name: &str| Provider {
            name: identifier::Provider::parse(name).unwrap(),
            key: SigningKey::from_bytes(&[5; 32]).verifying_key(),
            successions: Vec::new(),
        };
        let list = ProviderList {
            directory: DirectoryId::of(&identity.verifying_key()),
            serial: 3,
            providers: vec![provider("a.example"), provider("b.example")],
        };
        let verify = |list: &ProviderList| {
            ProviderList::verify(&list.sign(&identity), &identity.verifying_key())
        };
        assert_eq!(verify(&list).as_ref(), Ok(&list));
        assert!(list.get(&identifier::Provider::parse("b.example").unwrap()).is_some());
        assert!(list.get(&identifier::Provider::parse("c.example").unwrap()).is_none());

        let mut unsorted = list.clone();
        unsorted.providers.reverse();
        assert_eq!(
            verify(&unsorted),
            Err(WireError::Rule { field: "providers", rule: "must ascend by name" })
        );
        let foreign = ProviderList { directory: DirectoryId::from_bytes([0; 16]), ..list.clone() };
        assert_eq!(verify(&foreign).unwrap_err().field(), "directory_id");
        let stranger = SigningKey::from_bytes(&[8; 32]).verifying_key();
        assert_eq!(
            ProviderList::verify(&list.sign(&identity), &stranger),
            Err(WireError::Signature("providers"))
        );
    }
}
