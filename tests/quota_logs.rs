//! No log at any level holds a token, a blinded message, or the name of a partner
//! that pays, be it answered or refused. A process has one set of logs, so this
//! file has one test.
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
#[path = "quota/world.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod world;

use std::{
    fmt::Write as _,
    io,
    sync::{Arc, Mutex},
};

use blindbook::{telemetry, token::Day};

use crate::{
    scene::NOW_S,
    world::{Asker, batch, blind, finalize, paid},
};

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

fn forms(bytes: &[u8]) -> [String; 3] {
    let part = &bytes[..8];
    let hex = part.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let list = part.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    [hex, list, part.escape_ascii().to_string()]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_level_logs_tokens_or_who_pays() {
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber =
        telemetry::subscriber(tracing::Level::TRACE, telemetry::Format::Json, move || {
            writer.clone()
        });
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let scene = world::scene().await;
    let served = scene.serve().await;
    let (mut ap, mut user) =
        (Asker::ap(&served, "wa.example").await, Asker::anonymous(&served).await);
    let today = Day::at(NOW_S);
    let key = ap.keys(&scene).await.key(today).unwrap().clone();
    let blinded = blind(&scene, today, &key, 9);
    let signatures = ap.issue(today, &blinded).await.unwrap();
    let tokens = finalize(&blinded, &signatures, &key);

    let mut canaries = vec![String::from("wa.example")];
    for (blinded, token) in blinded.iter().zip(&tokens) {
        let bytes = token.expose();
        for part in [blinded.message(), &bytes[2..34], &bytes[98..]] {
            canaries.extend(forms(part));
        }
    }
    canaries.extend(forms(&signatures));
    let mut said = Vec::new();
    let request = paid(batch(8), &tokens[..4]);
    user.evaluate(&request).await.unwrap();
    user.evaluate(&request).await.unwrap();
    said.extend(user.evaluate(&paid(batch(8), &tokens[..4])).await.err());
    said.extend(user.evaluate(&batch(8)).await.err());
    let mut forged = paid(batch(8), &tokens[4..8]);
    let mut bytes = forged.tokens.to_vec();
    bytes[353] ^= 1;
    forged.tokens = bytes.into();
    said.extend(user.evaluate(&forged).await.err());
    ap.elements(512).await.unwrap();
    ap.elements(512).await.unwrap();
    said.extend(ap.elements(512).await.err());
    said.extend(ap.buckets(16).await.err());
    said.extend(user.buckets(16).await.err());
    said.extend(user.issue(today, &blinded).await.err());
    said.extend(ap.issue(today.next(), &blinded).await.err());
    assert_eq!(said.len(), 8);
    // Neither do messages and errors, however they are printed.
    let mut printed = format!("{request:?} {tokens:?} {blinded:?} {key:?} {:?}", scene.quotas);
    for status in &said {
        write!(printed, "{status} {status:?}").unwrap();
    }
    served.stop().await;

    let logs = String::from_utf8_lossy(&sink.0.lock().unwrap()).into_owned();
    assert!(!logs.is_empty(), "nothing was logged: the test sees nothing");
    for canary in canaries {
        assert!(!logs.contains(&canary), "the logs hold {canary}");
        assert!(!printed.contains(&canary), "what is printed holds {canary}");
    }
}
