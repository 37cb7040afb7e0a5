//! Configuration files, checked before anything is opened.

mod server;
mod sidecar;

pub use server::{
    CodeChannel, Config, ConfigError, IdentityIssuerConfig, LimitsConfig, PartnersConfigError,
    QuotaConfigError, RegistryConfig, RegistryConfigError, Tls, TokenIssuerConfig, WebhookConfig,
};
pub use sidecar::{DirectoryConfig, Identity, SidecarConfig, SidecarConfigError};
