//! The commands, run as an operator and a user run them.
#![cfg(feature = "cli")]
#![allow(missing_docs, reason = "a test")]

mod bench;
mod estate;
mod load;
mod lookup;
mod privacy;
mod serve;
