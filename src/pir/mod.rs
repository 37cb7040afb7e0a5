//! Private information retrieval: one row of a matrix of bytes, without telling
//! the server which.

mod bits;
mod client;
#[cfg(feature = "server")]
mod data;
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "clients transform, and no more"))]
mod kernels;
#[cfg(feature = "server")]
mod matrix;
#[cfg(feature = "server")]
mod memory;
#[expect(clippy::inline_always, reason = "compiled anew with the instructions of each way")]
mod modulus;
mod ntt;
mod parameters;
#[cfg(feature = "server")]
mod prepare;
mod public;
#[cfg(test)]
mod tests;

pub use self::{
    client::{AnswerLength, Asked, NoSuchRow},
    kernels::Kernel,
    parameters::{
        BLOCK_ANSWER_BYTES, BODY_BITS, COINS, DIGIT_BITS, DIGITS, KEY_BITS, KEYS_BYTES, MASK_BITS,
        MAX_ROW_BYTES, MAX_ROWS, MIN_ROWS, Noise, PREPARER_BYTES, Q, RING, SAMPLE_BITS, Shape,
        ShapeError,
    },
    public::Public,
};
#[cfg(feature = "server")]
pub use self::{
    kernels::BATCH,
    matrix::{Block, Change, Filling, Follower, Matrix, Part, Query, QueryError},
    memory::OutOfMemory,
    prepare::{Hint, Preparer, Spare},
};
