//! Identifiers, providers and users as people and files write them.
//!
//! Input: one byte that chooses the region, then the text. What is accepted has
//! one form, which is its own form, wherever and however often it is read.

#![no_main]

use blindbook::identifier::{MAX_SSI_BYTES, Provider, Region, Sii, SiiKind, Ssi, User};
use libfuzzer_sys::{Corpus, fuzz_target};

const REGIONS: [&str; 8] = ["US", "GB", "DE", "AR", "BR", "IT", "SG", "KZ"];

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((choice, text)) = data.split_first() else { return Corpus::Reject };
    let Ok(text) = std::str::from_utf8(text) else { return Corpus::Reject };
    let region: Option<Region> =
        REGIONS.get(usize::from(*choice)).and_then(|code| code.parse().ok());

    if let Ok(sii) = Sii::parse(text, region) {
        check_canonical(&sii);
        for region in [None, "US".parse().ok(), "AR".parse().ok()] {
            let again = Sii::parse(sii.as_str(), region).expect("a canonical form is accepted");
            assert_eq!(again.as_str(), sii.as_str(), "a canonical form is its own");
        }
        assert_eq!(Sii::from_canonical(sii.as_str()).as_ref(), Ok(&sii));
        if text == sii.as_str() {
            assert!(Sii::from_canonical(text).is_ok());
        }
        let rest = &sii.as_str()[sii.kind().scheme().len()..];
        assert!(!format!("{sii:?}").contains(rest), "Debug tells the identifier");
    }
    if let Ok(sii) = Sii::from_canonical(text) {
        assert_eq!(sii.as_str(), text, "another spelling was taken as canonical");
    }

    let provider = Provider::parse(text);
    if let Ok(provider) = &provider {
        let name = provider.as_str();
        assert!(name.is_ascii() && !name.bytes().any(|b| b.is_ascii_uppercase() || b == b'@'));
        assert_eq!(Provider::parse(name).as_ref(), Ok(provider));
    }
    let user = User::parse(text);
    if let Ok(user) = &user {
        assert!(!user.as_str().is_empty() && !user.as_str().contains(['@', '\0', '\n']));
        assert_eq!(User::parse(user.as_str()).as_ref(), Ok(user));
        assert_eq!(format!("{user:?}"), "User(..)");
    }

    if let Some((user, provider)) = text.split_once('@')
        && let (Ok(user), Ok(provider)) = (User::parse(user), Provider::parse(provider))
    {
        let bytes = user.as_str().len() + provider.as_str().len();
        assert_eq!(Ssi::new(provider, user).is_ok(), bytes <= MAX_SSI_BYTES, "{bytes} bytes");
    }
    Corpus::Keep
});

fn check_canonical(sii: &Sii) {
    let rest = sii.as_str().strip_prefix(sii.kind().scheme()).expect("begins with its scheme");
    match sii.kind() {
        SiiKind::Tel => {
            let digits = rest.strip_prefix('+').expect("a number is international");
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()));
            // E.164 has 15 at most; some countries use more, and libphonenumber
            // takes 17 behind a country code of three.
            assert!((3..=20).contains(&digits.len()), "{} digits", digits.len());
        }
        SiiKind::Mailto | SiiKind::Acct => {
            let (local, domain) = rest.rsplit_once('@').expect("has a domain");
            assert!(!local.is_empty() && !domain.is_empty());
            assert!(!domain.contains(|c: char| !c.is_ascii() || c.is_ascii_uppercase()));
            assert!(!local.contains(|c: char| c.is_control()));
        }
    }
    assert!(sii.as_str().len() <= 512, "{} bytes", sii.as_str().len());
}
