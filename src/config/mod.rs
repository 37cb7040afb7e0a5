//! Configuration files, checked before anything is opened.

mod server;
mod sidecar;

pub use server::{Config, ConfigError, Tls};
pub use sidecar::{DirectoryConfig, Identity, SidecarConfig, SidecarConfigError};
