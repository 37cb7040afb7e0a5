//! What holds for every input: canonical forms are read back as themselves, and
//! nothing panics.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindbook::identifier::{Provider, Region, Sii, User, regions};
use proptest::prelude::*;

fn region() -> impl Strategy<Value = Option<Region>> {
    let all: Vec<_> = regions().map(Some).chain([None]).collect();
    prop::sample::select(all)
}

/// Text made of pieces that the parsers treat specially, and of anything else.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "tel:",
            "mailto:",
            "acct:",
            "TEL:",
            ";phone-context=",
            ";ext=",
            ";isub=",
            "+",
            "＋",
            "@",
            ".",
            "%",
            "%C3%A9",
            "%40",
            "%CC%81",
            "?",
            "\"",
            "[",
            "]",
            "::",
            "xn--",
            "example.com",
            "\u{301}",
            "\u{345}",
            "\u{130}",
            "\u{3a3}",
            "\u{1e9e}",
            "\u{200d}",
            "\u{37e}",
            "\u{212b}",
            "x",
            "#",
            "0",
            "00",
            "011",
            "\0",
            "\u{fffd}",
            "\u{1100}\u{1161}",
        ])
        .prop_map(str::to_owned),
        "[0-9]{1,6}",
        "\\PC{0,4}",
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn is_stable(input: &str, region: Option<Region>) {
    if let Ok(sii) = Sii::parse(input, region) {
        let again = Sii::from_canonical(sii.as_str());
        assert_eq!(again.as_ref(), Ok(&sii));
        assert_eq!(again.unwrap().kind(), sii.kind());
        assert!(sii.as_str().starts_with(sii.kind().scheme()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_text(input in hostile(), region in region()) {
        is_stable(&input, region);
    }

    #[test]
    fn global_numbers(digits in "[0-9]{1,18}", region in region()) {
        let input = format!("+{digits}");
        is_stable(&input, region);
        prop_assert_eq!(Sii::parse(&input, region), Sii::parse(&input, None));
    }

    #[test]
    fn national_numbers(digits in "[0-9]{3,15}", region in region()) {
        is_stable(&digits, region);
    }

    #[test]
    fn mail_addresses(local in "\\PC{1,12}", domain in "[\\p{L}0-9-]{1,8}\\.[\\p{L}]{2,6}") {
        is_stable(&format!("{local}@{domain}"), None);
    }

    #[test]
    fn user_ids(user in "[a-zA-Z0-9%.é\u{301}]{1,12}", host in "[a-zA-Z0-9-]{1,8}\\.[a-z]{2,6}") {
        is_stable(&format!("acct:{user}@{host}"), None);
    }

    #[test]
    fn providers_and_users(text in hostile()) {
        if let Ok(provider) = Provider::parse(&text) {
            prop_assert_eq!(Provider::from_canonical(provider.as_str()), Ok(provider));
        }
        if let Ok(user) = User::parse(&text) {
            prop_assert_eq!(User::from_canonical(user.as_str()), Ok(user));
        }
    }

    #[test]
    fn region_codes(code in any::<String>()) {
        if let Ok(region) = code.parse::<Region>() {
            prop_assert_eq!(region.to_string().parse(), Ok(region));
        }
    }
}
