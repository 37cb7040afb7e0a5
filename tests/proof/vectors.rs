//! Every vector ends as it says, and a refusal tells nothing of the proof.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use blindbook::{
    bucket::DirectoryId,
    registry::proof::{
        Challenge, Challenges, CodeLimits, Codes, IdentityIssuer, IdentityIssuers, IssuerKeys,
        PassportRules, Proof, ProofError, ProofKind, Proofs, Proven, TokenIssuers, TokenKey,
        TokenSigner, TrustAnchors, VerificationAddress,
    },
    secret::Secret,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::support::{Given, NOW_S, Outbox, name, pending, provider, sii};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    sii: String,
    provider: String,
    token: String,
    #[serde(default)]
    chain: Vec<String>,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    issued_s: u64,
    now_s: u64,
    expect: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tokens {
    issuers: Vec<TokenIssuer>,
    minted: Minted,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct TokenIssuer {
    directory: String,
    jwk: Value,
}

#[derive(Deserialize)]
struct Minted {
    now_s: u64,
    seed: String,
    jti: String,
    jwk: Value,
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Passports {
    roots: Vec<String>,
    addresses: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identities {
    issuers: Vec<Issuer>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Issuer {
    url: String,
    jwks: Value,
    domains: Vec<String>,
    clients: BTreeMap<String, String>,
}

fn read<T: DeserializeOwned>(topic: &str) -> T {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/proof");
    serde_json::from_str(&fs::read_to_string(folder.join(topic)).unwrap()).unwrap()
}

fn hex<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap();
    }
    bytes
}

fn token_issuers(vectors: &Tokens) -> TokenIssuers {
    let mut issuers = TokenIssuers::default();
    for issuer in &vectors.issuers {
        let key = TokenKey::from_jwk(&issuer.jwk.to_string()).unwrap();
        issuers.trust(DirectoryId::from_bytes(hex(&issuer.directory)), key).unwrap();
    }
    issuers
}

fn passport_rules(vectors: &Passports) -> PassportRules {
    let roots = vectors.roots.iter().map(|root| STANDARD.decode(root).unwrap()).collect();
    let addresses = vectors
        .addresses
        .iter()
        .map(|(name, address)| (provider(name), VerificationAddress::parse(address).unwrap()));
    PassportRules::new(TrustAnchors::from_der(roots).unwrap(), addresses.collect()).unwrap()
}

fn identity_issuers(vectors: &Identities) -> IdentityIssuers {
    let issuers = vectors.issuers.iter().map(|issuer| {
        let keys = IssuerKeys::from_jwks(&issuer.jwks.to_string()).unwrap();
        let domains: Vec<&str> = issuer.domains.iter().map(String::as_str).collect();
        let clients =
            issuer.clients.iter().map(|(name, client)| (provider(name), client.clone())).collect();
        IdentityIssuer::new(&issuer.url, keys, &domains, clients).unwrap()
    });
    IdentityIssuers::new(issuers.collect()).unwrap()
}

/// All kinds of proof count, whichever is tried.
fn proofs() -> Proofs {
    Proofs::new(
        Challenges::new(pending(), 300, 1000).unwrap(),
        token_issuers(&read("tokens.json")),
        passport_rules(&read("passports.json")),
        identity_issuers(&read("identities.json")),
    )
}

/// Gives the challenge that the vector was made for, then verifies its proof.
async fn outcome(kind: ProofKind, case: &Case) -> Result<Proven, ProofError> {
    let proofs = proofs();
    let (sii, provider) = (sii(&case.sii), provider(&case.provider));
    let token = case.token.clone();
    let challenge = || Challenge::parse(&case.challenge).unwrap();
    if kind != ProofKind::Token {
        let bytes =
            base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&case.challenge).unwrap();
        let mut rng = Given::new(&bytes);
        let (given, _) =
            proofs.challenges().open(&sii, &provider, case.issued_s, &mut rng).await.unwrap();
        assert_eq!(given.nonce(), case.challenge);
    }
    let proof = match kind {
        ProofKind::Token => Proof::Token(token),
        ProofKind::Passport => {
            let chain = case.chain.iter().map(|der| STANDARD.decode(der).unwrap()).collect();
            Proof::Passport { challenge: challenge(), token, chain }
        }
        ProofKind::Identity => Proof::Identity { challenge: challenge(), token },
    };
    let verified = proofs.verify(&proof, &sii, &provider, case.now_s).await;
    if kind != ProofKind::Token {
        // Right answers use a challenge up, wrong ones do not.
        let again = proofs.verify(&proof, &sii, &provider, case.now_s).await.err();
        let expected = match &verified {
            Ok(_) => "ChallengeUnknown".to_owned(),
            Err(error) => name(error),
        };
        assert_eq!(again.map(|error| name(&error)), Some(expected), "{}: again", case.name);
    }
    verified
}

async fn check(kind: ProofKind, cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let found = match outcome(kind, case).await {
            Ok(control) => {
                assert_eq!(control.sii().as_str(), case.sii, "{}", case.name);
                assert_eq!(control.provider().as_str(), case.provider, "{}", case.name);
                assert_eq!(control.kind(), kind);
                assert!(control.proof_time_s() <= case.now_s + 5, "{}", case.name);
                assert!(control.expires_s() > case.now_s, "{}", case.name);
                assert!(!format!("{control:?}").contains("1201555"));
                "ok".to_owned()
            }
            Err(error) => {
                let text = format!("{error} {error:?}").to_lowercase();
                for secret in ["1201555", "alice", "client", &case.sii] {
                    assert!(!text.contains(secret), "{}: {text}", case.name);
                }
                let _ = error.fault();
                name(&error)
            }
        };
        if found != case.expect {
            wrong.push(format!("{}: {found}, not {}", case.name, case.expect));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_token_ends_as_its_vector_says() {
    let vectors: Tokens = read("tokens.json");
    assert!(vectors.cases.len() > 80);
    check(ProofKind::Token, &vectors.cases).await;
}

#[tokio::test]
async fn every_passport_ends_as_its_vector_says() {
    let vectors: Passports = read("passports.json");
    assert!(vectors.cases.len() > 100);
    check(ProofKind::Passport, &vectors.cases).await;
}

#[tokio::test]
async fn every_id_token_ends_as_its_vector_says() {
    let vectors: Identities = read("identities.json");
    assert!(vectors.cases.len() > 50);
    check(ProofKind::Identity, &vectors.cases).await;
}

/// What a ledger that records proof ids refuses: the same token, also with the
/// other form of its signature, and no other.
#[tokio::test]
async fn a_token_has_one_proof_id_however_its_signature_is_written() {
    let vectors: Tokens = read("tokens.json");
    let mut ids = BTreeMap::new();
    for case in vectors.cases.iter().filter(|case| case.expect == "ok") {
        let control = outcome(ProofKind::Token, case).await.unwrap();
        ids.insert(case.name.as_str(), *control.proof_id());
    }
    assert_eq!(ids["as it should be"], ids["second form of the signature"]);
    assert_eq!(ids["as it should be"], ids["last second"]);
    // The same jti by another directory is another proof.
    assert_ne!(ids["as it should be"], ids["by another trusted directory"]);
}

/// A call answers one challenge: put under a second one, it keeps its id.
#[tokio::test]
async fn a_passport_keeps_its_id_under_a_second_challenge() {
    let vectors: Passports = read("passports.json");
    let case = vectors.cases.iter().find(|case| case.name == "a call to our address").unwrap();
    let proofs = proofs();
    let (sii, provider) = (sii(&case.sii), provider(&case.provider));
    let mut ids = Vec::new();
    for first in [1, 2] {
        let mut rng = Given::new(&[first; 16]);
        let opened = proofs.challenges().open(&sii, &provider, case.issued_s, &mut rng).await;
        let (challenge, _) = opened.unwrap();
        let chain = case.chain.iter().map(|der| STANDARD.decode(der).unwrap()).collect();
        let proof = Proof::Passport { challenge, token: case.token.clone(), chain };
        ids.push(*proofs.verify(&proof, &sii, &provider, case.now_s).await.unwrap().proof_id());
    }
    assert_eq!(ids[0], ids[1]);
}

/// Python, from seed and jti: key derivation, JWK, thumbprint, JSON, signature.
#[tokio::test]
async fn our_signer_writes_what_an_independent_one_writes() {
    let minted = read::<Tokens>("tokens.json").minted;
    let seed = Secret::new(hex(&minted.seed));
    let directory = DirectoryId::from_bytes([0xa0; 16]);
    let signer = TokenSigner::from_seed(&seed, directory).unwrap();
    let published = TokenKey::from_jwk(&minted.jwk.to_string()).unwrap();
    assert_eq!(*signer.key(), published);
    assert_eq!(TokenKey::from_jwk(&signer.key().to_jwk()).unwrap(), published);

    let outbox = std::sync::Arc::new(Outbox::default());
    let key = Secret::new([7; 32]);
    let codes = Codes::new(pending(), outbox.clone(), key, CodeLimits::default()).unwrap();
    let (sii, provider) = (sii("tel:+12015550123"), provider("wa.example"));
    codes.start(&sii, &provider, NOW_S, &mut rand::rng()).await.unwrap();
    let confirmed = codes.finish(&sii, &provider, &outbox.code(), NOW_S).await.unwrap();
    let jti: [u8; 16] = hex(&minted.jti);
    let token = signer.mint(&confirmed, minted.now_s, &mut Given::new(&jti)).unwrap();
    assert_eq!(*token, minted.token);

    let mut issuers = TokenIssuers::default();
    issuers.trust(directory, published).unwrap();
    let proofs = Proofs::new(
        Challenges::new(pending(), 300, 10).unwrap(),
        issuers,
        PassportRules::default(),
        IdentityIssuers::default(),
    );
    let proof = Proof::Token(token.to_string());
    let control = proofs.verify(&proof, &sii, &provider, NOW_S + 599).await.unwrap();
    assert_eq!((control.proof_time_s(), control.expires_s()), (NOW_S, NOW_S + 600));
}

#[tokio::test]
async fn a_cut_or_changed_passport_or_certificate_is_refused() {
    let vectors: Passports = read("passports.json");
    let good = vectors.cases.iter().find(|case| case.name == "a call to our address").unwrap();
    let changed = |token: String, chain: Vec<String>| Case {
        name: "changed".into(),
        sii: good.sii.clone(),
        provider: good.provider.clone(),
        challenge: good.challenge.clone(),
        token,
        chain,
        expect: String::new(),
        ..*good
    };
    for at in (0..good.token.len()).step_by(7) {
        let mut token = good.token.clone().into_bytes();
        token[at] = if token[at] == b'A' { b'B' } else { b'A' };
        let token = String::from_utf8(token).unwrap();
        let case = changed(token, good.chain.clone());
        assert!(outcome(ProofKind::Passport, &case).await.is_err(), "{at}");
        let case = changed(good.token[..at].to_owned(), good.chain.clone());
        assert!(outcome(ProofKind::Passport, &case).await.is_err(), "{at}");
    }
    for certificate in 0..good.chain.len() {
        let der = STANDARD.decode(&good.chain[certificate]).unwrap();
        for at in (0..der.len()).step_by(5) {
            let mut der = der.clone();
            der[at] ^= 0x01;
            let mut chain = good.chain.clone();
            chain[certificate] = STANDARD.encode(der);
            let case = changed(good.token.clone(), chain);
            assert!(outcome(ProofKind::Passport, &case).await.is_err(), "{certificate}: {at}");
        }
    }
}
