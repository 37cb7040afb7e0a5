//! The section `[limits]`: how much a server takes on at once, and for how long.

use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use crate::server::ServerOptions;

/// Bounds of what a server works on. What each is for and how far it may go says
/// [`ServerOptions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Most connections at once.
    pub max_connections: usize,
    /// Most calls at once on one connection.
    pub max_streams: u32,
    /// Most calls at once.
    pub max_calls: usize,
    /// Most watches over changes at once.
    pub max_watches: usize,
    /// Threads that evaluate; 0 for one per core.
    pub evaluation_threads: usize,
    /// How many batches may wait for each of these threads; one of 512 elements
    /// counts as four.
    pub queued_per_thread: usize,
    /// Seconds that a call may take to be answered whose caller names no deadline,
    /// or a later one.
    pub max_call_time_s: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let options = ServerOptions::default();
        Self {
            // Room for clients that keep a connection; the library's default is for
            // whoever embeds a server.
            max_connections: 10_000,
            max_streams: options.max_streams,
            max_calls: options.max_calls,
            max_watches: options.max_watches,
            evaluation_threads: options.evaluation_threads,
            queued_per_thread: options.queued_per_thread,
            max_call_time_s: options.max_call_time.as_secs(),
        }
    }
}

impl LimitsConfig {
    /// The options with these bounds for theirs.
    #[must_use]
    pub fn over(self, options: ServerOptions) -> ServerOptions {
        ServerOptions {
            max_connections: self.max_connections,
            max_streams: self.max_streams,
            max_calls: self.max_calls,
            max_watches: self.max_watches,
            evaluation_threads: self.evaluation_threads,
            queued_per_thread: self.queued_per_thread,
            max_call_time: Duration::from_secs(self.max_call_time_s),
            ..options
        }
    }
}

/// As it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    max_connections: Option<usize>,
    max_streams: Option<u32>,
    max_calls: Option<usize>,
    max_watches: Option<usize>,
    evaluation_threads: Option<usize>,
    queued_per_thread: Option<usize>,
    max_call_time_s: Option<u64>,
}

impl Section {
    /// `outside` is the one of these settings that may stand before all sections.
    pub(super) fn check(self, outside: Option<usize>) -> Result<LimitsConfig, ConfigError> {
        if self.max_connections.is_some() && outside.is_some() {
            return Err(ConfigError::ConnectionsTwice);
        }
        let default = LimitsConfig::default();
        let limits = LimitsConfig {
            max_connections: self.max_connections.or(outside).unwrap_or(default.max_connections),
            max_streams: self.max_streams.unwrap_or(default.max_streams),
            max_calls: self.max_calls.unwrap_or(default.max_calls),
            max_watches: self.max_watches.unwrap_or(default.max_watches),
            evaluation_threads: self.evaluation_threads.unwrap_or(default.evaluation_threads),
            queued_per_thread: self.queued_per_thread.unwrap_or(default.queued_per_thread),
            max_call_time_s: self.max_call_time_s.unwrap_or(default.max_call_time_s),
        };
        // The bounds are the server's own, and so are the words.
        match limits.over(ServerOptions::default()).check() {
            Ok(()) => Ok(limits),
            Err(error) => Err(ConfigError::Limits(Box::new(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, server::ServerError};

    const LEAST: &str =
        "data = \"d\"\nkeys = \"k\"\nlisten = \"127.0.0.1:1\"\ninsecure_plaintext = true\n";

    fn parse(more: &str) -> Result<LimitsConfig, ConfigError> {
        Config::parse(&format!("{LEAST}{more}")).map(|config| config.limits)
    }

    #[test]
    fn each_bound_is_the_default_or_the_operators_and_reaches_the_server() {
        assert_eq!(parse("").unwrap(), LimitsConfig::default());
        assert_eq!(parse("[limits]").unwrap(), LimitsConfig::default());
        let all = "[limits]\nmax_connections = 1\nmax_streams = 2\nmax_calls = 3\n\
                   max_watches = 4\nevaluation_threads = 5\nqueued_per_thread = 6\n\
                   max_call_time_s = 7\n";
        let options = parse(all).unwrap().over(ServerOptions::default());
        assert_eq!(options.max_connections, 1);
        assert_eq!(options.max_streams, 2);
        assert_eq!(options.max_calls, 3);
        assert_eq!(options.max_watches, 4);
        assert_eq!(options.evaluation_threads, 5);
        assert_eq!(options.queued_per_thread, 6);
        assert_eq!(options.max_call_time, Duration::from_secs(7));
        let one = parse("[limits]\nmax_calls = 9\n").unwrap();
        assert_eq!(one, LimitsConfig { max_calls: 9, ..LimitsConfig::default() });
        assert_eq!(parse("max_connections = 8\n").unwrap().max_connections, 8);
        assert_eq!(parse("max_connections = 8\n[limits]").unwrap().max_connections, 8);
    }

    #[test]
    fn what_cannot_be_is_refused_in_the_servers_own_words() {
        for (name, value) in [
            ("max_connections", 0_u64),
            ("max_connections", (1 << 20) + 1),
            ("max_streams", 0),
            ("max_streams", 1001),
            ("max_calls", 0),
            ("max_watches", 0),
            ("evaluation_threads", 513),
            ("queued_per_thread", 0),
            ("queued_per_thread", (1 << 16) + 1),
            ("max_call_time_s", 0),
            ("max_call_time_s", 86_401),
        ] {
            let refused = parse(&format!("[limits]\n{name} = {value}\n"));
            let Err(ConfigError::Limits(error)) = refused else { panic!("{name} = {value}") };
            let ServerError::Option { name: of, .. } = *error else { panic!("{error}") };
            assert_eq!(of, name.trim_end_matches("_s"));
        }
        let refused = |more| parse(more).unwrap_err().to_string();
        assert!(refused("max_connections = 0\n").contains("max_connections"));
        assert!(refused("[limits]\nmax_call = 1\n").contains("max_call"));
        let twice = refused("max_connections = 1\n[limits]\nmax_connections = 1\n");
        assert!(twice.contains("twice"), "{twice}");
    }
}
