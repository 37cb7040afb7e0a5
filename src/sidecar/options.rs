//! What an operator may choose. Checked as a whole before a sidecar exists.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use super::{Route, SidecarError, routes::unreached};
use crate::{
    client::{ClientOptions, State},
    identifier::Region,
};

/// Most connections that a sidecar can be told to hold.
const MAX_CONNECTIONS: usize = 1 << 16;

/// Most calls that a sidecar can be told to work on at once.
const MAX_CALLS: usize = 1 << 16;

/// Most batches that it can be told to work on at once: each has up to 4096
/// identifiers.
const MAX_BATCHES: usize = 1 << 10;

/// Most bytes of a directory's name.
const MAX_NAME_BYTES: usize = 64;

/// One directory that the sidecar asks.
#[derive(Clone)]
pub struct DirectoryOptions {
    /// What callers and logs call it.
    pub name: String,
    /// How it is reached, and what is accepted of it.
    pub client: ClientOptions,
    /// What its client remembers.
    pub state: Arc<dyn State>,
    /// The identifiers that it is asked for when a caller names no directory;
    /// none: only those who name it reach it.
    pub serves: Vec<Route>,
}

/// How a sidecar serves.
#[derive(Debug, Clone)]
pub struct SidecarOptions {
    /// In the order in which their routes are tried.
    pub directories: Vec<DirectoryOptions>,
    /// Where a phone number without `+` is dialled.
    pub region: Option<Region>,
    /// Most connections at once; one more is closed as soon as it is accepted.
    pub max_connections: usize,
    /// Most calls at once on one connection.
    pub max_streams: u32,
    /// Most single calls at once; one more is refused with a time to come back.
    pub max_calls: usize,
    /// The same for calls of many identifiers.
    pub max_batches: usize,
    /// How long a call may take whose caller names no deadline, or a longer one.
    pub call_timeout: Duration,
    /// How long calls under way may take to end when the sidecar stops.
    pub drain_timeout: Duration,
}

impl SidecarOptions {
    /// The defaults for these directories.
    #[must_use]
    pub const fn new(directories: Vec<DirectoryOptions>) -> Self {
        Self {
            directories,
            region: None,
            max_connections: 256,
            max_streams: 1024,
            max_calls: 4096,
            max_batches: 8,
            call_timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(30),
        }
    }

    pub(super) fn check(&self) -> Result<(), SidecarError> {
        let require = |holds, name, rule| {
            if holds { Ok(()) } else { Err(SidecarError::Option { name, rule }) }
        };
        require(!self.directories.is_empty(), "directory", "must be given at least once")?;
        let names: HashSet<_> = self.directories.iter().map(|directory| &directory.name).collect();
        require(
            names.iter().all(|name| is_name(name)),
            "directory.name",
            "must be of 1 to 64 letters, digits, dots, hyphens and underscores",
        )?;
        require(
            names.len() == self.directories.len(),
            "directory.name",
            "must be given to one directory only",
        )?;
        if let Some(route) = unreached(self.directories.iter().flat_map(|one| &one.serves)) {
            return Err(SidecarError::Unreached(route.clone()));
        }
        for (name, count, most) in [
            ("max_connections", self.max_connections, MAX_CONNECTIONS),
            ("max_streams", self.max_streams as usize, MAX_CALLS),
            ("max_calls", self.max_calls, MAX_CALLS),
            ("max_batches", self.max_batches, MAX_BATCHES),
        ] {
            require(
                (1..=most).contains(&count),
                name,
                "must be at least 1, and not absurdly many",
            )?;
        }
        require(!self.call_timeout.is_zero(), "call_timeout", "must be longer than nothing")
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

impl fmt::Debug for DirectoryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::client::MemoryState;

    fn directory(name: &str, serves: Vec<Route>) -> DirectoryOptions {
        let identity = SigningKey::from_bytes(&[1; 32]).verifying_key();
        let client = ClientOptions::new("http://127.0.0.1:1", identity);
        DirectoryOptions { name: name.into(), client, state: Arc::new(MemoryState::new()), serves }
    }

    fn refused(options: &SidecarOptions) -> String {
        options.check().unwrap_err().to_string()
    }

    #[test]
    fn names_are_distinct_and_fit_for_a_log() {
        let named = |names: &[&str]| {
            SidecarOptions::new(names.iter().map(|name| directory(name, Vec::new())).collect())
        };
        assert!(named(&["wa", "other.example_2-b"]).check().is_ok());
        for bad in [&[][..], &[""], &["a b"], &["a\n"], &["wa", "wa"], &[&*"n".repeat(65)]] {
            assert!(refused(&named(bad)).starts_with("directory"), "{bad:?}");
        }
    }

    #[test]
    fn a_directory_that_no_identifier_would_reach_is_refused() {
        let options = |second| {
            SidecarOptions::new(vec![directory("a", Route::all()), directory("b", second)])
        };
        assert!(options(Vec::new()).check().is_ok());
        assert!(refused(&options(Route::all())).contains("tel:"));
    }

    #[test]
    fn bounds_are_refused_by_name() {
        let good = SidecarOptions::new(vec![directory("a", Route::all())]);
        assert!(good.check().is_ok());
        let zero = Duration::ZERO;
        for (bad, name) in [
            (SidecarOptions { max_connections: 0, ..good.clone() }, "max_connections"),
            (SidecarOptions { max_streams: 0, ..good.clone() }, "max_streams"),
            (SidecarOptions { max_calls: 1 << 17, ..good.clone() }, "max_calls"),
            (SidecarOptions { max_batches: 0, ..good.clone() }, "max_batches"),
            (SidecarOptions { call_timeout: zero, ..good.clone() }, "call_timeout"),
        ] {
            assert!(refused(&bad).starts_with(name));
        }
    }
}
