//! Claim tokens: what a directory says after its own check, an ES256 JWT
//! (RFC 7519) that other directories can verify too.
//!
//! Header `typ` `blindbook-claim+jwt`, `alg` `ES256`, `kid` the key's RFC 7638
//! thumbprint, nothing else. Claims: `iss` directory id in hexadecimal, `sub` the
//! identifier in canonical form, `aud` the provider, `iat`, `exp` ten minutes
//! later, `jti` 16 random bytes in base64url.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    CodeConfirmed, ProofError, ProofKind, Proven, TokenKey,
    jose::{Compact, Forbidden, not_from_the_future},
    jwk::Es256,
    proof_id,
};
use crate::{
    bucket::DirectoryId,
    identifier::{Provider, Sii},
    secret::Secret,
};

/// How long a claim token is good.
pub const TOKEN_LIFETIME_S: u64 = 600;

/// RFC 8725 section 3.11: a type of its own, so that no other JWT passes for one.
const TYPE: &str = "blindbook-claim+jwt";
const ALGORITHM: &str = "ES256";
const JTI_BYTES: usize = 16;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    iat: u64,
    exp: u64,
    jti: String,
}

/// Mints a directory's claim tokens.
pub struct TokenSigner {
    /// Zeroised when dropped.
    signing: SigningKey,
    key: TokenKey,
    issuer: DirectoryId,
}

impl TokenSigner {
    /// Derives the key from a seed.
    ///
    /// # Errors
    /// [`ProofError::Setting`]: the seed gives no key, which chance alone does not
    /// bring about.
    pub fn from_seed(seed: &Secret<32>, issuer: DirectoryId) -> Result<Self, ProofError> {
        let base = Zeroizing::new(blake3::derive_key("blindbook v1 token key", seed.expose()));
        // One in 2^32 numbers is not below the group's order.
        let signing = (0..=u8::MAX)
            .find_map(|count| {
                let scalar = Zeroizing::new(<[u8; 32]>::from(blake3::keyed_hash(&base, &[count])));
                SigningKey::from_slice(scalar.as_slice()).ok()
            })
            .ok_or(ProofError::Setting("the token seed gives no key: make another"))?;
        let point = signing.verifying_key().to_sec1_point(false);
        let key = Es256::from_point(point.as_bytes())
            .map(TokenKey::new)
            .ok_or(ProofError::Setting("the token seed gives no key: make another"))?;
        Ok(Self { signing, key, issuer })
    }

    /// The public key, to be published.
    #[must_use]
    pub const fn key(&self) -> &TokenKey {
        &self.key
    }

    /// Whose tokens they are.
    #[must_use]
    pub const fn issuer(&self) -> DirectoryId {
        self.issuer
    }

    /// Says that a code was confirmed. Signatures are deterministic (RFC 6979).
    ///
    /// # Errors
    /// [`ProofError::Claims`]: never, since the claims are plain text.
    pub fn mint(
        &self,
        confirmed: &CodeConfirmed,
        now_s: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Zeroizing<String>, ProofError> {
        let mut jti = [0; JTI_BYTES];
        rng.fill_bytes(&mut jti);
        let header = Header { alg: ALGORITHM.into(), kid: self.key.kid().into(), typ: TYPE.into() };
        let claims = Claims {
            iss: self.issuer.to_string(),
            sub: confirmed.sii.as_str().into(),
            aud: confirmed.provider.as_str().into(),
            iat: now_s,
            exp: now_s.saturating_add(TOKEN_LIFETIME_S),
            jti: URL_SAFE_NO_PAD.encode(jti),
        };
        let header = serde_json::to_vec(&header).map_err(|_| ProofError::Header)?;
        let claims = Zeroizing::new(serde_json::to_vec(&claims).map_err(|_| ProofError::Claims)?);
        let mut token = Zeroizing::new(String::with_capacity(1024));
        URL_SAFE_NO_PAD.encode_string(header, &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&*claims, &mut token);
        let signature: Signature = self.signing.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.to_bytes(), &mut token);
        Ok(token)
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The directories whose claim tokens count here: our own, and others that we
/// trust to check as we do.
#[derive(Clone, Debug, Default)]
pub struct TokenIssuers(BTreeMap<String, (DirectoryId, TokenKey)>);

impl TokenIssuers {
    /// Trusts a directory's key. One may have several, while it changes them.
    ///
    /// # Errors
    /// [`ProofError::Setting`]: the key is another directory's already.
    pub fn trust(&mut self, issuer: DirectoryId, key: TokenKey) -> Result<(), ProofError> {
        match self.0.get(key.kid()) {
            Some((known, _)) if *known != issuer => {
                Err(ProofError::Setting("two directories cannot have the same token key"))
            }
            _ => {
                self.0.insert(key.kid().to_owned(), (issuer, key));
                Ok(())
            }
        }
    }
}

/// Verifies a claim token for an identifier and a provider.
pub(super) fn verify(
    token: &str,
    sii: &Sii,
    provider: &Provider,
    issuers: &TokenIssuers,
    now_s: u64,
) -> Result<Proven, ProofError> {
    let compact = Compact::split(token)?;
    compact.header::<Forbidden>()?.check(false)?;
    let header: Header = compact.header()?;
    if header.typ != TYPE {
        return Err(ProofError::Type);
    }
    // RFC 8725 section 3.1: one algorithm, whatever the token says.
    if header.alg != ALGORITHM {
        return Err(ProofError::Algorithm);
    }
    let (issuer, key) = issuers.0.get(&header.kid).ok_or(ProofError::UnknownSigner)?;
    key.verify(compact.signing_input.as_bytes(), &compact.signature)?;
    let claims: Claims = compact.claims()?;
    if claims.iss != issuer.to_string() {
        return Err(ProofError::Issuer);
    }
    if claims.sub != sii.as_str() {
        return Err(ProofError::Subject);
    }
    if claims.aud != provider.as_str() {
        return Err(ProofError::Audience);
    }
    not_from_the_future(claims.iat, now_s)?;
    if claims.exp <= claims.iat || claims.exp - claims.iat > TOKEN_LIFETIME_S {
        return Err(ProofError::Lifetime);
    }
    if now_s >= claims.exp {
        return Err(ProofError::Expired);
    }
    let jti: [u8; JTI_BYTES] = URL_SAFE_NO_PAD
        .decode(&claims.jti)
        .ok()
        .and_then(|jti| jti.try_into().ok())
        .ok_or(ProofError::Claims)?;
    Ok(Proven {
        sii: sii.clone(),
        provider: provider.clone(),
        kind: ProofKind::Token,
        proof_id: proof_id(ProofKind::Token, &[issuer.as_bytes(), &jti]),
        proof_time_s: claims.iat,
        expires_s: claims.exp,
    })
}
