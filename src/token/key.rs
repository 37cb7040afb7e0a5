//! The keys that issue tokens, and the blinding of what they sign.

use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PSS_2048_8192_SHA384};
use blind_rsa_signatures as brsa;
use brsa::{BlindMessage, BlindSignature, BlindingResult, Deterministic, PSS, Sha384};
use rand::CryptoRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Challenge, INPUT_BYTES, NONCE_BYTES, Pass, SIGNATURE_BYTES, TokenError, pass};

const MODULUS_BITS: usize = 2048;

/// The key that verifies tokens, and blinds what is to be one.
#[derive(Clone)]
pub struct PublicKey {
    inner: brsa::PublicKey<Sha384, PSS, Deterministic>,
    /// The same for verification alone, which the library of TLS does in a third
    /// of the time.
    verifying: Arc<ParsedPublicKey>,
    encoded: Vec<u8>,
    id: [u8; 32],
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(..)")
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.encoded == other.encoded
    }
}

impl Eq for PublicKey {}

impl PublicKey {
    fn new(inner: brsa::PublicKey<Sha384, PSS, Deterministic>) -> Result<Self, TokenError> {
        let components = inner.components();
        let exponent = components.e();
        let exponent: Vec<u8> = exponent.into_iter().skip_while(|byte| *byte == 0).collect();
        if components.n().len() != SIGNATURE_BYTES || exponent != [1, 0, 1] {
            return Err(TokenError::Key);
        }
        // RSAPublicKey, RFC 8017 appendix A.1.1, of a modulus of 2048 bits and 65537.
        let n = components.n();
        let der = [&[0x30, 0x82, 1, 10, 2, 0x82, 1, 1, 0][..], n.as_ref(), &[2, 3, 1, 0, 1]];
        let verifying = ParsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, der.concat());
        let verifying = Arc::new(verifying.map_err(|_| TokenError::Key)?);
        let encoded = inner.to_spki().map_err(|_| TokenError::Key)?;
        let id = Sha256::digest(&encoded).into();
        Ok(Self { inner, verifying, encoded, id })
    }

    /// Reads a `SubjectPublicKeyInfo`, RFC 9578 section 6.5: no other bytes than
    /// those that the same key would be written as.
    ///
    /// # Errors
    /// [`TokenError::Key`].
    pub fn decode(encoded: &[u8]) -> Result<Self, TokenError> {
        let inner = brsa::PublicKey::from_spki(encoded).map_err(|_| TokenError::Key)?;
        let key = Self::new(inner)?;
        if key.encoded == encoded { Ok(key) } else { Err(TokenError::Key) }
    }

    /// Its `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// `token_key_id`: SHA-256 of [`Self::encoded`].
    #[must_use]
    pub const fn id(&self) -> &[u8; 32] {
        &self.id
    }

    pub(super) fn verify(&self, input: &[u8], authenticator: &[u8]) -> Result<(), TokenError> {
        // The salt is as long as the digest, as RFC 9578 section 6.1 has it.
        self.verifying.verify_sig(input, authenticator).map_err(|_| TokenError::Invalid)
    }

    /// A fresh token, blinded for the issuer.
    ///
    /// # Errors
    /// [`TokenError::Computation`].
    pub fn blind(
        &self,
        challenge: &Challenge,
        rng: &mut impl CryptoRng,
    ) -> Result<Blinded, TokenError> {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let input = pass::input(&nonce, challenge, self);
        let blinding = self.inner.blind(rng, input).map_err(|_| TokenError::Computation)?;
        Ok(Blinded { input, blinding })
    }
}

/// A token that waits for its blind signature.
pub struct Blinded {
    input: [u8; INPUT_BYTES],
    blinding: BlindingResult,
}

impl fmt::Debug for Blinded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blinded(..)")
    }
}

impl Blinded {
    /// What the issuer signs: [`SIGNATURE_BYTES`].
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.blinding.blind_message
    }

    /// Unblinds the issuer's signature, and verifies what comes out.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] if the issuer signed with another key, or not.
    pub fn finalize(
        &self,
        blind_signature: &[u8; SIGNATURE_BYTES],
        key: &PublicKey,
    ) -> Result<Pass, TokenError> {
        let blind_signature = BlindSignature(blind_signature.to_vec());
        let signature = key
            .inner
            .finalize(&blind_signature, &self.blinding, self.input)
            .map_err(|_| TokenError::Invalid)?;
        let signature = signature.0.as_slice().try_into().map_err(|_| TokenError::Invalid)?;
        Ok(Pass::signed(&self.input, signature))
    }
}

/// The key that issues tokens.
pub struct SecretKey {
    inner: brsa::SecretKey<Sha384, PSS, Deterministic>,
    public: PublicKey,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl SecretKey {
    fn new(inner: brsa::SecretKey<Sha384, PSS, Deterministic>) -> Result<Self, TokenError> {
        let public = inner.public_key().map_err(|_| TokenError::Key)?;
        Ok(Self { inner, public: PublicKey::new(public)? })
    }

    /// A fresh key. Takes a good part of a second.
    ///
    /// # Errors
    /// [`TokenError::Computation`].
    pub fn generate(rng: &mut impl CryptoRng) -> Result<Self, TokenError> {
        let pair = brsa::KeyPair::generate(rng, MODULUS_BITS);
        Self::new(pair.map_err(|_| TokenError::Computation)?.sk)
    }

    /// Reads PKCS#8.
    ///
    /// # Errors
    /// [`TokenError::Key`].
    pub fn decode(der: &[u8]) -> Result<Self, TokenError> {
        Self::new(brsa::SecretKey::from_der(der).map_err(|_| TokenError::Key)?)
    }

    /// PKCS#8, for the keyring, which seals it.
    ///
    /// # Errors
    /// [`TokenError::Computation`].
    pub fn expose(&self) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.inner.to_der().map(Zeroizing::new).map_err(|_| TokenError::Computation)
    }

    /// The half that everybody has.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a blinded message; `rng` hides the key from who measures the time.
    ///
    /// # Errors
    /// [`TokenError::Blinded`] if it is none under this key.
    pub fn sign(
        &self,
        blinded: &[u8; SIGNATURE_BYTES],
        rng: &mut impl CryptoRng,
    ) -> Result<[u8; SIGNATURE_BYTES], TokenError> {
        let message = BlindMessage(blinded.to_vec());
        let signature = self.inner.blind_sign_with_rng(rng, &message);
        let signature = signature.map_err(|error| match error {
            brsa::Error::UnsupportedParameters => TokenError::Blinded,
            _ => TokenError::Computation,
        })?;
        signature.0.as_slice().try_into().map_err(|_| TokenError::Computation)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use rand::{Rng as _, TryCryptoRng, TryRng};

    use super::*;
    use crate::token::{Day, TOKEN_BYTES};

    #[test]
    fn what_is_issued_is_redeemed_and_nothing_else_is() {
        let mut rng = rand::rng();
        let mut keys = [(); 2].map(|()| SecretKey::generate(&mut rng).unwrap());
        // The other's modulus is the greater one: it signs whatever the first does.
        keys.sort_by_key(|key| key.public().encoded().to_vec());
        let [key, other] = keys;
        let challenge = Challenge::of(&[1; 16], Day::new(20_000));
        let blinded = key.public().blind(&challenge, &mut rng).unwrap();
        let message = blinded.message().try_into().unwrap();
        let signature = key.sign(message, &mut rng).unwrap();
        let pass = blinded.finalize(&signature, key.public()).unwrap();
        pass.verify(&challenge, key.public()).unwrap();

        // By another key, for another day, altered anywhere: one answer.
        let invalid = Err(TokenError::Invalid);
        assert_eq!(pass.verify(&challenge, other.public()), invalid);
        let tomorrow = Challenge::of(&[1; 16], Day::new(20_001));
        assert_eq!(pass.verify(&tomorrow, key.public()), invalid);
        for at in (0..TOKEN_BYTES).step_by(7) {
            let mut altered = *pass.expose();
            altered[at] ^= 1;
            assert_eq!(Pass::new(&altered).verify(&challenge, key.public()), invalid, "{at}");
        }
        let foreign = other.sign(message, &mut rng).unwrap();
        assert_eq!(blinded.finalize(&foreign, key.public()), Err(TokenError::Invalid));
        assert_eq!(key.sign(&[0xff; 256], &mut rng), Err(TokenError::Blinded));

        // Keys are read as they were written.
        let der = key.expose().unwrap();
        let again = SecretKey::decode(&der).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(again.sign(message, &mut rng).unwrap(), signature);
        assert!(SecretKey::decode(&der[1..]).is_err());
        let encoded = key.public().encoded();
        assert_eq!(PublicKey::decode(encoded).as_ref(), Ok(key.public()));
        for length in 0..encoded.len() {
            assert_eq!(PublicKey::decode(&encoded[..length]), Err(TokenError::Key));
        }
        assert_eq!(PublicKey::decode(&[encoded, &[0]].concat()), Err(TokenError::Key));
    }

    /// Counts what is drawn.
    struct Counting(usize);

    impl TryRng for Counting {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            self.0 += 4;
            Ok(rand::rng().next_u32())
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            self.0 += 8;
            Ok(rand::rng().next_u64())
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
            self.0 += bytes.len();
            rand::rng().fill_bytes(bytes);
            Ok(())
        }
    }

    impl TryCryptoRng for Counting {}

    /// The base of the exponentiation is blinded, which deny.toml counts on: the
    /// signature needs no randomness, so whatever is drawn is for that.
    #[test]
    fn each_signature_draws_a_blinding_of_its_own() {
        let key = SecretKey::generate(&mut rand::rng()).unwrap();
        let (mut rng, mut drawn) = (Counting(0), 0);
        for _ in 0..3 {
            key.sign(&[7; SIGNATURE_BYTES], &mut rng).unwrap();
            assert!(rng.0 >= drawn + SIGNATURE_BYTES, "{} after {drawn}", rng.0);
            drawn = rng.0;
        }
    }

    #[test]
    fn one_nonce_is_one_token_however_it_is_signed() {
        let mut rng = rand::rng();
        let key = SecretKey::generate(&mut rng).unwrap();
        let challenge = Challenge::of(&[1; 16], Day::new(20_000));
        let blinded = key.public().blind(&challenge, &mut rng).unwrap();
        let sign = |blinded: &Blinded| {
            let signature = key.sign(blinded.message().try_into().unwrap(), &mut rand::rng());
            blinded.finalize(&signature.unwrap(), key.public()).unwrap()
        };
        let twice = Blinded {
            input: blinded.input,
            blinding: key.public().inner.blind(&mut rng, blinded.input).unwrap(),
        };
        let (one, other) = (sign(&blinded), sign(&twice));
        assert_ne!(one, other);
        assert_eq!(one.name(), other.name());
        let fresh = sign(&key.public().blind(&challenge, &mut rng).unwrap());
        assert_ne!(one.name(), fresh.name());
    }
}
