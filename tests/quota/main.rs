//! Quotas against those who would ask more than they may: partners by their
//! accounts, users by anonymous tokens, over the network and across restarts.

#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../common/certificates.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod certificates;
mod client;
#[path = "../common/mod.rs"]
#[allow(dead_code, clippy::expect_used, reason = "shared with tests that use other parts of it")]
mod common;
mod lost;
mod partners;
mod retrieval;
#[path = "../registry/scene.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod scene;
mod tokens;
#[path = "../registry/vectors.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod vectors;
mod world;
