//! Codes, challenges and proofs.

use super::{Inner, RegistryError};
use crate::{
    identifier::{Provider, Sii},
    registry::proof::{Challenge, Proof, ProofError, Proven},
    secret::SecretText,
    wire::registry::{self as wire, ChallengeStarted, VerificationFinished, VerificationStarted},
};

impl Inner {
    pub(super) async fn start_verification(
        &self,
        provider: &Provider,
        start: wire::StartVerification,
    ) -> Result<VerificationStarted, RegistryError> {
        self.check_region(&start.sii)?;
        let verification = self.options.verification.as_ref().ok_or(RegistryError::NoCodes)?;
        let starting =
            verification.codes.start(&start.sii, provider, self.now_s(), &mut rand::rng());
        Ok(VerificationStarted { expires_s: starting.await? })
    }

    pub(super) async fn finish_verification(
        &self,
        provider: &Provider,
        finish: wire::FinishVerification,
    ) -> Result<VerificationFinished, RegistryError> {
        let verification = self.options.verification.as_ref().ok_or(RegistryError::NoCodes)?;
        let (sii, code) = (&finish.sii, finish.code.expose());
        let now_s = self.now_s();
        let confirmed = verification.codes.finish(sii, provider, code, now_s).await?;
        let token = verification.signer.mint(&confirmed, now_s, &mut rand::rng())?;
        Ok(VerificationFinished { token: SecretText::new(token) })
    }

    pub(super) async fn start_challenge(
        &self,
        provider: &Provider,
        start: wire::StartChallenge,
    ) -> Result<ChallengeStarted, RegistryError> {
        self.check_region(&start.sii)?;
        let proofs = &self.options.proofs;
        let opening =
            proofs.challenges().open(&start.sii, provider, self.now_s(), &mut rand::rng());
        let (challenge, expires_s) = opening.await?;
        Ok(ChallengeStarted {
            text: challenge.text(provider).into(),
            challenge: challenge.nonce().into(),
            destination: proofs.address(provider).map(ToString::to_string),
            expires_s,
        })
    }

    /// That the caller's user controls the identifier. A challenge that was
    /// answered is used up.
    pub(super) async fn prove(
        &self,
        proof: &wire::Proof,
        sii: &Sii,
        provider: &Provider,
    ) -> Result<Proven, RegistryError> {
        let proof = unfold(proof)?;
        Ok(self.options.proofs.verify(&proof, sii, provider, self.now_s()).await?)
    }

    /// As [`Self::prove`], and the same proof serves once more.
    pub(super) async fn prove_to_look(
        &self,
        proof: &wire::Proof,
        sii: &Sii,
        provider: &Provider,
    ) -> Result<Proven, RegistryError> {
        let proof = unfold(proof)?;
        Ok(self.options.proofs.peek(&proof, sii, provider, self.now_s()).await?)
    }
}

/// A proof as the registry takes it.
fn unfold(proof: &wire::Proof) -> Result<Proof, ProofError> {
    let challenge = |text: &SecretText| Challenge::parse(text.expose());
    let text = |text: &SecretText| text.expose().to_owned();
    Ok(match proof {
        wire::Proof::Token(token) => Proof::Token(text(token)),
        wire::Proof::Passport { challenge: nonce, token, certificates } => Proof::Passport {
            challenge: challenge(nonce)?,
            token: text(token),
            chain: certificates.iter().map(|certificate| certificate.to_vec()).collect(),
        },
        wire::Proof::Identity { challenge: nonce, token } => {
            Proof::Identity { challenge: challenge(nonce)?, token: text(token) }
        }
    })
}
