//! Proofs of control: tables of attacks as vectors of an independent
//! implementation (`tests/vectors/proof`), and the flows of codes and challenges.
#![cfg(feature = "server")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod challenges;
mod codes;
mod support;
mod vectors;
