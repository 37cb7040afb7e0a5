//! What a server does when its peers break the rules: a clear status with
//! details, or the end of that one connection; and then it serves on.

#![cfg(all(feature = "client", feature = "server"))]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod connections;
mod peer;
mod refused;
mod requests;
#[path = "../common/wire.rs"]
mod wire;
