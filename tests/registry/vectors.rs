//! The proof vectors of an independent implementation, over the network.

use std::{collections::BTreeMap, convert::Infallible, fs, path::Path};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use blindbook::{
    bucket::DirectoryId,
    registry::proof::{
        IdentityIssuer, IdentityIssuers, IssuerKeys, PassportRules, TokenIssuers, TokenKey,
        TrustAnchors, VerificationAddress,
    },
    wire::proto,
};
use rand::{TryCryptoRng, TryRng};
use serde::Deserialize;
use serde_json::Value;

use crate::scene::{NOW_S, Partner, Scene, Served, claim_until, proof, provider, reason, sii};

#[derive(Deserialize, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) sii: String,
    pub(crate) provider: String,
    token: String,
    #[serde(default)]
    chain: Vec<String>,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    issued_s: u64,
    pub(crate) now_s: u64,
    pub(crate) expect: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    Tokens,
    Passports,
    Identities,
}

fn read(topic: Topic) -> Value {
    let name = match topic {
        Topic::Tokens => "tokens.json",
        Topic::Passports => "passports.json",
        Topic::Identities => "identities.json",
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/proof").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn cases(topic: Topic) -> Vec<Case> {
    serde_json::from_value(read(topic)["cases"].clone()).unwrap()
}

pub(crate) fn case(topic: Topic, name: &str) -> Case {
    cases(topic).into_iter().find(|case| case.name == name).unwrap()
}

pub(crate) fn token_issuers() -> TokenIssuers {
    let mut issuers = TokenIssuers::default();
    for issuer in read(Topic::Tokens)["issuers"].as_array().unwrap() {
        let id = u128::from_str_radix(issuer["directory"].as_str().unwrap(), 16).unwrap();
        let key = TokenKey::from_jwk(&issuer["jwk"].to_string()).unwrap();
        issuers.trust(DirectoryId::from_bytes(id.to_be_bytes()), key).unwrap();
    }
    issuers
}

pub(crate) fn passport_rules() -> PassportRules {
    let vectors = read(Topic::Passports);
    let roots = vectors["roots"].as_array().unwrap().iter();
    let roots = roots.map(|root| STANDARD.decode(root.as_str().unwrap()).unwrap()).collect();
    let addresses: BTreeMap<String, String> =
        serde_json::from_value(vectors["addresses"].clone()).unwrap();
    let addresses = addresses
        .iter()
        .map(|(name, address)| (provider(name), VerificationAddress::parse(address).unwrap()));
    PassportRules::new(TrustAnchors::from_der(roots).unwrap(), addresses.collect()).unwrap()
}

pub(crate) fn identity_issuers() -> IdentityIssuers {
    let vectors = read(Topic::Identities);
    let issuers = vectors["issuers"].as_array().unwrap().iter().map(|issuer| {
        let keys = IssuerKeys::from_jwks(&issuer["jwks"].to_string()).unwrap();
        let domains: Vec<String> = serde_json::from_value(issuer["domains"].clone()).unwrap();
        let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
        let clients: BTreeMap<String, String> =
            serde_json::from_value(issuer["clients"].clone()).unwrap();
        let clients = clients.into_iter().map(|(name, client)| (provider(&name), client));
        let url = issuer["url"].as_str().unwrap();
        IdentityIssuer::new(url, keys, &domains, clients.collect()).unwrap()
    });
    IdentityIssuers::new(issuers.collect()).unwrap()
}

/// Gives out the given bytes.
struct Given(Vec<u8>);

impl TryRng for Given {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("a challenge is bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("a challenge is bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.0);
        Ok(())
    }
}

impl TryCryptoRng for Given {}

impl Case {
    /// The proof as a caller hands it over, its challenge open.
    pub(crate) async fn proof(&self, served: &Served<'_>, topic: Topic) -> proto::Proof {
        let token = self.token.clone();
        if topic == Topic::Tokens {
            return proof(token);
        }
        served.scene.pending.forget();
        let mut rng = Given(URL_SAFE_NO_PAD.decode(&self.challenge).unwrap());
        let (sii, provider) = (sii(&self.sii), provider(&self.provider));
        served.challenges.open(&sii, &provider, self.issued_s, &mut rng).await.unwrap();
        let challenge = self.challenge.clone();
        let proof = if topic == Topic::Passports {
            let der = |text: &String| STANDARD.decode(text).unwrap().into();
            let certificates = self.chain.iter().map(der).collect();
            proto::proof::Proof::Passport(proto::PassportProof { challenge, token, certificates })
        } else {
            proto::proof::Proof::Identity(proto::IdentityProof { challenge, token })
        };
        proto::Proof { proof: Some(proof) }
    }

    /// A claim that rests on it.
    pub(crate) async fn claim(&self, served: &Served<'_>, topic: Topic) -> proto::ClaimRequest {
        let proof = self.proof(served, topic).await;
        let until_s = self.now_s.min(NOW_S) + 86_400;
        claim_until(&sii(&self.sii), &self.provider, "mallory", proof, until_s)
    }
}

/// The reason that a refusal of the proof room has on the wire.
fn expected(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.push(letter.to_ascii_uppercase());
    }
    let words = words.replace("NUMBER_NOT", "NUMBERS_NOT");
    match words.as_str() {
        "CERTIFICATE" => "CERTIFICATE_MALFORMED".into(),
        "UNKNOWN_ROOT" => "CERTIFICATE_UNKNOWN_ROOT".into(),
        word if ["CERTIFICATE_", "CHAIN_", "CHALLENGE_", "NUMBERS_"]
            .iter()
            .any(|start| word.starts_with(start)) =>
        {
            words
        }
        word => format!("PROOF_{word}"),
    }
}

async fn refuses_all(topic: Topic, least: usize) {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut partners: BTreeMap<String, Partner> = BTreeMap::new();
    for name in ["wa.example", "signal.example", "threema.example"] {
        partners.insert(name.into(), served.ap(name).await);
    }
    let mut wrong = Vec::new();
    let (mut tried, mut siis) = (0, Vec::new());
    for case in cases(topic).into_iter().filter(|case| case.expect != "ok") {
        let partner = partners.get_mut(&case.provider).unwrap();
        let claim = case.claim(&served, topic).await;
        scene.set_time(case.now_s);
        let refused = reason(partner.claim(claim).await);
        // What is longer than any message never comes to be a proof.
        let too_long = case.expect == "TooLarge" && refused == "MESSAGE_TOO_LONG";
        // An empty token is no proof at all.
        let missing = case.name == "empty" && refused == "FIELD_MISSING";
        if refused != expected(&case.expect) && !too_long && !missing {
            wrong.push(format!("{}: {refused}, not {}", case.name, case.expect));
        }
        (tried, siis) = (tried + 1, [siis, vec![sii(&case.sii)]].concat());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried >= least, "{tried}");
    scene.set_time(NOW_S);
    siis.sort();
    siis.dedup();
    for sii in siis {
        assert!(served.lookup(&sii).await.is_empty());
    }
    served.is_clean(0).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_token_is_refused_with_its_reason_and_changes_nothing() {
    refuses_all(Topic::Tokens, 80).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_passport_is_refused_with_its_reason_and_changes_nothing() {
    refuses_all(Topic::Passports, 80).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_id_token_is_refused_with_its_reason_and_changes_nothing() {
    refuses_all(Topic::Identities, 45).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_good_proof_claims_once() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut claimed = 0;
    for topic in [Topic::Tokens, Topic::Passports, Topic::Identities] {
        for case in cases(topic).into_iter().filter(|case| case.expect == "ok") {
            // The RFC's own are from another time, when no client looked.
            if case.now_s < NOW_S - 86_400 {
                continue;
            }
            scene.set_time(case.now_s);
            let mut partner = served.ap(&case.provider).await;
            let claim = case.claim(&served, topic).await;
            match partner.claim(claim.clone()).await {
                Ok(_) => claimed += 1,
                // The other form of a signature is the same proof.
                Err(status) => assert_eq!(reason::<()>(Err(status)), "PROOF_USED", "{}", case.name),
            }
            let again = reason(partner.claim(claim).await);
            let used = if topic == Topic::Tokens { "PROOF_USED" } else { "CHALLENGE_UNKNOWN" };
            assert_eq!(again, used, "{}", case.name);
        }
    }
    assert!(claimed >= 20, "{claimed}");
    scene.set_time(NOW_S);
    let found = served.found(&sii("tel:+12015550123")).await;
    assert_eq!(found, ["mallory@signal.example", "mallory@threema.example", "mallory@wa.example"]);
    served.stop().await;
}
