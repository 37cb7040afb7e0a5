//! The keys that issue anonymous tokens: made anew each day, and kept sealed
//! beside the data until they expire, so that nothing that is kept afterwards
//! gives one back.

use rand::CryptoRng;

use super::{Keyring, KeyringError};
use crate::token::{Day, SecretKey};

/// Under which a day's key is sealed. Names of rows are hashes, which begin so
/// by no chance.
fn name(day: Day) -> [u8; 16] {
    let mut name = *b"token key\0\0\0\0\0\0\0";
    if let Some(end) = name.last_chunk_mut() {
        *end = day.number().to_be_bytes();
    }
    name
}

impl Keyring {
    /// Seals the key of a day, bound to directory and day.
    ///
    /// # Errors
    /// The key cannot be encoded, which no key is.
    pub fn seal_token_key(
        &self,
        day: Day,
        key: &SecretKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, KeyringError> {
        let plaintext = key.expose().map_err(|_| KeyringError::TokenKey)?;
        self.seal_row(&name(day), &plaintext, rng)
    }

    /// Opens the key of a day.
    ///
    /// # Errors
    /// It was altered, or sealed for another day or under another at-rest key.
    pub fn open_token_key(&self, day: Day, sealed: &[u8]) -> Result<SecretKey, KeyringError> {
        let plaintext = self.open_row(&name(day), sealed).map_err(|_| KeyringError::TokenKey)?;
        SecretKey::decode(&plaintext).map_err(|_| KeyringError::TokenKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_key_opens_for_its_day_and_directory_only() {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [ours, theirs] = folders.each_ref().map(|folder| {
            crate::keyring::generate(&folder.path().join("k"), &mut rand::rng()).unwrap();
            Keyring::load(&folder.path().join("k")).unwrap()
        });
        let day = Day::new(20_000);
        let key = SecretKey::generate(&mut rand::rng()).unwrap();
        let sealed = ours.seal_token_key(day, &key, &mut rand::rng()).unwrap();
        assert_eq!(ours.open_token_key(day, &sealed).unwrap().public(), key.public());
        assert!(ours.open_token_key(day.next(), &sealed).is_err());
        assert!(theirs.open_token_key(day, &sealed).is_err());
    }
}
