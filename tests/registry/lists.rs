//! A provider pages through its own mappings.

use std::collections::BTreeSet;

use blindbook::wire::proto;

use crate::scene::{Scene, reason, sii};

fn own(page_token: Vec<u8>, page_size: u32) -> proto::ListRequest {
    let own = proto::OwnList { page_token: page_token.into(), page_size };
    proto::ListRequest { list: Some(proto::list_request::List::Own(own)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_mapping_of_ones_own_once_and_no_other() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    for n in 0..60 {
        let of = sii(&format!("mailto:person-{n}@mail.example"));
        let provider = if n % 3 == 0 { "signal.example" } else { "wa.example" };
        served.claimed(&of, provider, &format!("u{n}")).await;
    }
    let mut wa = served.ap("wa.example").await;
    for size in [1, 7, 1000, 0] {
        let (mut token, mut pages, mut users) = (Vec::new(), 0, BTreeSet::new());
        loop {
            let page = wa.list(own(token, size)).await.unwrap().into_inner();
            pages += 1;
            for listed in page.mappings {
                let mapping = listed.mapping.clone().unwrap();
                assert_eq!(mapping.provider, "wa.example");
                assert_eq!(
                    listed.sii.replace("mailto:person-", "u").replace("@mail.example", ""),
                    mapping.user
                );
                assert_eq!((listed.ttl_s, listed.default_since_s), (3600, 0));
                assert_eq!(listed.audience(), proto::Audience::Personal);
                assert!(users.insert(mapping.user));
            }
            token = page.next_page_token.to_vec();
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(users.len(), 40);
        assert_eq!(pages > 1, size == 1 || size == 7);
    }
    for token in [&[1][..], &[9, 0, 0, 0, 0], &[6, 0, 0, 0, 64], &[0; 40]] {
        assert_eq!(reason(wa.list(own(token.to_vec(), 10)).await), "PAGE_TOKEN");
    }
    assert_eq!(reason(wa.list(own(Vec::new(), 1001)).await), "FIELD_RULE");
    let mut threema = served.ap("threema.example").await;
    let page = threema.list(own(Vec::new(), 1000)).await.unwrap().into_inner();
    assert!(page.mappings.is_empty() && page.next_page_token.is_empty());
    served.stop().await;
}
