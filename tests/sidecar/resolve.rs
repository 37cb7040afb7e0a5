//! One identifier: found or not, for whom, and what is refused.

use blindbook::{
    server::Call,
    wire::proto::{Audience, ResolveRequest},
};
use tonic::Code;

use crate::estate::{Beside, Dp, PEOPLE, ask, ask_at, ask_for, field, reason, us, users};

#[tokio::test(flavor = "multi_thread")]
async fn hits_and_misses_over_tcp_and_over_a_unix_socket() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", folder.path().join("sidecar.sock").display());
    for place in ["127.0.0.1:0", &socket] {
        let options = us(vec![dp.options("wa", server.address)]);
        let beside = Beside::at(place, options).await;
        beside.ready().await;
        let mut client = beside.client().await;
        let alice = client.resolve(ask("+1 415 555 0100")).await.unwrap();
        assert_eq!(users(&alice.mappings), ["alice@wa.example"]);
        assert_eq!((&*alice.directory, alice.stale, alice.damaged), ("wa", false, 0));
        assert!(alice.answered_at_s > 1_700_000_000 && alice.mappings[0].default);
        assert_eq!(alice.mappings[0].ttl_s, 86_400);
        for same in ["(415) 555-0100", "tel:+1-415-555-0100"] {
            assert_eq!(client.users(same).await, ["alice@wa.example"], "{same}");
        }
        assert_eq!(client.users("Dave@Example.COM").await, ["dave@wa.example"]);
        assert_eq!(client.users("acct:eve@host.example").await, ["eve@wa.example"]);
        let nobody = client.resolve(ask("nobody@example.com")).await.unwrap();
        assert!(nobody.mappings.is_empty() && nobody.directory == "wa");
        drop(client);
        beside.begin_to_stop().end().await;
    }
    #[cfg(unix)]
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "the socket goes with the sidecar");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preferred_mapping_comes_first_and_the_others_in_the_directorys_order() {
    let dp = Dp::with(PEOPLE).await;
    dp.load("sms.example", 2, "sii,user\n+14155550102,carol.sms\n").await;
    let server = dp.serve().await;
    let beside = Beside::of(dp.options("wa", server.address)).await;
    let found = beside.client().await.resolve(ask("+14155550102")).await.unwrap().mappings;
    assert_eq!(found.len(), 4);
    assert_eq!(users(&found)[0], "carol@wa.example");
    let defaults: Vec<_> = found.iter().map(|found| found.default).collect();
    assert_eq!(defaults, [true, false, false, false]);
    assert!(users(&found).contains(&"carol.sms@sms.example".to_owned()));
}

/// What the directory saw of calls, whatever their bytes.
fn shape(calls: &[Call]) -> Vec<(String, usize, Vec<usize>)> {
    let mut shape: Vec<_> = calls
        .iter()
        .map(|call| (call.path.clone(), call.request.len(), call.response_messages.clone()))
        .collect();
    shape.sort();
    shape
}

/// Asked of the directory even where an answer is cached.
fn fresh(sii: &str, audience: Audience) -> ResolveRequest {
    ResolveRequest { refresh: true, ..ask_for(sii, audience) }
}

#[tokio::test(flavor = "multi_thread")]
async fn for_whom_a_mapping_is_meant_is_looked_at_here_and_told_to_nobody() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let mut shapes = Vec::new();
    for (audience, expected) in [
        (Audience::Unspecified, &["carol", "carol.shop", "carol.work"][..]),
        (Audience::Personal, &["carol"]),
        (Audience::Business, &["carol.shop", "carol.work"]),
    ] {
        // Each a sidecar that was never asked: who asks again asks for less.
        let beside = Beside::of(dp.options("wa", server.address)).await;
        let mut client = beside.client().await;
        let before = dp.lookups().len();
        let answer = client.resolve(fresh("+14155550102", audience)).await.unwrap();
        let mut found: Vec<_> = answer.mappings.iter().map(|found| &*found.user).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{audience:?}");
        let all = answer.mappings.iter().all(|found| {
            audience == Audience::Unspecified || found.audience == i32::from(audience)
        });
        assert!(all);
        shapes.push(shape(&dp.lookups()[before..]));
    }
    let beside = Beside::of(dp.options("wa", server.address)).await;
    let mut client = beside.client().await;
    // The business ones hold no default: it is the personal one.
    let business = client.resolve(fresh("+14155550102", Audience::Business)).await.unwrap();
    assert!(business.mappings.iter().all(|found| !found.default));
    let before = dp.lookups().len();
    let none = client.resolve(fresh("+14155550100", Audience::Business)).await.unwrap();
    assert!(none.mappings.is_empty());
    shapes.push(shape(&dp.lookups()[before..]));
    assert!(shapes.windows(2).all(|pair| pair[0] == pair[1]), "{shapes:?}");
    assert_eq!(shapes[0].len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_named_by_field_and_never_quoted() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let beside = Beside::of(dp.options("wa", server.address)).await;
    let mut client = beside.client().await;
    let before = dp.lookups().len();
    let mut audience = ask("+14155550100");
    audience.audience = 7;
    for (request, wrong, why) in [
        (ask(""), "sii", "IDENTIFIER"),
        (ask("4155550"), "sii", "IDENTIFIER"),
        (ask("canary@"), "sii", "IDENTIFIER"),
        (ask("acct:canary"), "sii", "IDENTIFIER"),
        (ask(&"canary".repeat(170)), "sii", "IDENTIFIER"),
        (audience, "audience", "AUDIENCE"),
        (ask_at("+14155550100", "canary"), "directory", "DIRECTORY_UNKNOWN"),
    ] {
        let refused = client.resolve(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert_eq!((&*field(&refused), &*reason(&refused)), (wrong, why));
        let told = format!("{refused:?}");
        assert!(!told.contains("canary") && !told.contains("4155550"), "{told}");
        assert!(refused.message().len() > 20, "{refused}");
    }
    assert_eq!(dp.lookups().len(), before, "nothing was asked");
}
