//! The registry over the network: partners with client certificates change a
//! directory while it is looked up, and nobody else does.

#![cfg(feature = "cli")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod attacks;
mod bulk;
#[path = "../common/certificates.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod certificates;
mod certified;
#[path = "../common/mod.rs"]
#[allow(dead_code, clippy::expect_used, reason = "shared with tests that use other parts of it")]
mod common;
mod directory;
mod lapsing;
mod lists;
mod living;
mod matrix;
mod peers;
mod reload;
mod roles;
mod scene;
mod vectors;
mod watching;
