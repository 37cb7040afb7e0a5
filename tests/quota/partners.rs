//! The accounts of partners: no way around them, and none of what is refused is
//! paid for.

use std::sync::Arc;

use futures_like::all;
use tonic::Code;

use crate::{
    scene::{NOW_S, reason, refused},
    world::{Asker, batch, exhausted, scene},
};

mod futures_like {
    //! Many at once.

    /// Runs all of them at once, and gives what they give.
    pub(super) async fn all<T: Send + 'static>(
        tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
    ) -> Vec<T> {
        let spawned: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
        let mut outcomes = Vec::new();
        for task in spawned {
            outcomes.push(task.await.unwrap());
        }
        outcomes
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_reconnecting_nor_many_connections_give_more() {
    let scene = scene().await;
    let served = scene.serve().await;
    // Two batches of 512 fit, however they come.
    let mut askers = Vec::new();
    for _ in 0..8 {
        askers.push(Asker::ap(&served, "wa.example").await);
    }
    let outcomes =
        all(askers.into_iter().map(|mut asker| async move { asker.elements(512).await.map(drop) }))
            .await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);
    for outcome in outcomes.into_iter().filter(Result::is_err) {
        let (subject, retry_after_s, _) = exhausted(outcome);
        assert_eq!((subject.as_str(), retry_after_s), ("elements", 512));
    }
    for _ in 0..3 {
        exhausted(Asker::ap(&served, "wa.example").await.elements(2).await);
    }
    // Another partner has its own, and time brings it back.
    Asker::ap(&served, "signal.example").await.elements(512).await.unwrap();
    scene.set_time(NOW_S + 512);
    Asker::ap(&served, "wa.example").await.elements(512).await.unwrap();
    exhausted(Asker::ap(&served, "wa.example").await.elements(2).await);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_restart_nor_a_kill_gives_more() {
    let scene = scene().await;
    let served = scene.serve().await;
    Asker::ap(&served, "wa.example").await.elements(512).await.unwrap();
    served.stop().await;
    // A stop in order keeps all that is left.
    let served = scene.serve().await;
    let mut asker = Asker::ap(&served, "wa.example").await;
    assert_eq!(asker.limits().await.elements.unwrap().available, Some(512));
    asker.elements(128).await.unwrap();
    served.kill().await;
    // A kill loses at most a sixteenth of the burst, and never grants anything.
    let served = scene.serve().await;
    let mut asker = Asker::ap(&served, "wa.example").await;
    let left = asker.limits().await.elements.unwrap().available.unwrap();
    assert!((384 - 64..=384).contains(&left), "{left}");
    let mut granted = 0;
    while asker.elements(8).await.is_ok() {
        granted += 8;
    }
    assert!(granted <= left);
    served.kill().await;
    let served = scene.serve().await;
    exhausted(Asker::ap(&served, "wa.example").await.elements(8).await);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_costs_nothing_and_all_refusals_are_alike() {
    let scene = scene().await;
    let served = scene.serve().await;
    let mut asker = Asker::ap(&served, "wa.example").await;
    let available = async |asker: &mut Asker| asker.limits().await.elements.unwrap().available;
    // Not elements, not of an epoch that is there.
    let mut malformed = batch(512);
    malformed.blinded_elements = vec![0xff; 512 * 32].into();
    assert_eq!(reason(asker.evaluate(&malformed).await), "MALFORMED_ELEMENT");
    let mut other = batch(512);
    other.epoch = 9;
    assert_eq!(reason(asker.evaluate(&other).await), "EPOCH_NOT_ACTIVE");
    assert_eq!(available(&mut asker).await, Some(1024));
    asker.elements(512).await.unwrap();
    asker.elements(32).await.unwrap();
    assert_eq!(available(&mut asker).await, Some(480));
    let (_, _, one) = exhausted(asker.elements(512).await);
    let (_, _, another) = exhausted(asker.evaluate(&batch(512)).await);
    assert_eq!(one, another);
    assert_eq!(available(&mut asker).await, Some(480));
    asker.elements(128).await.unwrap();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_buckets_have_a_limit_of_their_own() {
    let scene = scene().await;
    let served = scene.serve().await;
    let mut asker = Asker::ap(&served, "wa.example").await;
    assert_eq!(asker.buckets(4).await.unwrap(), 4);
    assert_eq!(asker.buckets(4).await.unwrap(), 4);
    let (subject, _, _) = exhausted(asker.buckets(4).await);
    assert_eq!(subject, "bucket_bytes");
    assert_eq!(asker.buckets(1).await.unwrap(), 1);
    // Elements are untouched, and so are others' bytes.
    asker.elements(512).await.unwrap();
    assert_eq!(Asker::ap(&served, "signal.example").await.buckets(4).await.unwrap(), 4);
    // Callers that are no partners share one limit.
    assert_eq!(Asker::anonymous(&served).await.buckets(4).await.unwrap(), 4);
    assert_eq!(Asker::anonymous(&served).await.buckets(4).await.unwrap(), 4);
    exhausted(Asker::anonymous(&served).await.buckets(4).await);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_their_own_limits() {
    let scene = scene().await;
    let served = scene.serve().await;
    let mut asker = Asker::ap(&served, "wa.example").await;
    asker.elements(128).await.unwrap();
    let limits = asker.limits().await;
    let elements = limits.elements.unwrap();
    assert_eq!((elements.per_day, elements.burst), (86_400, 1024));
    assert_eq!((elements.available, elements.full_in_s), (Some(896), Some(128)));
    assert_eq!(limits.tokens.unwrap().available, Some(300));
    assert!(!limits.tokens_required && limits.elements_per_token == 2);
    let authority = Asker::partner(&served, "spiffe://numbers.example/us").await.limits().await;
    assert!(authority.tokens.is_none() && authority.elements.is_some());
    for uri in [None, Some("spiffe://nobody.example/ap")] {
        let mut asker = match uri {
            None => Asker::anonymous(&served).await,
            Some(uri) => Asker::partner(&served, uri).await,
        };
        let limits = asker.limits().await;
        assert!(limits.tokens_required && limits.elements.is_none() && limits.tokens.is_none());
        // What others fetch is not told.
        assert_eq!(limits.bucket_bytes.unwrap().available, None);
        let outcome = asker.elements(2).await;
        assert_eq!(refused(outcome), (Code::Unauthenticated, "TOKENS_REQUIRED".into()));
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_server_asks_nobody_for_tokens() {
    let scene = Arc::new(crate::scene::Scene::new().await);
    let served = scene.serve().await;
    let mut asker = Asker::anonymous(&served).await;
    asker.elements(512).await.unwrap();
    let limits = asker.limits().await;
    assert!(!limits.tokens_required && limits.bucket_bytes.is_none());
    served.stop().await;
}
