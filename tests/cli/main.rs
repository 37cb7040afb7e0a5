//! The commands, run as an operator and a user run them.
#![cfg(feature = "cli")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::unnecessary_debug_formatting,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod admin;
mod bench;
mod canary;
#[path = "../common/certificates.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod certificates;
mod estate;
mod load;
mod lookup;
mod partners;
mod pir;
mod privacy;
mod registry;
mod serve;
mod sidecar;
mod verify;
