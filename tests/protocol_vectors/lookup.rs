//! Whole lookups: both sides' bytes from the same keys and blinds, and what a
//! client finds in the answers.

use blindbook::{
    bucket::{Bucket, BucketNumber, DirectoryId, EntryKeys, Opened, Placement, SignedMapping},
    epoch::Epoch,
    identifier::Sii,
    keyring,
    oprf::{BlindedBatch, OprfError, Output, PublicKey, ServerKey},
    wire::{Evaluate, Evaluation, Fetch, bucket_from_proto, bucket_to_proto, proto},
};
use prost::Message as _;
use serde_json::Value;

use crate::{
    sealed::read_mapping,
    signed::wire_refusal,
    vector::{Case, Drawn, NOTHING},
};

/// By whom, and by which check, an answer is refused.
struct Refused(&'static str, String);

struct Result {
    output: Output,
    opened: Opened,
}

pub(crate) fn lookup(case: Case<'_>) {
    asks_and_answers(case);
    publishes(case);
    let Ok(results) = look_up(case) else { panic!("{case} is refused") };
    assert_eq!(results.len(), case.list("finds").count());
    for (find, result) in case.list("finds").zip(results) {
        assert_eq!(result.output.expose().as_slice(), find.bytes("output"));
        assert_eq!(result.opened.damaged, find.usize("damaged"));
        let expected = find.list("mappings").map(|mapping| SignedMapping {
            mapping: read_mapping(mapping),
            signature: mapping.array("signature"),
        });
        assert_eq!(result.opened.mappings, expected.collect::<Vec<_>>());
        let found = &result.opened.mappings;
        let latest = found.iter().map(|found| found.mapping.default_since).max();
        let default = found.iter().position(|found| Some(found.mapping.default_since) == latest);
        let said = find.list("mappings").position(|mapping| mapping.get("default").0 == true);
        assert_eq!(said, default);
    }
}

pub(crate) fn lookup_refusal(case: Case<'_>, file: &Value) -> String {
    let base = file["good"].as_array().unwrap().iter().map(Case);
    let mut base = base.filter(|good| good.text("name") == case.text("base"));
    let mut altered = base.next().unwrap().0.clone();
    for (field, value) in case.get("with").0.as_object().unwrap() {
        let before = altered[field].take();
        assert!(!before.is_null() && before != *value, "{case} alters nothing");
        altered[field] = value.clone();
    }
    match look_up(Case(&altered)) {
        Ok(_) => NOTHING.into(),
        Err(Refused(by, check)) => {
            assert_eq!(by, case.text("by"));
            check
        }
    }
}

fn blind(case: Case<'_>) -> BlindedBatch {
    let mut blinds = Drawn::new(case.all_bytes("blinds"));
    let batch = BlindedBatch::blind(&case.all_bytes("inputs"), &mut blinds).unwrap();
    assert!(blinds.is_spent());
    batch
}

fn placements(case: Case<'_>) -> Vec<Placement> {
    let read = |bytes: Vec<u8>| Placement::from_bytes(bytes.try_into().unwrap());
    case.all_bytes("placements").into_iter().map(read).collect()
}

/// The client's requests, and the server's answer to the first.
fn asks_and_answers(case: Case<'_>) {
    let directory = case.directory();
    let batch = blind(case);
    let newest = case.list("epochs").last().unwrap().epoch();

    let blinded_elements = batch.blinded_elements().to_vec().into();
    let request = proto::EvaluateRequest::from(Evaluate {
        epoch: newest,
        blinded_elements,
        tokens: Vec::new().into(),
    });
    assert_eq!(request.encode_to_vec(), case.bytes("evaluate_request"));
    assert!(Evaluate::try_from(request).is_ok());

    let evaluations = case.list("epochs").map(|epoch| {
        let info = keyring::oprf_info(&directory, epoch.epoch());
        let key = ServerKey::derive(&epoch.seed("seed"), &info).unwrap();
        assert_eq!(key.public_key().to_bytes().as_slice(), epoch.bytes("public_key"));
        let mut nonce = Drawn::new([epoch.bytes("proof_nonce")]);
        let (evaluated, proof) =
            key.blind_evaluate_batch(batch.blinded_elements(), &mut nonce).unwrap();
        assert!(nonce.is_spent());
        Evaluation { epoch: epoch.epoch(), evaluated_elements: evaluated.into(), proof }
    });
    let response = Evaluation::response(evaluations.collect());
    assert_eq!(response.encode_to_vec(), case.bytes("evaluate_response"));

    let prefix_bits = case.bits("sent_prefix_bits");
    let fetch = Fetch {
        epoch: newest,
        directory_prefix_bits: case.bits("prefix_bits"),
        prefix_bits,
        prefixes: placements(case).iter().map(|place| place.bucket(prefix_bits)).collect(),
    };
    let numbers = fetch.numbers().map(BucketNumber::get);
    let sent = case.list("buckets").map(|bucket| bucket.u32("number"));
    assert!(numbers.eq(sent), "{case}: other buckets are asked for");
    let request = proto::FetchBucketsRequest::from(fetch);
    assert_eq!(request.encode_to_vec(), case.bytes("fetch_request"));
}

/// The directory's signatures, and the application providers'.
fn publishes(case: Case<'_>) {
    let identity = case.signing_key("identity_seed");
    let directory = DirectoryId::of(&identity.verifying_key());
    assert_eq!(directory, case.directory());
    for given in case.list("buckets") {
        let bucket = Bucket::sign(
            given.epoch(),
            case.bits("prefix_bits"),
            BucketNumber::new(given.u32("number"), case.bits("prefix_bits")).unwrap(),
            given.u64("version"),
            given.get("entries").filled().into(),
            &directory,
            &identity,
        );
        assert_eq!(bucket.unwrap().signature().as_slice(), given.bytes("signature"));
    }
    for find in case.list("finds") {
        let sii = Sii::from_canonical(find.text("sii")).unwrap();
        for mapping in find.list("mappings") {
            let provider = provider(case, mapping.text("provider"));
            let signed =
                SignedMapping::sign(&sii, read_mapping(mapping), &provider.signing_key("seed"));
            assert_eq!(signed.signature.as_slice(), mapping.bytes("signature"));
        }
    }
}

fn provider<'a>(case: Case<'a>, name: &str) -> Case<'a> {
    case.list("providers").find(|provider| provider.text("provider") == name).unwrap()
}

/// A client's checks of what came, and what it finds.
fn look_up(case: Case<'_>) -> std::result::Result<Vec<Result>, Refused> {
    let (batch, elements) = (blind(case), case.list("inputs").count());
    let by_evaluations = |check| Refused("evaluations", check);
    let response = case.bytes("evaluate_response");
    let response = proto::EvaluateResponse::decode(response.as_slice()).unwrap();
    let evaluations = Evaluation::check(response, elements)
        .map_err(|error| by_evaluations(wire_refusal(error)))?;
    let mut outputs: Vec<(Epoch, Vec<Output>)> = Vec::new();
    for Evaluation { epoch, evaluated_elements, proof } in evaluations {
        let named = case.list("epochs").find(|named| named.epoch() == epoch).unwrap();
        let key = PublicKey::from_bytes(&named.bytes("public_key")).unwrap();
        let all = batch
            .finalize(&evaluated_elements, &proof, &key)
            .map_err(|error| by_evaluations(oprf_refusal(error)))?;
        outputs.push((epoch, all));
    }

    let identity = case.public_key("identity_public_key");
    let (directory, bits) = (DirectoryId::of(&identity), case.bits("prefix_bits"));
    let mut buckets = Vec::new();
    for given in case.list("buckets") {
        let bucket = Bucket::from_parts(
            given.epoch(),
            bits,
            BucketNumber::new(given.u32("number"), bits).unwrap(),
            given.u64("version"),
            given.get("entries").filled().into(),
            given.array("signature"),
        );
        let bucket = bucket_from_proto(bucket_to_proto(&bucket.unwrap()), bits).unwrap();
        bucket.verify(&directory, &identity).map_err(|_| Refused("buckets", "signature".into()))?;
        buckets.push(bucket);
    }

    let placements = placements(case);
    case.list("finds")
        .map(|find| {
            let number = placements[find.usize("place")].bucket(bits);
            let bucket = buckets.iter().find(|bucket| bucket.number == number).unwrap();
            let (_, all) = outputs.iter().find(|(epoch, _)| *epoch == bucket.epoch).unwrap();
            let output = all[find.usize("input")].clone();
            let keys = EntryKeys::of(output.expose());
            let opened = keys.open_all(&directory, bucket.epoch, &bucket.iter());
            let sii = Sii::from_canonical(find.text("sii")).unwrap();
            for mapping in &opened.mappings {
                let name = mapping.mapping.ssi.provider().as_str();
                mapping
                    .verify(&sii, &provider(case, name).public_key("public_key"))
                    .map_err(|_| Refused("mappings", "signature".into()))?;
            }
            Ok(Result { output, opened })
        })
        .collect()
}

/// The variant alone: an index says which element of this batch it was.
fn oprf_refusal(error: OprfError) -> String {
    format!("{error:?}").split(' ').next().unwrap().to_owned()
}
