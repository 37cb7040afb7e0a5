//! Why a proof was refused: each variant names the fault and none can hold a
//! value of the proof.

use super::{pending::PendingError, sender::SendError};

/// Whose fault a refusal is, for whoever turns it into a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request is malformed: sending it again never helps.
    Malformed,
    /// What was shown does not prove control of this identifier for this provider.
    Refused,
    /// It did once, or will: get a fresh proof.
    Stale,
    /// Too many codes or tries: wait.
    Limited,
    /// Our own machinery failed.
    Ours,
}

/// Why a proof was refused.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    // The token's form.
    /// Longer than any honest proof.
    #[error("the proof is too large")]
    TooLarge,
    /// Not the three parts of a JWS in its compact form.
    #[error(
        "the token is no compact JWS: three parts in base64url without padding, joined by dots"
    )]
    Form,
    /// The header is not the JSON object that this kind of proof has.
    #[error("the token's header is malformed, or holds a parameter that this proof has no use for")]
    Header,
    /// A parameter that would choose the key or change what is signed.
    #[error(
        "the token's header brings a key, names one to fetch, or is marked critical: remove it"
    )]
    HeaderParameter,
    /// `typ` of another kind of token.
    #[error("the token's typ is that of another kind of token")]
    Type,
    /// Another `alg` than the key's own, `none` among them.
    #[error("the token's alg is not the one that its signer's key is for")]
    Algorithm,
    /// The claims are not those of this kind of proof.
    #[error("the token's claims are malformed, or one is missing")]
    Claims,

    // Who signed.
    /// Nobody whom this directory trusts for it.
    #[error("the token's signer is not trusted here for this")]
    UnknownSigner,
    /// The signature does not hold.
    #[error("the token's signature does not hold")]
    Signature,
    /// Signed by one, said to be by another.
    #[error("the token's iss is not whose key signed it")]
    Issuer,

    // What was signed.
    /// The proof is about another identifier.
    #[error("the proof is for another identifier")]
    Subject,
    /// The proof is for another provider.
    #[error("the proof is for another provider")]
    Audience,
    /// An identifier that this kind of proof cannot be about.
    #[error("this kind of proof does not exist for this kind of identifier")]
    Kind,
    /// From the future.
    #[error("the proof is not valid yet: check the signer's clock")]
    NotYetValid,
    /// Its time is over.
    #[error("the proof has expired: get a fresh one")]
    Expired,
    /// It would live longer than such proofs may.
    #[error("the token is valid for longer than this directory accepts")]
    Lifetime,
    /// Signed before we asked.
    #[error("the proof was made before its challenge was given: sign again")]
    BeforeChallenge,
    /// The nonce is not our challenge.
    #[error("the token's nonce is not the challenge")]
    Nonce,
    /// A PASSporT for a call to somebody else.
    #[error(
        "the PASSporT was made for another destination than this provider's verification address"
    )]
    Destination,
    /// A PASSporT for another message.
    #[error("the PASSporT's msgi is not the digest of this challenge's text")]
    Message,
    /// A PASSporT of a kind that is no proof here.
    #[error("the PASSporT's ppt is not one that this directory knows: use none, or msg")]
    PassportExtension,
    /// The issuer has not checked the address.
    #[error("the issuer does not say that the e-mail address is verified")]
    EmailUnverified,

    // Challenges and codes.
    /// Not a challenge.
    #[error("the challenge is malformed: give it as it was received")]
    ChallengeForm,
    /// Expired, used, never given, or given for another identifier or provider.
    #[error(
        "no such challenge is open for this identifier and provider: it expired, was used, or was never given"
    )]
    ChallengeUnknown,
    /// Too many challenges for one provider.
    #[error("too many challenges were given to this provider: try later")]
    ChallengeLimit,
    /// Not digits, or too many or few.
    #[error("the code is malformed: give its digits")]
    CodeForm,
    /// Expired, used, tried too often, or never sent.
    #[error("no code is open for this identifier and provider: start the verification again")]
    CodeUnknown,
    /// Another code, and tries are left.
    #[error("the code is wrong")]
    CodeWrong,
    /// Another code, and no try is left.
    #[error("the code is wrong and was tried too often: start the verification again")]
    CodeTries,
    /// Too many codes to one identifier.
    #[error("too many codes were sent to this identifier: try later")]
    CodeLimitIdentifier,
    /// Too many codes for one provider.
    #[error("too many codes were sent for this provider: try later")]
    CodeLimitProvider,
    /// No code can be sent there.
    #[error("no code can be sent to this kind of identifier: use another proof")]
    NoChannel,

    // Certificates.
    /// None, or more than any honest chain has.
    #[error("the certificate chain is empty or too long")]
    ChainLength,
    /// Not a certificate in DER, or one that says something twice.
    #[error("a certificate is malformed")]
    Certificate,
    /// Signed in a way that is not ECDSA with SHA-2 on a NIST curve.
    #[error("a certificate is signed with another algorithm than ECDSA with SHA-256 or SHA-384")]
    CertificateAlgorithm,
    /// Not a key on P-256 (or P-384, for an authority).
    #[error("a certificate's key is not on P-256, or for an authority P-384")]
    CertificateKey,
    /// A critical extension that is not understood, or a constraint that is not applied.
    #[error("a certificate has a critical extension or a constraint that is not supported")]
    CertificateExtension,
    /// Expired or not valid yet.
    #[error("a certificate has expired or is not valid yet")]
    CertificateTime,
    /// An issuer that is no authority.
    #[error("a certificate was issued by one that is no certificate authority")]
    CertificateAuthority,
    /// More certificates beneath an authority than it may have.
    #[error("the chain is longer than one of its authorities permits")]
    CertificatePathLength,
    /// The key may not be used like this.
    #[error("a certificate's key usage does not permit this signature")]
    CertificateUsage,
    /// A certificate is not by the next one.
    #[error("a certificate was not issued by the next of the chain: order them, signer first")]
    CertificateOrder,
    /// The issuer's signature does not hold.
    #[error("a certificate's signature does not hold")]
    CertificateSignature,
    /// The chain does not end at a configured root.
    #[error("the chain does not end at a root that this directory trusts")]
    UnknownRoot,
    /// A certificate without TNAuthList.
    #[error("a certificate has no TNAuthList: it has no authority over numbers")]
    NumbersMissing,
    /// A TNAuthList that RFC 8226 does not allow.
    #[error("a certificate's TNAuthList is malformed")]
    NumbersMalformed,
    /// Service provider codes only, which do not say which numbers.
    #[error("a certificate's TNAuthList names no numbers, only service provider codes")]
    NumbersUnnamed,
    /// The number is another's.
    #[error("a certificate's TNAuthList does not cover this number")]
    NumberNotCovered,

    // Ours.
    /// What is open could not be read or written.
    #[error(transparent)]
    Pending(#[from] PendingError),
    /// The code could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(&'static str),
}

impl ProofError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::TooLarge
            | Self::Form
            | Self::Header
            | Self::HeaderParameter
            | Self::Type
            | Self::Claims
            | Self::Kind
            | Self::ChallengeForm
            | Self::CodeForm
            | Self::NoChannel
            | Self::ChainLength
            | Self::Certificate
            | Self::CertificateOrder
            | Self::NumbersMalformed => Fault::Malformed,
            Self::Algorithm
            | Self::UnknownSigner
            | Self::Signature
            | Self::Issuer
            | Self::Subject
            | Self::Audience
            | Self::Lifetime
            | Self::Nonce
            | Self::Destination
            | Self::Message
            | Self::PassportExtension
            | Self::EmailUnverified
            | Self::CodeWrong
            | Self::CertificateAlgorithm
            | Self::CertificateKey
            | Self::CertificateExtension
            | Self::CertificateAuthority
            | Self::CertificatePathLength
            | Self::CertificateUsage
            | Self::CertificateSignature
            | Self::UnknownRoot
            | Self::NumbersMissing
            | Self::NumbersUnnamed
            | Self::NumberNotCovered => Fault::Refused,
            Self::NotYetValid
            | Self::Expired
            | Self::BeforeChallenge
            | Self::ChallengeUnknown
            | Self::CodeUnknown
            | Self::CertificateTime => Fault::Stale,
            Self::ChallengeLimit
            | Self::CodeTries
            | Self::CodeLimitIdentifier
            | Self::CodeLimitProvider
            | Self::Pending(PendingError::Full) => Fault::Limited,
            Self::Pending(PendingError::Failed(_)) | Self::Send(_) | Self::Setting(_) => {
                Fault::Ours
            }
        }
    }
}
