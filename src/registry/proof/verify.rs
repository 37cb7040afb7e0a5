//! The one door: a proof as it arrived goes in, a [`Proven`] comes out.

use super::{
    Challenge, Challenges, IdentityIssuers, PassportRules, ProofError, Proven, TokenIssuers,
    VerificationAddress, challenge::OpenChallenge, oidc, passport, token,
};
use crate::identifier::{Provider, Sii};

/// A proof as a caller hands it over. Nothing of it is believed yet; it has no
/// `Debug`, since it shows an identifier.
pub enum Proof {
    /// A claim token.
    Token(String),
    /// A PASSporT in answer to a challenge.
    Passport {
        /// The challenge.
        challenge: Challenge,
        /// The PASSporT, in full form.
        token: String,
        /// Its certificates in DER, signer first, up to a root or the one that a
        /// root issued.
        chain: Vec<Vec<u8>>,
    },
    /// An OIDC `id_token` in answer to a challenge.
    Identity {
        /// The challenge, which is the token's nonce.
        challenge: Challenge,
        /// The `id_token`.
        token: String,
    },
}

/// Whose proofs count here.
#[derive(Clone, Debug)]
pub struct Proofs {
    challenges: Challenges,
    tokens: TokenIssuers,
    passports: PassportRules,
    identities: IdentityIssuers,
}

impl Proofs {
    /// Puts them together. What is left empty is trusted for nothing.
    #[must_use]
    pub const fn new(
        challenges: Challenges,
        tokens: TokenIssuers,
        passports: PassportRules,
        identities: IdentityIssuers,
    ) -> Self {
        Self { challenges, tokens, passports, identities }
    }

    /// The challenges that proofs answer.
    #[must_use]
    pub const fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// Verifies that `proof` shows control of `sii` for `provider`, the caller's
    /// own. A challenge is used up by the proof that answers it, not by a wrong
    /// one. Whoever commits what was proved records
    /// [`Proven::proof_id`] in the same commit.
    ///
    /// # Errors
    /// What is wrong; nothing was changed.
    pub async fn verify(
        &self,
        proof: &Proof,
        sii: &Sii,
        provider: &Provider,
        now_s: u64,
    ) -> Result<Proven, ProofError> {
        let (proven, open) = self.examine(proof, sii, provider, now_s).await?;
        if let Some(open) = open {
            self.challenges.close(&open, now_s).await?;
        }
        Ok(proven)
    }

    /// As [`Self::verify`], but a challenge stays open: for those who look
    /// before they change something with the same proof.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn peek(
        &self,
        proof: &Proof,
        sii: &Sii,
        provider: &Provider,
        now_s: u64,
    ) -> Result<Proven, ProofError> {
        Ok(self.examine(proof, sii, provider, now_s).await?.0)
    }

    async fn examine<'a>(
        &self,
        proof: &'a Proof,
        sii: &'a Sii,
        provider: &'a Provider,
        now_s: u64,
    ) -> Result<(Proven, Option<OpenChallenge<'a>>), ProofError> {
        match proof {
            Proof::Token(token) => {
                Ok((token::verify(token, sii, provider, &self.tokens, now_s)?, None))
            }
            Proof::Passport { challenge, token, chain } => {
                let open = self.challenges.find(challenge, sii, provider, now_s).await?;
                let proven = passport::verify(token, chain, &open, &self.passports, now_s)?;
                Ok((proven, Some(open)))
            }
            Proof::Identity { challenge, token } => {
                let open = self.challenges.find(challenge, sii, provider, now_s).await?;
                let proven = oidc::verify(token, &open, &self.identities, now_s)?;
                Ok((proven, Some(open)))
            }
        }
    }

    /// Where a user of a provider calls to answer a challenge, if anywhere.
    #[must_use]
    pub fn address(&self, provider: &Provider) -> Option<&VerificationAddress> {
        self.passports.address(provider)
    }
}
