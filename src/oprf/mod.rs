//! The oblivious pseudorandom function: RFC 9497 in VOPRF mode (0x01) over
//! ristretto255 with SHA-512. The server learns neither inputs nor outputs,
//! the client gets outputs whose key it has checked against a public key.
//!
//! A batch travels as its 32-byte elements, one after the other, with one
//! 64-byte proof for all of them. Every byte equals what the RFC prescribes;
//! only the way there is shorter (see [`ServerKey`] and [`BlindedBatch`]).
//!
//! The room is pure: randomness comes in as an argument, and no input, blind,
//! element or output appears in an error or in `Debug`.
//!
//! ```
//! use blindbook::{oprf::{BlindedBatch, OprfError, ServerKey}, secret::Secret};
//!
//! let mut rng = rand::rng();
//! let server = ServerKey::derive(&Secret::random(&mut rng), b"example")?;
//!
//! let batch = BlindedBatch::blind(&["tel:+14155550100", "acct:alice@wa.example"], &mut rng)?;
//! let (evaluated, proof) = server.blind_evaluate_batch(batch.blinded_elements(), &mut rng)?;
//! let outputs = batch.finalize(&evaluated, &proof, &server.public_key())?;
//!
//! assert_eq!(outputs, server.evaluate_many(&["tel:+14155550100", "acct:alice@wa.example"])?);
//! # Ok::<(), OprfError>(())
//! ```

mod blinded_batch;
mod element;
mod error;
mod output;
mod proof;
mod scalar;
mod server_key;
mod suite;

pub use blinded_batch::BlindedBatch;
pub use element::PublicKey;
pub use error::OprfError;
pub use output::Output;
pub use server_key::ServerKey;

/// Length of a serialised group element, and so of a public key.
pub const ELEMENT_BYTES: usize = 32;

/// Length of a proof: two scalars, `c` and `s`.
pub const PROOF_BYTES: usize = 64;

/// Most elements in one proof: RFC 9497 section 2.2 numbers them in 16 bits
/// and counts no further than 2^16 - 1.
pub const MAX_BATCH_ELEMENTS: usize = 65_535;

/// Longest input: RFC 9497 section 3.3 prefixes it with its length in 16 bits.
pub const MAX_INPUT_BYTES: usize = 65_535;
