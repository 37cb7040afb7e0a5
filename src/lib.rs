//! Blindbook: a phone book that cannot see who is looked up.
//!
//! A discovery provider maps identifiers that mean something everywhere (phone
//! numbers, mail addresses, user ids) to users of messaging services. A client
//! asks for one and learns its users; the provider learns neither the
//! identifier nor whether it was found. The protocol is that of two IETF MIMI
//! drafts, draft-party-mimi-user-private-discovery-03 and
//! draft-rosenberg-mimi-discovery-reqs-01; `docs/protocol.md` says every byte.
//!
//! # A lookup
//!
//! 1. The identifier is brought into its one canonical form ([`identifier`]),
//!    and a hash of that form says which bucket it lies in ([`bucket`]).
//! 2. The client blinds the identifier and has the provider evaluate it under
//!    the key of the current [`epoch`] ([`oprf`], RFC 9497 in verifiable mode),
//!    and at the same time fetches the bucket: 256 entries of 192 bytes, most
//!    of them somebody else's, the rest random.
//! 3. The unblinded output gives tags and keys. The client finds its entries by
//!    their tags, opens them, and verifies that each mapping was signed by the
//!    service that it names.
//!
//! # Who learns what
//!
//! | party | identifier | hit or miss | others' data |
//! |---|---|---|---|
//! | discovery provider | a few bits of its hash, shared by 70 to 140 entries | never | its own |
//! | client | its own | yes | ciphertext of fixed number and size |
//! | thief of the disk without the keys | nothing | - | nothing |
//! | thief of the logs | nothing | - | nothing |
//!
//! A hit and a miss make the same calls of the same sizes, and nothing in an
//! answer causes another request.
//!
//! # The rooms
//!
//! | floor | rooms |
//! |---|---|
#![cfg_attr(
    feature = "sidecar",
    doc = "| 5 | [`sidecar`]: the SDK behind a gRPC service, for this machine |"
)]
#![cfg_attr(feature = "client", doc = "| 4 | [`client`]: the SDK |")]
#![cfg_attr(feature = "server", doc = "| 4 | [`server`]: the discovery provider |")]
#![cfg_attr(feature = "server", doc = "| 3 | [`registry`]: who may be found |")]
#![cfg_attr(feature = "wire", doc = "| 2 | [`wire`]: messages and their checked forms |")]
#![cfg_attr(feature = "server", doc = "| 2 | [`store`]: buckets and rows, durable |")]
#![cfg_attr(feature = "server", doc = "| 2 | [`keyring`]: the only loader of keys |")]
#![cfg_attr(feature = "tls", doc = "| 2 | `tls`: TLS 1.3 and its one cryptographic library |")]
#![cfg_attr(
    any(feature = "server", feature = "sidecar"),
    doc = "| 2 | `lingering`: the end of a connection that loses nothing |"
)]
//! | 2 | [`clock`]: the time, as it is passed in |
//! | 1 | [`oprf`], [`bucket`]: pure, no clock, no files, no runtime |
#![cfg_attr(feature = "wire", doc = "| 1 | [`pir`]: private information retrieval, pure as well |")]
#![cfg_attr(feature = "wire", doc = "| 1 | [`token`]: anonymous tokens, pure as well |")]
//! | 0 | [`identifier`], [`epoch`], [`secret`] |
//!
//! A room imports only from lower floors, and siblings on the fourth never
//! import one another; `tests/architecture` holds the table.
//!
//! # Features
//!
//! `client` alone is the SDK, without store and server; `server` alone the
//! discovery provider; `sidecar` the SDK and its gRPC service; `cli`, the default,
//! the `blindbook` command with all of them.

pub mod bucket;
pub mod clock;
pub mod epoch;
pub mod identifier;
pub mod oprf;
#[cfg(feature = "wire")]
pub mod pir;
pub mod secret;

#[cfg(any(feature = "server", feature = "sidecar"))]
mod lingering;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "wire")]
pub mod token;
#[cfg(feature = "wire")]
pub mod wire;

#[cfg(feature = "server")]
pub mod keyring;
#[cfg(feature = "server")]
pub mod store;

#[cfg(feature = "server")]
pub mod access;
#[cfg(feature = "server")]
pub mod registry;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "sidecar")]
pub mod sidecar;

#[cfg(feature = "cli")]
pub mod config;
#[cfg(feature = "cli")]
pub mod telemetry;
