//! Logs, and what may never be in them.
//!
//! Blindbook itself logs no identifier, element, token or prefix at any level.
//! Its dependencies make no such promise: h2 logs header blocks and rustls
//! handshakes when asked for detail. So whatever level is set holds for
//! Blindbook's own events, and nobody else's go beyond warnings.

use std::{io, panic};

use tracing::{Level, Metadata};
use tracing_subscriber::{Layer as _, filter, fmt, layer::SubscriberExt as _, registry};

/// Why logs could not be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// The level is none of the five.
    #[error("the log level must be one of error, warn, info, debug, trace")]
    Level,
    /// Somebody set up logs before.
    #[error("logs are already set up in this process")]
    Twice,
}

/// Sends events up to `level` to standard error, and keeps panics from telling
/// what they were about.
///
/// # Errors
/// The level is unknown, or logs are set up already.
pub fn init(level: &str) -> Result<(), TelemetryError> {
    let level: Level = level.parse().map_err(|_| TelemetryError::Level)?;
    let filter = filter::filter_fn(move |event| is_allowed(event, level));
    let layer = fmt::layer().with_writer(io::stderr).with_target(true).with_filter(filter);
    tracing::subscriber::set_global_default(registry().with(layer))
        .map_err(|_| TelemetryError::Twice)?;
    panic::set_hook(Box::new(|panic| {
        // The message may quote a value; the place cannot.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "internal error: please report this place");
    }));
    Ok(())
}

fn is_allowed(event: &Metadata<'_>, level: Level) -> bool {
    let ours = event.target().split("::").next() == Some("blindbook");
    *event.level() <= if ours { level } else { level.min(Level::WARN) }
}
