//! What can go wrong in an evaluation. Elements and inputs are named by their
//! index alone, never by their bytes.

use super::{ELEMENT_BYTES, MAX_BATCH_ELEMENTS, MAX_INPUT_BYTES, PROOF_BYTES};

/// A refused OPRF operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OprfError {
    // The caller's fault.
    /// An input exceeds [`MAX_INPUT_BYTES`].
    #[error("input {index} is longer than {MAX_INPUT_BYTES} bytes: shorten it")]
    InputTooLong {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// An input hashes to the identity element (RFC 9497, `InvalidInputError`).
    /// Nobody can find such an input; the check is the RFC's.
    #[error("input {index} has no OPRF value: leave it out")]
    InputMapsToIdentity {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// The key's info exceeds 65,535 bytes.
    #[error("the key info is longer than 65535 bytes: shorten it")]
    InfoTooLong,

    // The fault of whoever put the batch together: the peer on a server, the
    // caller on a client.
    /// A batch without elements.
    #[error("the batch is empty: send at least one element")]
    EmptyBatch,
    /// A batch of more than [`MAX_BATCH_ELEMENTS`].
    #[error("the batch has more than {MAX_BATCH_ELEMENTS} elements: split it")]
    TooManyElements,

    // The peer's fault.
    /// The elements' bytes are no multiple of [`ELEMENT_BYTES`].
    #[error("elements have {ELEMENT_BYTES} bytes each, but {trailing} bytes are left over")]
    TrailingBytes {
        /// How many bytes follow the last whole element.
        trailing: usize,
    },
    /// An element is not the canonical encoding of a group element.
    #[error("element {index} is not a canonical ristretto255 encoding")]
    MalformedElement {
        /// Its place in the batch, from 0.
        index: usize,
    },
    /// An element is the identity.
    #[error("element {index} is the identity element")]
    IdentityElement {
        /// Its place in the batch, from 0.
        index: usize,
    },
    /// The server evaluated fewer or more elements than it was sent.
    #[error("{expected} elements were sent for evaluation, {found} came back")]
    WrongElementCount {
        /// Elements in the request.
        expected: usize,
        /// Elements in the answer.
        found: usize,
    },
    /// The proof is not [`PROOF_BYTES`] long.
    #[error("a proof has {PROOF_BYTES} bytes, this one has {found}")]
    WrongProofLength {
        /// Bytes received.
        found: usize,
    },
    /// A scalar of the proof is not below the group order.
    #[error("the proof holds a scalar that is not canonical")]
    MalformedProof,
    /// The proof does not hold for these elements under this public key.
    #[error("the proof does not verify: the evaluation was not made with the expected key")]
    InvalidProof,
    /// The public key is not [`ELEMENT_BYTES`] long.
    #[error("a public key has {ELEMENT_BYTES} bytes, this one has {found}")]
    WrongPublicKeyLength {
        /// Bytes received.
        found: usize,
    },
    /// The public key is not the canonical encoding of a group element.
    #[error("the public key is not a canonical ristretto255 encoding")]
    MalformedPublicKey,
    /// The public key is the identity: every output would be the same.
    #[error("the public key is the identity element")]
    IdentityPublicKey,

    // Ours.
    /// The seed yields no key (RFC 9497, `DeriveKeyPairError`): happens once
    /// in 2^64000 seeds.
    #[error("this seed yields no key: make a new one")]
    NoKeyFromSeed,
}
