use super::*;
use crate::{
    keyring,
    store::MemoryGenerations,
    token::{Challenge, Day},
};

const NOW_S: u64 = 20_000 * 86_400 + 5;

async fn quotas(options: QuotaOptions) -> Quotas {
    let folder = tempfile::tempdir().unwrap();
    keyring::generate(folder.path(), &mut rand::rng()).unwrap();
    let keyring = Arc::new(Keyring::load(folder.path()).unwrap());
    let (generations, clock) = (Arc::new(MemoryGenerations::default()), Clock::new(|| NOW_S));
    let (signers, metrics) = (signers(1).unwrap(), Arc::new(Metrics::new()));
    Quotas::open(generations, keyring, options, signers, clock, metrics).await.unwrap()
}

async fn for_tokens() -> Quotas {
    quotas(QuotaOptions { anonymous: Anonymous::Tokens, ..QuotaOptions::default() }).await
}

/// A token of today.
async fn token(quotas: &Quotas) -> Vec<u8> {
    let (keys, today) = (quotas.0.keys.of_today(NOW_S).await.unwrap(), Day::at(NOW_S));
    let key = keys.key(today).unwrap();
    let challenge = Challenge::of(quotas.0.keyring.directory().as_bytes(), today);
    let blinded = key.public().blind(&challenge, &mut rand::rng()).unwrap();
    let signature = key.sign(blinded.message().try_into().unwrap(), &mut rand::rng()).unwrap();
    blinded.finalize(&signature, key.public()).unwrap().expose().to_vec()
}

/// Pays for work that is done and answered, as lookups do.
async fn paid(
    quotas: &Quotas,
    payer: &Payer,
    tokens: &[u8],
    counted: Counted,
    asked: &[&[u8]],
) -> Result<(), QuotaError> {
    let mut paid = quotas.returning(quotas.pay(payer, tokens, counted, 1).await?);
    paid.verify(tokens, asked)?;
    quotas.spend(paid.keep()).await
}

async fn for_query(quotas: &Quotas, tokens: &[u8], query: &[u8]) -> Result<(), QuotaError> {
    let asked: [&[u8]; 5] = [b"query", &[0, 0, 0, 1], &[16], &[0, 0, 0, 0], query];
    paid(quotas, &Payer::Anonymous, tokens, Counted::Queries, &asked).await
}

async fn for_elements(quotas: &Quotas, tokens: &[u8], elements: &[u8]) -> Result<(), QuotaError> {
    let asked: [&[u8]; 2] = [&[0, 0, 0, 1], elements];
    paid(quotas, &Payer::Anonymous, tokens, Counted::Elements, &asked).await
}

#[tokio::test]
async fn a_partners_query_is_charged_once_it_is_kept_and_else_given_back() {
    let quotas = quotas(QuotaOptions::default()).await;
    let (limits, alias) = (Limits::DEFAULT, "wa.example");
    let partner =
        Payer::Partner { alias: alias.into(), has_users: true, evaluations_per_day: None };
    let left = async |counted| {
        quotas.0.accounts.meter(alias, &limits, counted).await.unwrap().available(NOW_S)
    };
    let burst = limits.queries.burst();
    let pay = async |count| quotas.pay(&partner, &[], Counted::Queries, count).await;

    let dropped = quotas.returning(pay(1).await.unwrap());
    assert_eq!(left(Counted::Queries).await, burst - 1);
    drop(dropped);
    assert_eq!(left(Counted::Queries).await, burst);
    paid(&quotas, &partner, &[], Counted::Queries, &[b"query"]).await.unwrap();
    assert_eq!(left(Counted::Queries).await, burst - 1);
    assert_eq!(left(Counted::Elements).await, limits.elements.burst());

    // Whole or not at all, and then nothing is left.
    let all = usize::try_from(burst).unwrap();
    for (count, granted) in [(all, false), (all - 1, true), (1, false)] {
        let outcome = pay(count).await;
        assert_eq!(outcome.is_ok(), granted);
        if let Err(error) = outcome {
            let QuotaError::Exhausted { counted, retry_after_s } = error else { panic!("{error}") };
            assert!(counted == Counted::Queries && retry_after_s > 0);
        }
    }
    quotas.pay(&partner, &[], Counted::Elements, 2).await.unwrap();
    let told = quotas.0.metrics.encode().unwrap();
    for line in [
        format!(
            "blindbook_charged_total{{partner=\"wa.example\",of=\"pir_queries\"}} {}",
            burst + 1
        ),
        "blindbook_over_quota_total{partner=\"wa.example\",of=\"pir_queries\"} 2".into(),
    ] {
        assert!(told.lines().any(|found| found == line), "{line} is not in\n{told}");
    }
}

#[tokio::test]
async fn a_query_of_nobody_known_costs_a_token_where_tokens_are_asked_for() {
    let open = quotas(QuotaOptions::default()).await;
    for_query(&open, &[], b"a query").await.unwrap();
    let quotas = for_tokens().await;
    let none = for_query(&quotas, &[], b"a query").await;
    assert!(matches!(none, Err(QuotaError::TokensRequired)));
    let token = token(&quotas).await;
    let forged = [&token[..353], &[token[353] ^ 1]].concat();
    let refused = for_query(&quotas, &forged, b"a query").await;
    assert!(matches!(refused, Err(QuotaError::TokenInvalid)));
    for_query(&quotas, &token, b"a query").await.unwrap();
    // The answer was lost: the same again is answered, any other is not.
    for_query(&quotas, &token, b"a query").await.unwrap();
    let other = for_query(&quotas, &token, b"another").await;
    assert!(matches!(other, Err(QuotaError::TokenSpent)));
}

#[tokio::test]
async fn a_token_pays_an_evaluation_or_a_query_and_never_both() {
    let quotas = for_tokens().await;
    // The same bytes either way: what they are asked for tells them apart.
    let same = b"bytes of either";
    let (one, other) = (token(&quotas).await, token(&quotas).await);
    for_elements(&quotas, &one, same).await.unwrap();
    assert!(matches!(for_query(&quotas, &one, same).await, Err(QuotaError::TokenSpent)));
    for_elements(&quotas, &one, same).await.unwrap();
    for_query(&quotas, &other, same).await.unwrap();
    assert!(matches!(for_elements(&quotas, &other, same).await, Err(QuotaError::TokenSpent)));
    for_query(&quotas, &other, same).await.unwrap();
}

#[tokio::test]
async fn a_token_whose_query_was_not_answered_pays_another() {
    let quotas = for_tokens().await;
    let token = token(&quotas).await;
    let mut paid =
        quotas.returning(quotas.pay(&Payer::Anonymous, &token, Counted::Queries, 1).await.unwrap());
    paid.verify(&token, &[b"query", b"refused"]).unwrap();
    drop(paid);
    for_query(&quotas, &token, b"a query").await.unwrap();
    // And what was never verified is never spent.
    let unverified = quotas.pay(&Payer::Anonymous, &token, Counted::Queries, 1).await.unwrap();
    assert!(matches!(quotas.spend(unverified).await, Err(QuotaError::TokenInvalid)));
}
