//! The bulk load, judged by what a client then finds.

#![cfg(feature = "server")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and knows its own sizes"
)]

mod directory;
mod faults;
mod inputs;
mod killed;
mod limits;
mod merging;
mod resplit;
