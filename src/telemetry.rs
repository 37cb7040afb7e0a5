//! Logs, and what may never be in them.
//!
//! Blindbook itself logs no identifier, element, token or prefix at any level.
//! Its dependencies make no such promise: h2 logs header blocks and rustls
//! handshakes when asked for detail. So whatever level is set holds for
//! Blindbook's own events, and nobody else's go beyond warnings.

use std::{io, panic};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    Layer as _, filter,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    registry,
};

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

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object on one line: `timestamp`, `level`, `target`, `message`, and
    /// what the event tells beside it.
    Json,
}

/// Sends events up to `level` to standard error, and keeps panics from telling
/// what they were about.
///
/// # Errors
/// The level is unknown, or logs are set up already.
pub fn init(level: &str, format: Format) -> Result<(), TelemetryError> {
    let level: Level = level.parse().map_err(|_| TelemetryError::Level)?;
    tracing::subscriber::set_global_default(subscriber(level, format, io::stderr))
        .map_err(|_| TelemetryError::Twice)?;
    panic::set_hook(Box::new(|panic| {
        // The message may quote a value; the place cannot.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "internal error: please report this place");
    }));
    Ok(())
}

/// What [`init`] sets up, writing elsewhere.
pub fn subscriber<W>(level: Level, format: Format, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter::filter_fn(move |event| is_allowed(event, level));
    let layer = fmt::layer().with_writer(writer).with_ansi(false);
    let layer = match format {
        Format::Text => layer.boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    };
    registry().with(layer.with_filter(filter))
}

fn is_allowed(event: &Metadata<'_>, level: Level) -> bool {
    let ours = event.target().split("::").next() == Some("blindbook");
    *event.level() <= if ours { level } else { level.min(Level::WARN) }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_our_own_events_go_beyond_warnings() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(Level::TRACE, Format::Text, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "blindbook::server", "ours in detail");
            tracing::warn!(target: "h2::proto", "a warning of another");
            tracing::info!(target: "h2::proto", "a header of another");
            tracing::trace!(target: "blindbookish", "a pretender");
        });
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(written.contains("ours in detail") && written.contains("a warning of another"));
        assert!(!written.contains("a header of another") && !written.contains("a pretender"));
    }

    #[test]
    fn a_json_event_is_one_object_on_one_line() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(Level::INFO, Format::Json, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "blindbook::server", count = 3, "two\nlines");
            tracing::info!(target: "h2::proto", "a header of another");
        });
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let event: serde_json::Value = serde_json::from_str(written.trim_end()).unwrap();
        assert_eq!(written.lines().count(), 1);
        assert_eq!((&event["level"], &event["count"]), (&"INFO".into(), &3.into()));
        assert_eq!(event["message"], "two\nlines");
    }

    #[test]
    fn an_unknown_level_is_refused() {
        assert_eq!(init("loud", Format::Text), Err(TelemetryError::Level));
    }
}
