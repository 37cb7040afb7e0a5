//! The test vectors of RFC 9578, appendix B.2: key, challenge, blind signature
//! and token.

#![cfg(feature = "client")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use blindbook::token::{Challenge, Pass, PublicKey, SecretKey, TOKEN_BYTES, TOKEN_TYPE};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    #[serde(rename = "skS")]
    secret_key: String,
    #[serde(rename = "pkS")]
    public_key: String,
    #[serde(rename = "vectors")]
    all: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    token_challenge: String,
    token_request: String,
    token_response: String,
    token: String,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The key is text: PEM of PKCS#8.
fn secret_key(hex: &str) -> SecretKey {
    let pem = String::from_utf8(bytes(hex)).unwrap();
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let mut der = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("no base64"),
        };
        (bits, count) = (bits << 6 | u32::from(value), count + 6);
        if count >= 8 {
            count -= 8;
            der.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    SecretKey::decode(&der).unwrap()
}

/// The parts of an encoded challenge.
fn challenge(encoded: &[u8]) -> Challenge {
    assert_eq!(encoded[..2], TOKEN_TYPE.to_be_bytes());
    let length = usize::from(u16::from_be_bytes([encoded[2], encoded[3]]));
    let (issuer, rest) = encoded[4..].split_at(length);
    let (context, rest) = rest[1..].split_at(usize::from(rest[0]));
    let (length, origin) = rest.split_at(2);
    assert_eq!(usize::from(u16::from_be_bytes([length[0], length[1]])), origin.len());
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    Challenge::new(text(issuer), context, text(origin)).unwrap()
}

#[test]
fn the_vectors_of_the_rfc_hold() {
    let vectors: Vectors =
        serde_json::from_str(include_str!("vectors/token/rfc9578.json")).unwrap();
    let secret = secret_key(&vectors.secret_key);
    let public = PublicKey::decode(&bytes(&vectors.public_key)).unwrap();
    assert_eq!(secret.public(), &public);
    assert_eq!(secret.public().encoded(), bytes(&vectors.public_key));
    assert_eq!(vectors.all.len(), 2);
    for vector in &vectors.all {
        // TokenRequest: type, last byte of the key's id, blinded message.
        let request = bytes(&vector.token_request);
        assert_eq!(request[..2], TOKEN_TYPE.to_be_bytes());
        assert_eq!(request[2], public.id()[31]);
        let blinded = request[3..].try_into().unwrap();
        let response = secret.sign(blinded, &mut rand::rng()).unwrap();
        assert_eq!(response.as_slice(), bytes(&vector.token_response));
        // Token.
        let token: [u8; TOKEN_BYTES] = bytes(&vector.token).try_into().unwrap();
        let (pass, challenge) = (Pass::new(&token), challenge(&bytes(&vector.token_challenge)));
        pass.verify(&challenge, &public).unwrap();
        for at in [0, 33, 65, 97, 98, TOKEN_BYTES - 1] {
            let mut altered = token;
            altered[at] ^= 1;
            assert!(Pass::new(&altered).verify(&challenge, &public).is_err(), "{at}");
        }
    }
}
