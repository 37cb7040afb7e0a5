//! Which directory is asked: one, chosen before anything is asked.

use blindbook::sidecar::{DirectoryOptions, Route, Sidecar, SidecarError};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::estate::{Beside, Dp, PEOPLE, ask, ask_at, reason, us};

fn serves(mut options: DirectoryOptions, routes: &[&str]) -> DirectoryOptions {
    options.serves = routes.iter().map(|route| route.parse::<Route>().unwrap()).collect();
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_at_one_directory_causes_no_request_to_another() {
    let one = Dp::with("sii,user\n+4915112345678,hans\n").await;
    // Where everybody is found, if only it were asked.
    let other = Dp::with(PEOPLE).await;
    let (first, second) = (one.serve().await, other.serve().await);
    let beside = Beside::start(us(vec![
        serves(one.options("one", first.address), &["tel:+49", "tel:+1415", "mailto:@example.com"]),
        serves(other.options("other", second.address), &["tel:", "mailto:", "acct:"]),
    ]))
    .await;
    beside.ready().await;
    let mut client = beside.client().await;
    let settled = other.lookups().len();
    for (asked, found) in [
        ("+49 151 12345678", &["hans@wa.example"][..]),
        ("+14155550100", &[]),
        ("dave@example.com", &[]),
        ("nobody@example.com", &[]),
    ] {
        let before = one.lookups().len();
        let answer = client.resolve(ask(asked)).await.unwrap();
        assert_eq!(crate::estate::users(&answer.mappings), found);
        assert_eq!(answer.directory, "one");
        assert_eq!(one.lookups().len(), before + 2, "one evaluation, one fetch");
    }
    assert_eq!(other.lookups().len(), settled, "nothing reached the other");

    // Named, the other is asked, and the first is not.
    let before = one.lookups().len();
    let answer = client.resolve(ask_at("+14155550100", "other")).await.unwrap();
    assert_eq!((answer.mappings.len(), &*answer.directory), (1, "other"));
    assert_eq!(client.resolve(ask("acct:eve@host.example")).await.unwrap().directory, "other");
    assert_eq!(one.lookups().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_routes_is_asked_by_name_only() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let beside = Beside::of(serves(dp.options("wa", server.address), &[])).await;
    let mut client = beside.client().await;
    let refused = client.resolve(ask("+14155550100")).await.unwrap_err();
    assert_eq!(
        (refused.code(), &*reason(&refused)),
        (Code::InvalidArgument, "DIRECTORY_NOT_NAMED")
    );
    assert_eq!(client.resolve(ask_at("+14155550100", "wa")).await.unwrap().mappings.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_down_is_tried_again_and_the_others_are_served() {
    let (up, down) = (Dp::with(PEOPLE).await, Dp::with("sii,user\nzoe@example.com,zoe\n").await);
    let server = up.serve().await;
    // A place where somebody was and will be again.
    let gone = down.serve().await;
    let place = gone.address;
    gone.stop().await;
    let beside = Beside::start(us(vec![
        serves(up.options("up", server.address), &["tel:"]),
        serves(down.options("down", place), &["mailto:"]),
    ]))
    .await;
    let mut client = beside.client().await;
    let refused = client.resolve(ask("zoe@example.com")).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "DIRECTORY_UNREACHABLE"));
    assert_eq!(beside.status().await, ServingStatus::NotServing);
    let found = loop {
        // Until the one that is up is known.
        match client.resolve(ask("+14155550100")).await {
            Ok(found) => break found,
            Err(status) => assert_eq!(status.code(), Code::Unavailable),
        }
    };
    assert_eq!(found.directory, "up");
    assert_eq!(beside.status().await, ServingStatus::NotServing);
    let back = down.serve_at(place).await;
    beside.ready().await;
    assert_eq!(client.users("zoe@example.com").await, ["zoe@wa.example"]);
    drop(client);
    beside.begin_to_stop().end().await;
    back.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_identity_is_never_believed() {
    let (dp, other) = (Dp::with(PEOPLE).await, Dp::with(PEOPLE).await);
    let server = dp.serve().await;
    // The address of one, the key of the other.
    let beside = Beside::start(us(vec![other.options("wa", server.address)])).await;
    let mut client = beside.client().await;
    let refused = loop {
        let refused = client.resolve(ask("+14155550100")).await.unwrap_err();
        if refused.code() != Code::Unavailable {
            break refused;
        }
    };
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Internal, "DIRECTORY_NOT_TRUSTED"));
    assert_eq!(beside.status().await, ServingStatus::NotServing);
    assert!(dp.lookups().is_empty(), "whom we look for is not told to it");
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_no_patience_mends_end_the_sidecar() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let mut options = dp.options("wa", server.address);
    options.client.server = "nowhere".into();
    let ended = Beside::start(us(vec![options.clone()])).await.ends().await;
    assert!(matches!(ended, Err(SidecarError::Directory { name, .. }) if name == "wa"));
    let twice = us(vec![options.clone(), options]);
    assert!(matches!(Sidecar::open(twice), Err(SidecarError::Option { .. })));
}
