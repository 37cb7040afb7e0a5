//! Queries for rows: partners pay from an account of their own, everybody else one
//! token for each.

use std::{sync::Arc, time::Duration};

use blindbook::{
    client::MemoryState,
    pir::{Asked, Public},
    server::PirOptions,
    token::Pass,
    wire::{
        pir_seed, pir_shape,
        proto::{QueryPirRequest, QueryPirResponse},
    },
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::{
    client::{Backend, client, roomy},
    scene::{BITS, Scene, Served, reason, refused, sii},
    world::{Asker, batch, exhausted, paid},
};

const ROW: usize = 3;

struct Queries {
    public: Public,
}

impl Queries {
    fn of(scene: &Scene) -> Self {
        let seed = pir_seed(scene.directory.keyring.directory());
        Self { public: Public::expand(&seed, pir_shape(scene.directory.bits)) }
    }

    fn query(&self, passes: &[Pass]) -> QueryPirRequest {
        let asked = Asked::new(&self.public, ROW, &mut rand::rng()).unwrap();
        let tokens: Vec<&[u8]> = passes.iter().map(|pass| pass.expose().as_slice()).collect();
        QueryPirRequest {
            epoch: 1,
            directory_prefix_bits: BITS,
            partition: Some(0),
            query: asked.query().to_vec().into(),
            tokens: tokens.concat().into(),
        }
    }
}

async fn ask(asker: &mut Asker, query: &QueryPirRequest) -> Result<QueryPirResponse, Status> {
    Ok(asker.discovery.query_pir(query.clone()).await?.into_inner())
}

async fn ready(served: &Served<'_>, queries: &Queries, pass: &Pass) {
    let mut asker = Asker::anonymous(served).await;
    // The same bytes each time: the token is spent once.
    let query = queries.query(std::slice::from_ref(pass));
    let waiting = async {
        while let Err(status) = ask(&mut asker, &query).await {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(240), waiting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_paid_by_account_or_by_token_and_what_is_refused_costs_nothing() {
    let mut scene = roomy().await;
    scene.pir = Some(PirOptions::default());
    let served = scene.serve().await;
    let queries = Queries::of(&scene);
    let mut ap = Asker::ap(&served, "wa.example").await;
    let tokens = ap.tokens(&scene, 8).await;
    ready(&served, &queries, &tokens[0]).await;

    // A partner's account: three at once, and what is no query costs none.
    let left = async |ap: &mut Asker| ap.limits().await.pir_queries.unwrap().available.unwrap();
    assert_eq!(left(&mut ap).await, 3);
    let mut malformed = queries.query(&[]);
    let mut bytes = malformed.query.to_vec();
    bytes.iter_mut().rev().take(1000).for_each(|byte| *byte = 0xff);
    malformed.query = bytes.into();
    assert_eq!(reason(ask(&mut ap, &malformed).await), "MALFORMED_QUERY");
    assert_eq!(left(&mut ap).await, 3);
    for expected in [2, 1, 0] {
        ask(&mut ap, &queries.query(&[])).await.unwrap();
        assert_eq!(left(&mut ap).await, expected);
    }
    let (subject, seconds, _) = exhausted(ask(&mut ap, &queries.query(&[])).await);
    assert_eq!((subject.as_str(), seconds), ("pir_queries", 1));
    // Evaluations have their own.
    ap.elements(2).await.unwrap();

    // Everybody else: one token for each.
    let mut user = Asker::anonymous(&served).await;
    let required = ask(&mut user, &queries.query(&[])).await;
    assert_eq!(refused(required), (Code::Unauthenticated, "TOKENS_REQUIRED".into()));
    let query = queries.query(&tokens[1..2]);
    let first = ask(&mut user, &query).await.unwrap();
    // The answer was lost: the same again, on any connection.
    let again = ask(&mut Asker::anonymous(&served).await, &query).await.unwrap();
    assert!(first.answer == again.answer);
    let spent = "TOKEN_SPENT";
    assert_eq!(reason(ask(&mut user, &queries.query(&tokens[1..2])).await), spent);
    assert_eq!(reason(user.evaluate(&paid(batch(2), &tokens[1..2])).await), spent);
    user.evaluate(&paid(batch(2), &tokens[2..3])).await.unwrap();
    assert_eq!(reason(ask(&mut user, &queries.query(&tokens[2..3])).await), spent);
    let two = ask(&mut user, &queries.query(&tokens[3..5])).await;
    assert_eq!(refused(two), (Code::InvalidArgument, "FIELD_RULE".into()));
    let mut forged = queries.query(&tokens[3..4]);
    let mut bytes = forged.tokens.to_vec();
    bytes[353] ^= 1;
    forged.tokens = bytes.into();
    assert_eq!(reason(ask(&mut user, &forged).await), "TOKEN_INVALID");
    // What was refused for its query has spent nothing.
    let mut malformed = queries.query(&tokens[4..5]);
    let tokens_of = malformed.tokens.clone();
    malformed.query = vec![0xff; malformed.query.len()].into();
    assert_eq!(reason(ask(&mut user, &malformed).await), "MALFORMED_QUERY");
    ask(&mut user, &QueryPirRequest { tokens: tokens_of, ..queries.query(&[]) }).await.unwrap();

    // The SDK pays for both calls, and for the query alone once it knows outputs.
    let backend = Backend::of(&served).await;
    let client = client(&scene, &served, Some(&backend), Arc::new(MemoryState::new())).await;
    let nobody = sii("mailto:nobody@example.com");
    client.refresh(&nobody).await.unwrap();
    client.refresh(&nobody).await.unwrap();
    assert_eq!(backend.issued(), 32);
    served.stop().await;
}
