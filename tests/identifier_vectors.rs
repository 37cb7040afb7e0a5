//! Identifiers against vectors: Google's libphonenumber for phone numbers, UTS 46
//! and Unicode case folding for addresses (`tests/vectors/identifier`).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use blindbook::identifier::{Region, Sii};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    #[serde(rename = "about")]
    _about: String,
    cases: Vec<Case>,
}

/// All `inputs` have the one outcome: a canonical form, or an error's name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    inputs: Vec<String>,
    region: Option<String>,
    canonical: Option<String>,
    error: Option<String>,
    /// What libphonenumber makes of a number that Blindbook refuses on purpose.
    libphonenumber: Option<String>,
    note: Option<String>,
    #[serde(rename = "type")]
    _type: Option<String>,
}

/// Checks one file of vectors; gives the number of inputs.
fn check(name: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/identifier").join(name);
    let vectors: Vectors = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for case in vectors.cases {
        let region = case.region.as_deref().map(|code| code.parse::<Region>().unwrap());
        if case.libphonenumber.is_some() {
            assert!(case.error.is_some() && case.note.is_some(), "a difference needs its reason");
        }
        let expected = match (case.canonical, case.error) {
            (Some(canonical), None) => Ok(canonical),
            (None, Some(error)) => Err(error),
            _ => panic!("a case has one outcome: {:?}", case.inputs),
        };
        for input in case.inputs {
            let found = Sii::parse(&input, region);
            if let Ok(sii) = &found {
                let again = Sii::from_canonical(sii.as_str());
                assert_eq!(again.as_ref(), Ok(sii), "{input:?} is not canonical when read back");
            }
            let found =
                found.map(|sii| sii.as_str().to_owned()).map_err(|error| format!("{error:?}"));
            if found != expected {
                wrong.push(format!("{input:?} in {region:?}: {found:?}, not {expected:?}"));
            }
            checked += 1;
        }
    }
    assert!(wrong.is_empty(), "{name}: {} wrong\n{}", wrong.len(), wrong.join("\n"));
    checked
}

#[test]
fn example_numbers_of_every_region_in_every_form() {
    assert!(check("phone_examples.json") > 5000);
}

#[test]
fn random_numbers_are_read_or_refused_as_libphonenumber_does() {
    assert!(check("phone_random.json") > 4000);
}

#[test]
fn spellings_of_phone_numbers() {
    assert!(check("phone_forms.json") > 40);
}

#[test]
fn bad_phone_numbers_are_refused_with_the_reason() {
    assert!(check("phone_bad.json") > 45);
}

#[test]
fn mail_addresses() {
    assert!(check("mail.json") > 75);
}

#[test]
fn bad_mail_addresses_are_refused_with_the_reason() {
    assert!(check("mail_bad.json") > 50);
}

#[test]
fn user_ids() {
    assert!(check("acct.json") > 10);
}

#[test]
fn bad_user_ids_are_refused_with_the_reason() {
    assert!(check("acct_bad.json") > 20);
}
