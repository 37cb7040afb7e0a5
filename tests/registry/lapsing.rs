//! What lapses is removed while the server serves.

use std::time::Duration;

use crate::scene::{NOW_S, Scene, sii};

#[tokio::test(flavor = "multi_thread")]
async fn what_lapsed_is_removed_by_itself_and_what_did_not_stays() {
    // The shortest round there is.
    let scene = Scene { sweep_period: Duration::from_secs(1), ..Scene::new().await };
    let served = scene.serve().await;
    let (lapses, stays) = (sii("tel:+12015550123"), sii("tel:+12015550124"));
    served.claimed(&lapses, "wa.example", "alice").await;
    scene.set_time(NOW_S + 86_400);
    {
        let mut wa = served.ap("wa.example").await;
        let proof = served.token(&mut wa, &stays).await;
        let until_s = NOW_S + 3 * 86_400;
        let claim = crate::scene::claim_until(&stays, "wa.example", "bob", proof, until_s);
        wa.claim(claim).await.unwrap();
    }
    // Until the sweeper came by; a test that hangs fails by its time.
    while !served.lookup(&lapses).await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(served.found(&stays).await, ["bob@wa.example"]);
    served.is_clean(1).await;
    served.stop().await;
}
