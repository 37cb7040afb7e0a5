//! Holds the rooms to the vectors of `docs/protocol.md`, which another
//! implementation made: each good case gives the same bytes here, each bad one
//! is refused by the check that it names.

#![cfg(feature = "server")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::indexing_slicing, reason = "a vector of another shape fails the test")]

mod lookup;
mod messages;
mod names;
mod sealed;
mod signed;
mod vector;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use vector::Case;

/// A test for each topic, and one for there being no file without a topic.
macro_rules! topics {
    ($($topic:ident: $good:path, $bad:path;)*) => {
        $(
            #[test]
            fn $topic() {
                let file = read(concat!(stringify!($topic), ".json"));
                for case in cases(&file, "good") {
                    println!("{case}");
                    $good(case);
                }
                for case in cases(&file, "bad") {
                    println!("{case}");
                    assert_eq!($bad(case, &file), case.text("refused"), "{case}");
                }
            }
        )*

        #[test]
        fn every_vector_file_is_read_by_a_test() {
            let read = [$(concat!(stringify!($topic), ".json")),*].map(str::to_owned);
            let there = fs::read_dir(folder())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with(".json"));
            assert_eq!(there.collect::<BTreeSet<_>>(), BTreeSet::from(read));
        }
    };
}

topics! {
    identifiers: names::identifier, names::identifier_refusal;
    keys: names::keys, names::key_refusal;
    placement: names::placement, names::placement_refusal;
    mapping: sealed::mapping, sealed::mapping_refusal;
    entry: sealed::entry, sealed::entry_refusal;
    bucket: sealed::bucket, sealed::bucket_refusal;
    parameters: signed::parameters, signed::parameters_refusal;
    providers: signed::providers, signed::providers_refusal;
    messages: messages::message, messages::message_refusal;
    lookup: lookup::lookup, lookup::lookup_refusal;
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/protocol"))
}

fn read(name: &str) -> Value {
    let file: Value = serde_json::from_slice(&fs::read(folder().join(name)).unwrap()).unwrap();
    let lists: Vec<_> = file.as_object().unwrap().keys().collect();
    assert_eq!(lists, ["bad", "good"], "{name} has a list that no test reads");
    file
}

fn cases<'a>(file: &'a Value, list: &str) -> impl Iterator<Item = Case<'a>> {
    let cases = file[list].as_array().unwrap();
    assert!(!cases.is_empty(), "there is no {list} case");
    cases.iter().map(Case)
}
