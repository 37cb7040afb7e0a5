//! What an operator may choose, and the bounds that hold when nothing is
//! chosen. Checked as a whole before a server exists.

use std::{fmt, time::Duration};

use super::{PirOptions, ServerError, Tls, quota::QuotaOptions};

/// Most connections a server can be told to hold.
const MAX_CONNECTIONS: usize = 1 << 20;

/// Most calls that a server can be told to work on at once.
const MAX_CALLS: usize = 1 << 20;

/// How a server serves. Every field has a default that is fit for a directory
/// on the open Internet.
#[derive(Clone)]
pub struct ServerOptions {
    /// Made by [`super::TlsFiles::open`] or [`super::tls_config`]; `None` serves
    /// plaintext, and partners nothing.
    pub tls: Option<Tls>,
    /// How long clients answer from their cache, hits and misses alike.
    pub refresh_period_s: u32,
    /// How long signed parameters are valid. They are signed anew when half of
    /// it has passed.
    pub parameters_lifetime_s: u64,
    /// CLDR region codes that the directory serves; empty for all.
    pub regions: Vec<String>,
    /// Most connections at once; one more is closed as soon as it is accepted.
    pub max_connections: usize,
    /// Most calls at once on one connection.
    pub max_streams: u32,
    /// Most calls at once; one more is refused with a time to come back. Bounds
    /// the memory that answers take while peers read them: about 160 KiB each.
    pub max_calls: usize,
    /// Most watches over changes at once: each client that follows a directory has
    /// one.
    pub max_watches: usize,
    /// Threads that evaluate; 0 for one per core.
    pub evaluation_threads: usize,
    /// How many batches may wait for each of these threads; one more is refused
    /// with a time to come back. One of 512 elements counts as four.
    pub queued_per_thread: usize,
    /// How long a call may take to be answered whose caller names no deadline, or a
    /// later one. Calls that last until their caller ends them are not bounded.
    pub max_call_time: Duration,
    /// From the accepted connection to the end of the TLS handshake and the
    /// HTTP/2 preface.
    pub handshake_timeout: Duration,
    /// How long a peer may take to send a request, or to read a piece of an
    /// answer of at most one bucket, before its connection is closed.
    pub stall_timeout: Duration,
    /// How long a connection may be without a call.
    pub idle_timeout: Duration,
    /// How often a silent peer is pinged.
    pub keepalive_interval: Duration,
    /// How long it may take to answer that.
    pub keepalive_timeout: Duration,
    /// How long calls under way may take to end when the server stops.
    pub drain_timeout: Duration,
    /// Bytes of assembled buckets that are kept in memory.
    pub cache_bytes: u64,
    /// How much may be asked, and by whom.
    pub quotas: QuotaOptions,
    /// Private information retrieval; `None` offers none.
    pub pir: Option<PirOptions>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            tls: None,
            refresh_period_s: 86_400,
            parameters_lifetime_s: 7 * 86_400,
            regions: Vec::new(),
            max_connections: 1024,
            max_streams: 100,
            max_calls: 1024,
            max_watches: 4096,
            evaluation_threads: 0,
            queued_per_thread: 64,
            max_call_time: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(300),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(30),
            cache_bytes: 256 << 20,
            quotas: QuotaOptions::default(),
            pir: None,
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl ServerOptions {
    /// Checks every option.
    ///
    /// # Errors
    /// [`ServerError::Option`] names the first that cannot be.
    pub fn check(&self) -> Result<(), ServerError> {
        let require = |holds, name, rule| {
            if holds { Ok(()) } else { Err(ServerError::Option { name, rule }) }
        };
        require(self.refresh_period_s > 0, "refresh_period_s", "must be at least 1")?;
        require(
            (60..=366 * 86_400).contains(&self.parameters_lifetime_s),
            "parameters_lifetime_s",
            "must be from 60 to 31622400, a minute to a year",
        )?;
        let is_region =
            |code: &String| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        require(
            self.regions.len() <= 512 && self.regions.iter().all(is_region),
            "regions",
            "must be CLDR region codes of two capital letters, such as DE",
        )?;
        for (name, count, most) in [
            ("max_connections", self.max_connections, MAX_CONNECTIONS),
            ("max_streams", self.max_streams as usize, 1000),
            ("max_calls", self.max_calls, MAX_CALLS),
            ("max_watches", self.max_watches, MAX_CALLS),
            ("queued_per_thread", self.queued_per_thread, 1 << 16),
        ] {
            require(
                (1..=most).contains(&count),
                name,
                "must be at least 1, and not absurdly many",
            )?;
        }
        require(self.evaluation_threads <= 512, "evaluation_threads", "must be at most 512")?;
        for (name, time) in [
            ("max_call_time", self.max_call_time),
            ("handshake_timeout", self.handshake_timeout),
            ("stall_timeout", self.stall_timeout),
            ("idle_timeout", self.idle_timeout),
            ("keepalive_interval", self.keepalive_interval),
            ("keepalive_timeout", self.keepalive_timeout),
            ("drain_timeout", self.drain_timeout),
        ] {
            let bounds = Duration::from_millis(10)..=Duration::from_secs(86_400);
            require(bounds.contains(&time), name, "must be from 10 milliseconds to a day")?;
        }
        if let Some(pir) = &self.pir {
            pir.check()?;
        }
        self.quotas.check()
    }

    /// Threads that evaluate.
    pub(super) fn threads(&self) -> usize {
        match self.evaluation_threads {
            0 => cores(),
            chosen => chosen,
        }
    }
}

/// Cores that there are for us.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_and_each_bad_option_is_named() {
        ServerOptions::default().check().unwrap();
        let named = |alter: fn(&mut ServerOptions)| {
            let mut options = ServerOptions::default();
            alter(&mut options);
            match options.check() {
                Err(ServerError::Option { name, .. }) => name,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(named(|o| o.refresh_period_s = 0), "refresh_period_s");
        assert_eq!(named(|o| o.parameters_lifetime_s = 59), "parameters_lifetime_s");
        assert_eq!(named(|o| o.regions = vec!["de".into()]), "regions");
        assert_eq!(named(|o| o.max_connections = 0), "max_connections");
        assert_eq!(named(|o| o.max_streams = 0), "max_streams");
        assert_eq!(named(|o| o.max_calls = usize::MAX), "max_calls");
        assert_eq!(named(|o| o.stall_timeout = Duration::ZERO), "stall_timeout");
        assert_eq!(named(|o| o.idle_timeout = Duration::MAX), "idle_timeout");
    }
}
