//! Blindbook: a phone book that cannot see who is looked up.

pub mod bucket;
pub mod epoch;
pub mod identifier;
pub mod oprf;
pub mod secret;

#[cfg(feature = "wire")]
pub mod wire;

#[cfg(feature = "server")]
pub mod keyring;
#[cfg(feature = "server")]
pub mod store;

#[cfg(feature = "server")]
pub mod registry;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod server;
