//! Many identifiers of one call.

use blindbook::{
    sidecar::{MAX_SIIS, Route},
    wire::proto::{Audience, ResolveManyRequest, resolve_many_result::Outcome},
};
use tonic::Code;

use crate::estate::{Beside, Dp, PEOPLE, ask_many, field, reason, us, users};

/// The users found, or the code and reason of the refusal.
fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Found(found) => users(&found.mappings).join(" "),
        Outcome::Refusal(refusal) => {
            assert!(!refusal.message.is_empty());
            format!("{:?} {}", Code::from(refusal.code), refusal.reason)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_result_each_in_the_order_given_refusals_and_duplicates_among_them() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let beside = Beside::of(dp.options("wa", server.address)).await;
    let mut client = beside.client().await;
    let request = ask_many(&[
        "nobody@example.com",
        "(415) 555-0101",
        "not an identifier",
        "+14155550100",
        "+1 415 555 0101",
        "",
        "dave@example.com",
    ]);
    let outcomes = client.many(request).await.unwrap();
    let told: Vec<_> = outcomes.iter().map(told).collect();
    assert_eq!(
        told,
        [
            "",
            "bob@wa.example",
            "InvalidArgument IDENTIFIER",
            "alice@wa.example",
            "bob@wa.example",
            "InvalidArgument IDENTIFIER",
            "dave@wa.example",
        ]
    );
    assert!(client.many(ask_many(&[])).await.unwrap().is_empty());
    let business = ResolveManyRequest {
        audience: Audience::Business.into(),
        ..ask_many(&["+14155550102", "+14155550100"])
    };
    let outcomes = client.many(business).await.unwrap();
    let found = outcomes.iter().map(|outcome| match outcome {
        Outcome::Found(found) => found.mappings.len(),
        Outcome::Refusal(_) => panic!("refused"),
    });
    assert_eq!(found.collect::<Vec<_>>(), [2, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_4096_are_taken_and_one_more_asks_nothing() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let beside = Beside::of(dp.options("wa", server.address)).await;
    let mut client = beside.client().await;
    let before = dp.lookups().len();
    let refused = client.many(ask_many(&vec!["+14155550100"; MAX_SIIS + 1])).await.unwrap_err();
    assert_eq!((refused.code(), &*field(&refused)), (Code::InvalidArgument, "siis"));
    assert_eq!(reason(&refused), "TOO_MANY");
    assert_eq!(dp.lookups().len(), before);
    // As many as may be, of which one is asked.
    let outcomes = client.many(ask_many(&vec![" (415) 555-0100"; MAX_SIIS])).await.unwrap();
    assert_eq!(outcomes.len(), MAX_SIIS);
    assert!(outcomes.iter().all(|outcome| told(outcome) == "alice@wa.example"));
    assert_eq!(dp.lookups().len(), before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_asked_where_its_route_leads_and_a_directory_that_is_down_refuses_its_own() {
    let numbers = Dp::with(PEOPLE).await;
    let server = numbers.serve().await;
    let gone = Dp::with(PEOPLE).await;
    let nowhere = gone.serve().await;
    let mut one = numbers.options("numbers", server.address);
    one.serves = vec!["tel:".parse::<Route>().unwrap()];
    let mut other = gone.options("gone", nowhere.address);
    other.serves = vec!["mailto:".parse::<Route>().unwrap()];
    nowhere.stop().await;
    let beside = Beside::start(us(vec![one, other])).await;
    let mut client = beside.client().await;
    // The first may still be on its way to being known.
    let asked = ["dave@example.com", "+14155550100", "acct:eve@host.example"];
    let mut told: Vec<String> = Vec::new();
    while told.get(1).is_none_or(|told| told.contains("UNREACHABLE")) {
        let outcomes = client.many(ask_many(&asked)).await.unwrap();
        told = outcomes.iter().map(self::told).collect();
    }
    assert_eq!(
        told,
        [
            "Unavailable DIRECTORY_UNREACHABLE",
            "alice@wa.example",
            "InvalidArgument DIRECTORY_NOT_NAMED",
        ]
    );
}
