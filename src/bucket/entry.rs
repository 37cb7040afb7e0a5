//! One sealed entry, and the keys that an OPRF output gives.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{AeadInOut as _, inout::InOutBuf},
};
use rand::CryptoRng;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    DirectoryId, ENTRY_BYTES, MAX_MAPPINGS, MappingError, SignedMapping, mapping::PLAINTEXT_BYTES,
};
use crate::{epoch::Epoch, secret::Secret};

const TAG_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;
const GCM_TAG_BYTES: usize = 16;

const _: () = assert!(TAG_BYTES + NONCE_BYTES + PLAINTEXT_BYTES + GCM_TAG_BYTES == ENTRY_BYTES);

/// Why an entry could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The ciphertext is not authentic under this key, directory, epoch and n.
    #[error("the entry does not open: it was altered, or sealed elsewhere")]
    NotAuthentic,
    /// It opens, and is no mapping.
    #[error(transparent)]
    Mapping(#[from] MappingError),
}

/// One slot of a bucket: a sealed mapping or random bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry([u8; ENTRY_BYTES]);

impl Entry {
    /// An entry's bytes as they lie in a bucket.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; ENTRY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Random bytes, as a free slot holds them.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; ENTRY_BYTES];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; ENTRY_BYTES] {
        &self.0
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry(..)")
    }
}

/// What a client finds in a bucket under one OPRF output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// The mappings that opened, by n. Their signatures are not yet verified.
    pub mappings: Vec<SignedMapping>,
    /// How many n had a tag and no entry that opened.
    pub damaged: usize,
}

/// The tags and keys of one identifier's entries in one epoch.
pub struct EntryKeys {
    tag: Secret<32>,
    seal: Secret<32>,
}

impl EntryKeys {
    /// The keys that an OPRF output `y` gives.
    #[must_use]
    pub fn of(y: &[u8; 64]) -> Self {
        Self {
            tag: Secret::new(blake3::derive_key("blindbook v1 tag", y)),
            seal: Secret::new(blake3::derive_key("blindbook v1 entry key", y)),
        }
    }

    /// The tag of the n-th mapping.
    fn tag(&self, n: u32) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        blake3::Hasher::new_keyed(self.tag.expose())
            .update(&n.to_be_bytes())
            .finalize_xof()
            .fill(&mut tag);
        tag
    }

    fn cipher(&self, n: u32) -> Aes256Gcm {
        let mut hash = blake3::keyed_hash(self.seal.expose(), &n.to_be_bytes());
        let cipher = Aes256Gcm::new(hash.as_bytes().into());
        hash.zeroize();
        cipher
    }

    /// Seals the n-th mapping under a fresh random nonce.
    ///
    /// # Errors
    /// The mapping does not fit an entry, which its types rule out.
    pub fn seal(
        &self,
        directory: &DirectoryId,
        epoch: Epoch,
        n: u32,
        mapping: &SignedMapping,
        rng: &mut impl CryptoRng,
    ) -> Result<Entry, EntryError> {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let mut text = mapping.encode()?;
        let gcm_tag = self
            .cipher(n)
            .encrypt_inout_detached(
                &nonce.into(),
                &aad(directory, epoch, n),
                InOutBuf::from(text.as_mut_slice()),
            )
            .map_err(|_| EntryError::NotAuthentic)?;
        let mut entry = [0; ENTRY_BYTES];
        let parts = self.tag(n).into_iter().chain(nonce).chain(text).chain(gcm_tag);
        for (to, from) in entry.iter_mut().zip(parts) {
            *to = from;
        }
        Ok(Entry(entry))
    }

    /// Opens the n-th mapping in an entry that carries its tag.
    ///
    /// # Errors
    /// It was altered, or sealed for another n, epoch or directory, or holds
    /// no mapping.
    pub fn open(
        &self,
        directory: &DirectoryId,
        epoch: Epoch,
        n: u32,
        entry: &Entry,
    ) -> Result<SignedMapping, EntryError> {
        let parts = entry
            .0
            .split_first_chunk::<TAG_BYTES>()
            .and_then(|(_, rest)| rest.split_first_chunk::<NONCE_BYTES>())
            .and_then(|(nonce, rest)| {
                let (text, gcm_tag) = rest.split_last_chunk::<GCM_TAG_BYTES>()?;
                Some((nonce, text.first_chunk::<PLAINTEXT_BYTES>()?, gcm_tag))
            });
        let (nonce, text, gcm_tag) = parts.ok_or(EntryError::NotAuthentic)?;
        let mut text = Zeroizing::new(*text);
        self.cipher(n)
            .decrypt_inout_detached(
                nonce.into(),
                &aad(directory, epoch, n),
                InOutBuf::from(text.as_mut_slice()),
                gcm_tag.into(),
            )
            .map_err(|_| EntryError::NotAuthentic)?;
        Ok(SignedMapping::decode(&text)?)
    }

    /// Opens every mapping in a bucket's entries: for n = 0, 1, ... every slot
    /// that carries the tag is tried, and the first n without a tag ends it.
    /// What does not open is counted and skipped.
    #[must_use]
    pub fn open_all(
        &self,
        directory: &DirectoryId,
        epoch: Epoch,
        entries: &(impl Iterator<Item = Entry> + Clone),
    ) -> Opened {
        let mut opened = Opened::default();
        for n in (0..).take(MAX_MAPPINGS) {
            let tag = self.tag(n);
            let mut tagged = entries.clone().filter(|entry| entry.0.starts_with(&tag)).peekable();
            if tagged.peek().is_none() {
                break;
            }
            match tagged.find_map(|entry| self.open(directory, epoch, n, &entry).ok()) {
                Some(mapping) => opened.mappings.push(mapping),
                None => opened.damaged += 1,
            }
        }
        opened
    }
}

/// Binds an entry to its directory, epoch and n; the key binds the bucket.
fn aad(directory: &DirectoryId, epoch: Epoch, n: u32) -> [u8; 42] {
    let mut aad = [0; 42];
    let parts = b"blindbook v1 entry"
        .iter()
        .copied()
        .chain(*directory.as_bytes())
        .chain(epoch.get().to_be_bytes())
        .chain(n.to_be_bytes());
    for (to, from) in aad.iter_mut().zip(parts) {
        *to = from;
    }
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bucket::{Audience, Mapping},
        identifier::{Provider, Ssi, User},
    };

    const DIRECTORY: DirectoryId = DirectoryId::from_bytes([1; 16]);

    fn mapping(user: &str) -> SignedMapping {
        let ssi = Ssi::new(Provider::parse("wa.example").unwrap(), User::parse(user).unwrap());
        SignedMapping {
            mapping: Mapping {
                ssi: ssi.unwrap(),
                audience: Audience::Personal,
                default_since: 1,
                verified_until: 2,
                ttl_s: 3,
            },
            signature: [4; 64],
        }
    }

    fn seal(keys: &EntryKeys, n: u32, user: &str) -> Entry {
        keys.seal(&DIRECTORY, Epoch::FIRST, n, &mapping(user), &mut rand::rng()).unwrap()
    }

    #[test]
    fn an_entry_opens_only_where_it_was_sealed() {
        let keys = EntryKeys::of(&[7; 64]);
        let entry = seal(&keys, 2, "alice");
        assert_eq!(keys.open(&DIRECTORY, Epoch::FIRST, 2, &entry), Ok(mapping("alice")));

        let refused = Err(EntryError::NotAuthentic);
        let elsewhere = DirectoryId::from_bytes([2; 16]);
        assert_eq!(keys.open(&elsewhere, Epoch::FIRST, 2, &entry), refused);
        assert_eq!(keys.open(&DIRECTORY, Epoch::new(2).unwrap(), 2, &entry), refused);
        assert_eq!(keys.open(&DIRECTORY, Epoch::FIRST, 1, &entry), refused);
        assert_eq!(EntryKeys::of(&[8; 64]).open(&DIRECTORY, Epoch::FIRST, 2, &entry), refused);
        for offset in TAG_BYTES..ENTRY_BYTES {
            let mut altered = entry;
            altered.0[offset] ^= 1;
            assert_eq!(keys.open(&DIRECTORY, Epoch::FIRST, 2, &altered), refused, "{offset}");
        }
    }

    #[test]
    fn sealing_twice_shares_only_the_tag() {
        let keys = EntryKeys::of(&[7; 64]);
        let (first, second) = (seal(&keys, 0, "alice"), seal(&keys, 0, "alice"));
        assert_eq!(first.0[..TAG_BYTES], second.0[..TAG_BYTES]);
        assert_ne!(first.0[TAG_BYTES..], second.0[TAG_BYTES..]);
    }

    #[test]
    fn all_mappings_up_to_the_first_gap_open_wherever_they_lie() {
        let keys = EntryKeys::of(&[7; 64]);
        let mut entries: Vec<_> = (0..256).map(|_| Entry::random(&mut rand::rng())).collect();
        entries[200] = seal(&keys, 0, "alice");
        entries[3] = seal(&keys, 1, "bob");
        entries[77] = seal(&keys, 3, "dave");
        let opened = keys.open_all(&DIRECTORY, Epoch::FIRST, &entries.iter().copied());
        assert_eq!(opened.mappings, [mapping("alice"), mapping("bob")]);
        assert_eq!(opened.damaged, 0);

        let stranger = EntryKeys::of(&[8; 64]);
        assert_eq!(
            stranger.open_all(&DIRECTORY, Epoch::FIRST, &entries.iter().copied()),
            Opened::default()
        );
    }

    #[test]
    fn equal_tags_are_each_tried_and_damage_is_counted_and_skipped() {
        let keys = EntryKeys::of(&[7; 64]);
        let mut entries: Vec<_> = (0..256).map(|_| Entry::random(&mut rand::rng())).collect();
        let mut decoy = seal(&keys, 0, "alice");
        decoy.0[100] ^= 1;
        entries[0] = decoy;
        entries[1] = seal(&keys, 0, "alice");
        entries[2] = seal(&keys, 1, "bob");
        entries[2].0[191] ^= 1;
        entries[3] = seal(&keys, 2, "carol");
        let opened = keys.open_all(&DIRECTORY, Epoch::FIRST, &entries.iter().copied());
        assert_eq!(opened.mappings, [mapping("alice"), mapping("carol")]);
        assert_eq!(opened.damaged, 1);
    }
}
