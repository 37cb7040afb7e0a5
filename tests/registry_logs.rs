//! No log at any level holds an identifier, user, code, token, challenge or
//! circle of what partners ask, be it done or refused. A process has one set of
//! logs, so this file has one test.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "common/certificates.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod certificates;
#[path = "common/mod.rs"]
#[allow(dead_code, clippy::expect_used, reason = "shared with tests that use other parts of it")]
mod common;
#[path = "registry/scene.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod scene;
#[path = "registry/vectors.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod vectors;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use blindbook::{
    registry::Circle,
    secret::Secret,
    server::{Reload, TlsFiles, TlsPem},
    telemetry,
    wire::proto,
};

use tokio::{sync::Notify, time::timeout};

use crate::scene::{Partner, Scene, claim, in_circle, proof, sii};

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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// What no log may hold, and no status either.
#[derive(Default)]
struct Secrets(Vec<String>);

impl Secrets {
    fn add(&mut self, text: &str) {
        assert!(text.len() >= 8, "no accident in a log: {text}");
        self.0.push(text.to_owned());
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        let part = &bytes[..8];
        let list: Vec<_> = part.iter().map(ToString::to_string).collect();
        self.0.extend([hex(part), list.join(", "), part.escape_ascii().to_string()]);
    }

    #[track_caller]
    fn are_not_in(&self, what: &str, text: &str) {
        for secret in &self.0 {
            assert!(!text.contains(secret.as_str()), "{what} holds {secret}");
        }
    }
}

/// Starts with revocation lists that have ended, which is logged at once.
async fn start_with_ended_lists(scene: &Scene) {
    let pem = scene.pem(Some(scene.authority.revokes(&[], 2026)));
    let folder = tempfile::tempdir().unwrap();
    let (_, keeper) = tls_files(folder.path(), &pem).open(scene.clock()).unwrap();
    let asked = Notify::new();
    let keeping = keeper.keep(Duration::from_secs(3600), &asked);
    assert!(timeout(Duration::from_millis(10), keeping).await.is_err());
}

fn tls_files(folder: &Path, pem: &TlsPem) -> TlsFiles {
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    TlsFiles {
        cert: file("cert", &pem.cert),
        key: file("key", &pem.key),
        client_ca: pem.client_ca.as_ref().map(|ca| file("ca", ca)),
        client_crl: pem.client_crl.as_ref().map(|crl| file("crl", crl)),
    }
}

/// Reads files of TLS, and then a broken key, which is logged.
fn break_tls_files(scene: &Scene, secrets: &mut Secrets) {
    let pem = scene.pem(Some(scene.authority.revokes(&[], 2040)));
    let folder = tempfile::tempdir().unwrap();
    let files = tls_files(folder.path(), &pem);
    let (_, mut keeper) = files.open(scene.clock()).unwrap();
    let key = String::from_utf8(pem.key.to_vec()).unwrap();
    let inside = key.lines().nth(1).unwrap();
    secrets.add(inside);
    std::fs::write(folder.path().join("key"), key.replace(inside, &inside[1..])).unwrap();
    secrets.add(&inside[1..]);
    assert_eq!(keeper.look(), Reload::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_level_logs_what_partners_ask_nor_what_they_are_refused() {
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber =
        telemetry::subscriber(tracing::Level::TRACE, telemetry::Format::Json, move || {
            writer.clone()
        });
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let scene = Scene { regions: vec!["US".into()], ..Scene::new().await };
    let served = scene.serve().await;
    let mut wa = served.ap("wa.example").await;
    let mut us = served.certified("spiffe://numbers.example/us").await;
    let mut anonymous = Partner::new(served.channel(None).await.unwrap());
    let mut secrets = Secrets::default();
    for identity in ["spiffe://", "wa.example/ap", "numbers.example"] {
        secrets.add(identity);
    }
    let mut statuses = Vec::new();

    for canary in ["tel:+12015557391", "mailto:canary-person@mail.example"] {
        let who = sii(canary);
        secrets.add(canary.split_once(':').unwrap().1);
        // Asked, tried wrong, and right.
        let start = proto::StartVerificationRequest { sii: canary.into() };
        statuses.extend(anonymous.start_verification(start.clone()).await.err());
        wa.start_verification(start).await.unwrap();
        let code = scene.outbox.code();
        secrets.add(&code);
        let finish =
            |code: &str| proto::FinishVerificationRequest { sii: canary.into(), code: code.into() };
        secrets.add("13572468");
        statuses.extend(wa.finish_verification(finish("13572468")).await.err());
        let token = wa.finish_verification(finish(&code)).await.unwrap().into_inner().token;
        token.split('.').for_each(|part| secrets.add(part));
        let challenge = proto::StartChallengeRequest { sii: canary.into() };
        let challenge = wa.start_challenge(challenge).await.unwrap().into_inner();
        secrets.add(&challenge.challenge);

        // Claimed, refused and used up.
        secrets.add("canary-user");
        let secret = Secret::new(*blake3::hash(canary.as_bytes()).as_bytes());
        secrets.add_bytes(secret.expose());
        secrets.add_bytes(&Circle::new(secret.clone()).id().to_bytes());
        let open = claim(&who, "wa.example", "canary-user", proof(token));
        let hidden = in_circle(open.clone(), &secret);
        let altered = proto::ClaimRequest { ttl_s: 1, ..hidden.clone() };
        statuses.extend(wa.claim(altered).await.err());
        wa.claim(hidden.clone()).await.unwrap();
        statuses.extend(wa.claim(open.clone()).await.err());
        statuses.extend(us.claim(open).await.err());
        let unspelled = proto::ClaimRequest { sii: format!("{canary} "), ..hidden.clone() };
        statuses.extend(wa.claim(unspelled).await.err());
        let many = proto::ClaimManyRequest { claim: Some(hidden) };
        let mut answers = wa.claim_many(tokio_stream::iter([many])).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        secrets.are_not_in("an outcome", &format!("{answer:?}"));
        let identity = proto::proof::Proof::Identity(proto::IdentityProof {
            challenge: challenge.challenge,
            token: "canary-token.canary-token.canary-token".into(),
        });
        secrets.add("canary-token");
        let identity =
            claim(&who, "wa.example", "canary-user", proto::Proof { proof: Some(identity) });
        statuses.extend(wa.claim(identity).await.err());

        // Listed and released.
        let own = proto::list_request::List::Own(proto::OwnList::default());
        let listed = wa.list(proto::ListRequest { list: Some(own) }).await.unwrap();
        secrets.are_not_in("a response", &format!("{listed:?}"));
        let own = proto::OwnRelease { user: "canary-other".into() };
        secrets.add("canary-other");
        let release = proto::ReleaseRequest {
            sii: canary.into(),
            release: Some(proto::release_request::Release::Own(own)),
        };
        statuses.extend(wa.release(release).await.err());
        let all = proto::release_request::Release::Authority(proto::AuthorityRelease {});
        let release = proto::ReleaseRequest { sii: canary.into(), release: Some(all) };
        secrets.are_not_in("a request", &format!("{release:?}"));
        assert_eq!(us.release(release).await.unwrap().into_inner().released, 1);
    }
    // Outside of the regions.
    let outside = proto::StartChallengeRequest { sii: "tel:+442079460018".into() };
    secrets.add("442079460018");
    statuses.extend(wa.start_challenge(outside).await.err());
    served.stop().await;
    start_with_ended_lists(&scene).await;
    break_tls_files(&scene, &mut secrets);

    assert_eq!(statuses.len(), 17);
    for status in statuses {
        secrets.are_not_in("a status", &format!("{status:?} {}", status.message()));
    }
    let log = String::from_utf8_lossy(&sink.0.lock().unwrap()).into_owned();
    assert!(!log.is_empty(), "something must have been logged");
    assert!(log.contains("a list in client_crl has ended"), "it is told at the start");
    secrets.are_not_in("the log", &log);
}
