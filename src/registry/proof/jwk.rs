//! Public keys as JWK (RFC 7517): those of claim tokens, and the sets that OIDC
//! issuers publish, read from a file. A key has one algorithm, so a token's
//! header never chooses it.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::IgnoredAny};
use sha2::{Digest as _, Sha256};

use super::ProofError;

/// Largest set of keys that is read.
const MAX_JWKS_BYTES: usize = 65_536;

/// Largest RSA modulus that is taken, as AWS-LC's.
const MAX_MODULUS_BYTES: usize = 1024;

const POINT_BYTES: usize = 65;

/// A JWK as published. Members without meaning here are passed over.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    /// The private member of EC and RSA keys (RFC 7518 sections 6.2.2, 6.3.2).
    #[serde(default)]
    d: Option<IgnoredAny>,
}

/// A point of P-256, uncompressed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Es256([u8; POINT_BYTES]);

impl Es256 {
    /// Takes an uncompressed point that lies on the curve.
    pub(super) fn from_point(point: &[u8]) -> Option<Self> {
        let point: [u8; POINT_BYTES] = point.try_into().ok()?;
        p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).ok()?;
        Some(Self(point))
    }

    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        if jwk.kty != "EC" || jwk.crv.as_deref() != Some("P-256") {
            return None;
        }
        let mut point = vec![4];
        for coordinate in [&jwk.x, &jwk.y] {
            let coordinate = URL_SAFE_NO_PAD.decode(coordinate.as_deref()?).ok()?;
            // RFC 7518 section 6.2.1.2: the full size of a coordinate.
            if coordinate.len() != 32 {
                return None;
            }
            point.extend_from_slice(&coordinate);
        }
        Self::from_point(&point)
    }

    /// RFC 7518 section 3.4: the signature is R and S, 32 bytes each.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), ProofError> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.0)
            .verify(message, signature)
            .map_err(|_| ProofError::Signature)
    }

    fn coordinates(&self) -> (String, String) {
        let (x, y) = self.0.get(1..).unwrap_or_default().split_at(32);
        (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
    }
}

/// The key with which a directory's claim tokens are verified. Public.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    kid: String,
    key: Es256,
}

impl TokenKey {
    pub(super) fn new(key: Es256) -> Self {
        let (x, y) = key.coordinates();
        // RFC 7638 section 3: the thumbprint, over the required members by name.
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(members.as_bytes()));
        Self { kid, key }
    }

    /// Reads what [`TokenKey::to_jwk`] writes.
    ///
    /// # Errors
    /// [`ProofError::Setting`]: not a public JWK on P-256, or one whose `kid` is
    /// not its RFC 7638 thumbprint.
    pub fn from_jwk(jwk: &str) -> Result<Self, ProofError> {
        const REFUSED: ProofError = ProofError::Setting(
            "the token key is no public JWK on P-256 whose kid is its thumbprint: copy it from the other directory",
        );
        if jwk.len() > MAX_JWKS_BYTES {
            return Err(REFUSED);
        }
        let jwk: Jwk = serde_json::from_str(jwk).map_err(|_| REFUSED)?;
        let usable = jwk.d.is_none()
            && jwk.alg.as_deref().is_none_or(|alg| alg == "ES256")
            && jwk.usage.as_deref().is_none_or(|usage| usage == "sig");
        let key = Self::new(Es256::from_jwk(&jwk).filter(|_| usable).ok_or(REFUSED)?);
        if jwk.kid.is_some_and(|kid| kid != key.kid) { Err(REFUSED) } else { Ok(key) }
    }

    /// The JWK to publish, for other directories.
    #[must_use]
    pub fn to_jwk(&self) -> String {
        let (x, y) = self.key.coordinates();
        let kid = &self.kid;
        format!(
            r#"{{"alg":"ES256","crv":"P-256","kid":"{kid}","kty":"EC","use":"sig","x":"{x}","y":"{y}"}}"#
        )
    }

    /// Its RFC 7638 thumbprint, by which tokens name it.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), ProofError> {
        self.key.verify(message, signature)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum IssuerKey {
    Es256(Es256),
    Rs256 { n: Vec<u8>, e: Vec<u8> },
}

impl IssuerKey {
    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let key = match jwk.kty.as_str() {
            "EC" => Self::Es256(Es256::from_jwk(jwk)?),
            "RSA" => {
                let n = URL_SAFE_NO_PAD.decode(jwk.n.as_deref()?).ok()?;
                let e = URL_SAFE_NO_PAD.decode(jwk.e.as_deref()?).ok()?;
                // AWS-LC bounds the modulus at 2048 and 8192 bits when verifying.
                if !(256..=MAX_MODULUS_BYTES).contains(&n.len()) || !(1..=8).contains(&e.len()) {
                    return None;
                }
                Self::Rs256 { n, e }
            }
            _ => return None,
        };
        jwk.alg.as_deref().is_none_or(|alg| alg == key.algorithm()).then_some(key)
    }

    const fn algorithm(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::Rs256 { .. } => "RS256",
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), ProofError> {
        match self {
            Self::Es256(key) => key.verify(message, signature),
            Self::Rs256 { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .map_err(|_| ProofError::Signature),
        }
    }
}

/// The keys of an OIDC issuer, by `kid`. Public.
#[derive(Clone)]
pub struct IssuerKeys(Vec<(String, IssuerKey)>);

impl IssuerKeys {
    /// Reads a JWK set (RFC 7517 section 5). Keys for other algorithms than RS256
    /// and ES256, for encryption, or without `kid` are passed over.
    ///
    /// # Errors
    /// [`ProofError::Setting`]: not a JWK set, one with a private key, with a
    /// `kid` twice, or without a usable key.
    pub fn from_jwks(jwks: &str) -> Result<Self, ProofError> {
        #[derive(Deserialize)]
        struct Jwks {
            keys: Vec<serde_json::Value>,
        }
        const REFUSED: ProofError =
            ProofError::Setting("the issuer's keys are no JWK set: download its jwks_uri");
        if jwks.len() > MAX_JWKS_BYTES {
            return Err(REFUSED);
        }
        let jwks: Jwks = serde_json::from_str(jwks).map_err(|_| REFUSED)?;
        let mut keys: Vec<(String, IssuerKey)> = Vec::new();
        for value in jwks.keys {
            // RFC 7517 section 5: what is not understood is ignored.
            let Ok(jwk) = serde_json::from_value::<Jwk>(value) else { continue };
            if jwk.d.is_some() || jwk.kty == "oct" {
                return Err(ProofError::Setting(
                    "the issuer's keys hold a secret one: give public keys only",
                ));
            }
            let Some(key) = IssuerKey::from_jwk(&jwk) else { continue };
            let Some(kid) = jwk.kid else { continue };
            if keys.iter().any(|(known, _)| *known == kid) {
                return Err(ProofError::Setting("the issuer's keys have a kid twice"));
            }
            keys.push((kid, key));
        }
        if keys.is_empty() {
            return Err(ProofError::Setting(
                "the issuer's keys hold none with a kid for RS256 or ES256",
            ));
        }
        Ok(Self(keys))
    }

    /// Verifies under the key that `kid` names, whose own algorithm `alg` must be.
    pub(super) fn verify(
        &self,
        kid: &str,
        alg: &str,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), ProofError> {
        let (_, key) =
            self.0.iter().find(|(known, _)| known == kid).ok_or(ProofError::UnknownSigner)?;
        if alg != key.algorithm() {
            return Err(ProofError::Algorithm);
        }
        key.verify(message, signature)
    }
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(kid, _)| kid)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515 appendix A.3.1.
    const A3: &str = r#"{"kty":"EC","crv":"P-256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"MORE}"#;

    #[test]
    fn rfc_7515_appendix_a_3_verifies_and_its_altered_forms_do_not() {
        let key = TokenKey::from_jwk(&A3.replace("MORE", "")).unwrap();
        let input = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = URL_SAFE_NO_PAD
            .decode("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q")
            .unwrap();
        key.verify(input.as_bytes(), &signature).unwrap();
        for at in [0, 31, 32, 63] {
            let mut altered = signature.clone();
            altered[at] ^= 1;
            assert!(key.verify(input.as_bytes(), &altered).is_err());
        }
        assert!(key.verify(input.replacen('e', "f", 1).as_bytes(), &signature).is_err());
        assert!(key.verify(input.as_bytes(), &[0; 64]).is_err());
        assert!(key.verify(input.as_bytes(), &signature[..63]).is_err());
    }

    #[test]
    fn a_published_key_is_read_back() {
        let key = TokenKey::from_jwk(&A3.replace("MORE", "")).unwrap();
        assert_eq!(TokenKey::from_jwk(&key.to_jwk()).unwrap(), key);
        assert_eq!(key.kid().len(), 43);
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        for more in [
            r#","d":"AQAB""#,
            r#","alg":"HS256""#,
            r#","use":"enc""#,
            r#","kid":"another""#,
            r#","kty":"EC""#,
        ] {
            assert!(TokenKey::from_jwk(&A3.replace("MORE", more)).is_err(), "{more}");
        }
        let off_curve = A3.replace("MORE", "").replace("f83O", "f83P");
        assert!(TokenKey::from_jwk(&off_curve).is_err());
        assert!(IssuerKeys::from_jwks(r#"{"keys":[]}"#).is_err());
        assert!(IssuerKeys::from_jwks(r#"{"keys":[{"kty":"oct","kid":"a","k":"AA"}]}"#).is_err());
        let set = |more| format!(r#"{{"keys":[{}]}}"#, A3.replace("MORE", more));
        assert!(IssuerKeys::from_jwks(&set("")).is_err(), "without kid");
        assert!(IssuerKeys::from_jwks(&set(r#","kid":"a""#)).is_ok());
        assert!(IssuerKeys::from_jwks(&set(r#","kid":"a","d":"AA""#)).is_err());
        assert!(IssuerKeys::from_jwks(&set(r#","kid":"a","use":"enc""#)).is_err());
    }
}
