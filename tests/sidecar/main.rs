//! The sidecar beside real servers with loaded directories, asked as a backend
//! asks it.

#![cfg(feature = "cli")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, and knows its own sizes"
)]

mod bounds;
mod directories;
mod estate;
mod hold;
mod many;
mod resolve;
mod running;
#[path = "../common/wire.rs"]
mod wire;
