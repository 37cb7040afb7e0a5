//! Proofs of control: tokens, certificates, number lists and keys, as strangers
//! hand them in.
//!
//! Input: one byte that chooses what is read, then its bytes. Tokens are also
//! signed here, so that what lies behind the signature is reached: header, a byte
//! 0xff, claims. Only a proof that says just this identifier and provider, now, is
//! taken, and none once a byte differs.

#![no_main]

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use blindbook::{
    bucket::DirectoryId,
    identifier::{Provider, Sii},
    registry::proof::{
        Challenge, Challenges, IdentityIssuer, IdentityIssuers, IssuerKeys, MemoryPending,
        PassportRules, Proof, ProofError, Proofs, Proven, TnAuthList, TokenIssuers, TokenKey,
        TrustAnchors, VerificationAddress,
    },
};
use libfuzzer_sys::{Corpus, fuzz_target};
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};
use rand::{TryCryptoRng, TryRng, rand_core::Infallible};
use tokio::runtime::{Builder, Runtime};

const NOW_S: u64 = 1_800_000_000;
const NUMBER: &str = "tel:+12015550123";
const MAIL: &str = "mailto:alice@mail.example";

/// A root whose key is 3, and its signer for all numbers +1 201 555 xxxx, whose
/// key is [`SIGNING`]'s.
const ROOT: &[u8] = include_bytes!("../seeds/proof/root.der");
const SIGNER: &[u8] = include_bytes!("../seeds/proof/signer.der");

static SIGNING: LazyLock<SigningKey> = LazyLock::new(|| {
    let mut scalar = [0; 32];
    scalar[31] = 5;
    SigningKey::from_slice(&scalar).expect("5 is a scalar")
});

static KEY: LazyLock<TokenKey> =
    LazyLock::new(|| TokenKey::from_jwk(&jwk("")).expect("a key on the curve"));

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime starts"));

fn jwk(more: &str) -> String {
    let point = SIGNING.verifying_key().to_sec1_point(false);
    let (x, y) = point.as_bytes()[1..].split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"{more}}}"#)
}

/// Always the same challenge.
struct Fixed;

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(0)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(0);
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Token,
    Passport,
    Identity,
}

fn proofs() -> Proofs {
    let provider = provider();
    let mut tokens = TokenIssuers::default();
    tokens.trust(DirectoryId::from_bytes([0xa0; 16]), KEY.clone()).expect("the first key");
    let anchors = TrustAnchors::from_der(vec![ROOT.to_vec()]).expect("a root");
    let address = VerificationAddress::parse("+12015559000").expect("an address");
    let passports = PassportRules::new(anchors, BTreeMap::from([(provider.clone(), address)]));
    let keys = format!(r#"{{"keys":[{}]}}"#, jwk(r#","kid":"a""#));
    let issuer = IdentityIssuer::new(
        "https://id.example",
        IssuerKeys::from_jwks(&keys).expect("a key set"),
        &["mail.example"],
        BTreeMap::from([(provider, "client".into())]),
    );
    Proofs::new(
        Challenges::new(Arc::new(MemoryPending::new(100)), 300, 10).expect("in range"),
        tokens,
        passports.expect("one address"),
        IdentityIssuers::new(vec![issuer.expect("an issuer")]).expect("one issuer"),
    )
}

fn provider() -> Provider {
    Provider::parse("wa.example").expect("a provider")
}

/// Verifies under a fresh challenge; gives what two tries of one challenge say.
fn verify(kind: Kind, token: &str, chain: &[Vec<u8>]) -> Result<Proven, ProofError> {
    let sii = Sii::parse(if kind == Kind::Identity { MAIL } else { NUMBER }, None);
    let (sii, provider, proofs) = (sii.expect("an identifier"), provider(), proofs());
    RUNTIME.block_on(async {
        let opened = proofs.challenges().open(&sii, &provider, NOW_S - 5, &mut Fixed).await;
        let (challenge, _) = opened.expect("the first challenge");
        let token = token.to_owned();
        let proof = match kind {
            Kind::Token => Proof::Token(token),
            Kind::Passport => Proof::Passport { challenge, token, chain: chain.to_vec() },
            Kind::Identity => Proof::Identity { challenge, token },
        };
        let verified = proofs.verify(&proof, &sii, &provider, NOW_S).await;
        if let Ok(control) = &verified {
            assert_eq!((control.sii(), control.provider()), (&sii, &provider));
            assert!(control.proof_time_s() <= NOW_S + 5 && control.expires_s() > NOW_S);
            let again = proofs.verify(&proof, &sii, &provider, NOW_S).await;
            match again {
                Ok(again) => {
                    assert!(kind == Kind::Token, "a challenge was answered twice");
                    assert_eq!(again.proof_id(), control.proof_id());
                }
                Err(error) => assert!(matches!(error, ProofError::ChallengeUnknown)),
            }
        }
        verified
    })
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((choice, bytes)) = data.split_first() else { return Corpus::Reject };
    let signer = [SIGNER.to_vec()];
    match choice % 8 {
        0 => unsigned(bytes),
        1 => signed(Kind::Token, bytes, &signer),
        2 => signed(Kind::Passport, bytes, &signer),
        3 => signed(Kind::Identity, bytes, &signer),
        4 => certificate(bytes),
        5 => numbers(bytes),
        6 => keys(bytes),
        _ => challenge(bytes),
    }
    Corpus::Keep
});

/// Bytes as they come; among the seeds is a good claim token, and nothing else
/// that is signed.
fn unsigned(bytes: &[u8]) {
    let Ok(token) = str::from_utf8(bytes) else { return };
    for kind in [Kind::Token, Kind::Passport, Kind::Identity] {
        let verified = verify(kind, token, &[SIGNER.to_vec()]);
        assert!(kind == Kind::Token || verified.is_err(), "a signature was forged");
    }
}

fn signed(kind: Kind, bytes: &[u8], chain: &[Vec<u8>]) {
    let Some(at) = bytes.iter().position(|byte| *byte == 0xff) else { return };
    let (header, claims) = (&bytes[..at], &bytes[at + 1..]);
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature: Signature = SIGNING.sign(input.as_bytes());
    let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()));
    match verify(kind, &token, chain) {
        Ok(_) => {
            let altered = format!("{input}A.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()));
            assert!(verify(kind, &altered, chain).is_err(), "signed bytes do not matter");
            // It says for whom, so it is no proof of another kind.
            for other in [Kind::Token, Kind::Passport, Kind::Identity] {
                assert!(
                    other == kind || verify(other, &token, chain).is_err(),
                    "two kinds at once"
                );
            }
        }
        Err(error) => assert!(!matches!(error, ProofError::Signature | ProofError::Pending(_))),
    }
}

/// A certificate as signer, as authority above one, and as root.
fn certificate(bytes: &[u8]) {
    let header = br#"{"alg":"ES256","typ":"passport"}"#;
    let claims = format!(
        r#"{{"dest":{{"tn":["12015559000"]}},"iat":{NOW_S},"orig":{{"tn":"12015550123"}}}}"#
    );
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature: Signature = SIGNING.sign(input.as_bytes());
    let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()));
    let (given, signer, root) = (bytes.to_vec(), SIGNER.to_vec(), ROOT.to_vec());
    assert!(verify(Kind::Passport, &token, &[signer.clone()]).is_ok());
    for chain in [vec![given.clone()], vec![signer, given.clone()], vec![given.clone(), root]] {
        let _ = verify(Kind::Passport, &token, &chain);
    }
    let _ = TrustAnchors::from_der(vec![given]);
}

fn numbers(bytes: &[u8]) {
    match TnAuthList::from_der(bytes) {
        Ok(list) => {
            let longer = [bytes, &[0]].concat();
            assert!(TnAuthList::from_der(&longer).is_err(), "trailing bytes were taken");
            assert!(!list.covers("") && !list.covers("1234567890123456") && !list.covers("12#"));
        }
        Err(error) => assert!(matches!(
            error,
            ProofError::NumbersMalformed | ProofError::NumbersUnnamed | ProofError::TooLarge
        )),
    }
}

fn keys(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(key) = TokenKey::from_jwk(text) {
        assert_eq!(TokenKey::from_jwk(&key.to_jwk()).expect("was written here"), key);
    }
    let _ = IssuerKeys::from_jwks(text);
}

fn challenge(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(challenge) = Challenge::parse(text) {
        assert_eq!(challenge.nonce(), text, "a challenge has two spellings");
    }
    let _ = VerificationAddress::parse(text);
}
