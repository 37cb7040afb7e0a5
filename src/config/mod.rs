//! Configuration files, checked before anything is opened.

mod server;

pub use server::{Config, ConfigError, Tls};
