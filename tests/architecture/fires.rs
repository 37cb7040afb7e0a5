//! Offending sources, and the rule that each breaks; harmless ones that break
//! none. A check that cannot fail would hold nothing.

use crate::{
    read,
    rules::{self, HANDED_ON, LOOKUP, PLACED, ROOT, UNKNOWN, WALL},
    texts, told,
};

/// A source, and the one rule that it breaks.
const OFFENDING: &[(&str, &str, &str)] = &[
    // Walls, in all ways of naming a room.
    ("src/oprf/batch.rs", "use crate::bucket::Bucket;", WALL),
    ("src/bucket/mod.rs", "use crate::oprf::Output;", WALL),
    ("src/store/mod.rs", "use crate::{epoch::Epoch, oprf::PublicKey};", WALL),
    ("src/store/sled/page.rs", "use super::super::super::identifier::Sii;", WALL),
    ("src/client/mod.rs", "fn f() { crate::server::run(); }", WALL),
    ("src/client/a.rs", "use crate::epoch as e; use crate::store as s; fn f(x: &s::Row) {}", WALL),
    ("src/client/a.rs", "fn f() { assert_eq!(1, crate::keyring::count()); }", WALL),
    ("src/client/a.rs", "fn f() { m!(crate::{epoch::A, registry::B}); }", WALL),
    ("src/client/a.rs", "fn f(x: impl Into<crate::registry::Claim>) {}", WALL),
    ("src/client/a.rs", "pub struct A { row: Vec<Option<super::super::store::Row>> }", WALL),
    ("src/client/a.rs", "impl crate::store::Store for A {}", WALL),
    ("src/client/a.rs", "mod inner { use super::super::super::store::Row; }", WALL),
    ("src/client/a.rs", "fn f() { <X as crate::store::Store>::get(); }", WALL),
    ("src/client/a.rs", "fn f() { use crate::store; }", WALL),
    ("src/client/a.rs", "use blindbook::store::Row;", WALL),
    ("src/client/a.rs", "macro_rules! m { () => { $crate::store::open() } }", WALL),
    ("src/relay/mod.rs", "use crate::wire::Frame;", WALL),
    ("src/server/mod.rs", "use crate::client::Client;", WALL),
    ("src/epoch.rs", "use crate::secret::Secret;", WALL),
    // Walls hold for tests as well.
    ("src/client/a.rs", "#[cfg(test)] mod tests { use crate::server::Server; }", WALL),
    ("src/attic/mod.rs", "", UNKNOWN),
    ("src/wire/mod.rs", "use crate::Client;", UNKNOWN),
    ("src/wire/mod.rs", "use crate::*;", ROOT),
    ("src/wire/mod.rs", "use crate as house;", ROOT),
    ("src/wire/mod.rs", "#[path = \"../server/mod.rs\"] mod hidden;", PLACED),
    // The lookup path, by itself and by what it reaches.
    ("src/server/lookup.rs", "use crate::registry::Ledger;", LOOKUP),
    ("src/server/lookup/fetch.rs", "fn f(x: crate::identifier::Sii) {}", LOOKUP),
    ("src/server/claims.rs", "", LOOKUP),
    // Generated types.
    ("src/registry/mod.rs", "use crate::wire::proto::Bucket;", "generated types stop in wire"),
    ("src/commands/serve.rs", "use blindbook::wire::proto;", "generated types stop in wire"),
    ("src/registry/mod.rs", "use crate::wire::*;", "generated types stop in wire"),
    ("src/wire/mod.rs", "pub mod proto {} pub use proto::Bucket;", HANDED_ON),
    ("src/wire/mod.rs", "pub mod proto {} pub use self::proto::{Bucket as B};", HANDED_ON),
    // Outside crates.
    ("src/oprf/mod.rs", "use tokio::task;", "pure rooms have no runtime"),
    ("src/epoch.rs", "#[tokio::main] async fn f() {}", "pure rooms have no runtime"),
    ("src/bucket/a.rs", "extern crate tokio;", "pure rooms have no runtime"),
    (
        "src/bucket/a.rs",
        "use ::tokio as t; fn f() { t::spawn(g()); }",
        "pure rooms have no runtime",
    ),
    (
        "src/bucket/a.rs",
        "use std::time; fn f() { time::Instant::now(); }",
        "pure rooms see no world",
    ),
    ("src/bucket/a.rs", "use std::{fs::File};", "pure rooms see no world"),
    ("src/bucket/a.rs", "use std::time::*;", "pure rooms see no world"),
    ("src/identifier.rs", "fn f() { vec![std::env::var(\"A\")]; }", "pure rooms see no world"),
    (
        "src/identifier.rs",
        "#[cfg(any(test, unix))] use std::net::IpAddr;",
        "pure rooms see no world",
    ),
    ("src/identifier.rs", "#[cfg(not(test))] use std::net::IpAddr;", "pure rooms see no world"),
    ("src/secret.rs", "fn f() { rand::rng(); }", "pure rooms draw no randomness"),
    ("src/secret.rs", "use rand::{rng as r}; fn f() { r(); }", "pure rooms draw no randomness"),
    ("src/oprf/mod.rs", "fn f() { tracing::debug!(\"x\"); }", "pure rooms log nothing"),
    ("src/oprf/mod.rs", "#[tracing::instrument] fn f() {}", "pure rooms log nothing"),
    ("src/store/memory.rs", "use sled::Db;", "one file knows the engine"),
    ("src/store/mod.rs", "#[cfg(test)] mod tests { use sled::Db; }", "one file knows the engine"),
    ("src/wire/check.rs", "use tonic::{Request, Status};", "status at the edge"),
    ("src/wire/check.rs", "fn f() { tonic::Status::internal(\"\") }", "status at the edge"),
    ("src/wire/check.rs", "use tonic::*;", "status at the edge"),
    ("src/commands/serve.rs", "use tonic::Code;", "status at the edge"),
    ("src/registry/mod.rs", "use tonic::Request;", "gRPC in wire and roles"),
    ("src/store/mod.rs", "#[cfg(test)] use tonic::Request;", "gRPC in wire and roles"),
    ("src/client/mod.rs", "use prost::Message as _;", "messages are decoded in wire"),
    ("src/registry/mod.rs", "use curve25519_dalek::Scalar;", "curve arithmetic in oprf"),
    ("src/keyring.rs", "fn f() { voprf::derive_key(); }", "curve arithmetic in oprf"),
    ("src/access/tokens/mod.rs", "use blind_rsa_signatures::KeyPair;", "blind signatures in token"),
    ("src/token/pass.rs", "use crate::identifier::Sii;", WALL),
    ("src/registry/mod.rs", "use idna::domain_to_ascii;", "one canonical form"),
    (
        "src/registry/mod.rs",
        "use crate::oprf::ServerKey; fn f() { ServerKey::derive(s, i) }",
        "seeds in the keyring",
    ),
    ("src/registry/mod.rs", "fn f() -> anyhow::Result<()> { g() }", "anyhow in commands"),
    ("src/server/mod.rs", "use aws_lc_rs::signature;", "signatures of proofs in one room"),
    ("src/registry/proof/code.rs", "use ureq::Agent;", "one door outwards"),
    ("src/pir/matrix.rs", "use std::arch::x86_64::__m256i;", "instructions in the kernels"),
    ("src/store/sled/pages.rs", "use memmap2::Mmap;", "huge pages in one file"),
    ("src/registry/mod.rs", "fn f() { println!(\"x\"); }", "commands print"),
    ("src/registry/mod.rs", "fn f() { m! { std::eprintln!(\"x\") } }", "commands print"),
    ("src/registry/mod.rs", "use std::io; fn f() { io::stdout(); }", "commands print"),
    ("src/server/mod.rs", "#[derive(clap::Args)] struct A;", "the terminal is the commands'"),
];

/// Sources that break no rule.
const HARMLESS: &[(&str, &str)] = &[
    ("src/wire/mod.rs", "use crate::{bucket::Bucket, epoch::Epoch}; use super::oprf::PublicKey;"),
    ("src/oprf/batch.rs", "use super::{proof, PublicKey}; use std::time::Duration;"),
    ("src/oprf/mod.rs", "mod batch; pub use batch::Batch; pub(crate) use self::batch::run;"),
    (
        "src/oprf/mod.rs",
        "#[cfg(test)] mod tests { use super::*; use std::fs; #[tokio::test] async fn f() {} }",
    ),
    ("src/oprf/mod.rs", "#[cfg(all(test, unix))] mod tests { fn f() { rand::rng(); } }"),
    (
        "src/oprf/mod.rs",
        "/// Unlike tokio::time, crate::store::Store.\nfn f() { \"crate::store\"; }",
    ),
    ("src/oprf/mod.rs", "fn f(a: A) { match a { Status::Ok => fs::x(), _ => time::Instant } }"),
    ("src/bucket/a.rs", "use rand::{CryptoRng, Rng};"),
    ("src/store/sled.rs", "use sled::Db; use crate::bucket::Bucket; use tokio::fs;"),
    ("src/store/sled_pages.rs", "use sled::Tree;"),
    (
        "src/server/edge.rs",
        "use tonic::Status; use crate::{registry::Ledger, wire::proto::Bucket};",
    ),
    ("src/wire/mod.rs", "pub mod proto { tonic::include_proto!(\"a\"); } use proto::Bucket;"),
    (
        "src/commands/demo.rs",
        "use blindbook::{client::Client, server}; fn f() { println!(\"x\"); }",
    ),
    ("src/main.rs", "fn main() -> anyhow::Result<()> { commands::run() }"),
    ("src/lib.rs", "pub mod client; pub use client::Client; #[cfg(test)] use crate::*;"),
];

/// A lone server file breaks the rule that a lookup file must be there.
const LOOKUP_FILE: (&str, &str) = ("src/server/lookup.rs", "use crate::bucket::Bucket;");

#[test]
fn every_offending_source_breaks_its_rule_and_no_other() {
    for (name, text, rule) in OFFENDING {
        let mut sources = vec![(*name, *text)];
        if *rule != LOOKUP {
            sources.push(LOOKUP_FILE);
        }
        let violations = rules::judge(&read(sources));
        assert!(!violations.is_empty(), "{name}: {text}\nbreaks nothing, should: {rule}");
        for violation in &violations {
            // What a pure room may not do may also have its one place elsewhere.
            let also = rule.starts_with("pure") || *rule == "status at the edge";
            assert!(violation.rule == *rule || also, "{name}: {text}{}", told(&violations));
        }
        assert!(
            violations.iter().any(|violation| violation.rule == *rule),
            "{name}: {text}\nshould break: {rule}\nbut broke:{}",
            told(&violations)
        );
    }
}

#[test]
fn every_rule_has_a_source_that_breaks_it() {
    for rule in rules::names() {
        assert!(
            OFFENDING.iter().any(|(_, _, broken)| *broken == rule),
            "nothing shows that this rule can fail: {rule}"
        );
    }
    for (_, _, rule) in OFFENDING {
        assert!(rules::names().contains(rule), "no such rule: {rule}");
    }
}

#[test]
fn harmless_sources_break_nothing() {
    for (name, text) in HARMLESS {
        let violations = rules::judge(&read([(*name, *text), LOOKUP_FILE]));
        assert!(violations.is_empty(), "{name}: {text}{}", told(&violations));
    }
}

#[test]
fn the_lookup_path_includes_what_it_reaches_in_the_server() {
    let files = [
        ("src/server/lookup.rs", "use super::shelf::Shelf;"),
        ("src/server/shelf.rs", "use super::drawer::Drawer;"),
        ("src/server/drawer.rs", "use crate::registry::Ledger;"),
        ("src/server/claims.rs", "use crate::registry::Ledger;"),
    ];
    let violations = rules::judge(&read(files));
    assert_eq!(violations.len(), 1, "{}", told(&violations));
    assert_eq!(violations[0].rule, LOOKUP);
    assert!(violations[0].text.contains("src/server/drawer.rs:1"), "{}", told(&violations));
}

#[test]
fn a_module_for_tests_in_its_own_file_may_use_more() {
    let text = "use std::fs;";
    let apart = [("src/oprf/mod.rs", "#[cfg(test)] mod vectors;"), ("src/oprf/vectors.rs", text)];
    assert!(rules::judge(&read(apart)).is_empty());
    let built = [("src/oprf/mod.rs", "mod vectors;"), ("src/oprf/vectors.rs", text)];
    assert_eq!(rules::judge(&read(built)).len(), 1);
}

#[test]
fn a_violation_names_file_and_line() {
    let files = read([("src/oprf/mod.rs", "//! Room.\n\nuse crate::bucket::Bucket;\n")]);
    let violations = rules::judge(&files);
    assert!(violations[0].text.starts_with("src/oprf/mod.rs:3: crate::bucket::Bucket"));
}

#[test]
fn machine_paths_and_registry_hosts_are_found() {
    let paths =
        [concat!("see /wo", "rk/notes"), concat!("HOME=/ro", "ot/x"), concat!("\"/ho", "me/a\"")];
    for text in paths {
        assert_eq!(texts::machine_lines(text).len(), 1, "{text}");
    }
    assert_eq!(texts::machine_lines(concat!("ok\nhttps://registry.", "npmjs.org/x"))[0].0, 2);
    for text in ["src/work/a", "the frame/work/home", "docs/root/x", "$HOME/x", "framework"] {
        assert!(texts::machine_lines(text).is_empty(), "{text}");
    }
}
