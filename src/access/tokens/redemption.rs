//! When tokens pay a request.

use std::fmt;

use super::IssuerKeys;
use crate::{
    bucket::DirectoryId,
    token::{Challenge, Day, Pass, SpentName, TOKEN_BYTES, TokenError},
};

/// Tokens that are good, unless they were spent.
#[derive(Clone, PartialEq, Eq)]
pub struct Redeemed {
    /// The day of their key.
    pub day: Day,
    /// Which key that is.
    pub key_id: [u8; 32],
    /// What they are remembered by.
    pub names: Vec<SpentName>,
    /// What they pay for: a hash of all that was asked, tokens too.
    pub request: [u8; 32],
}

impl fmt::Debug for Redeemed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redeemed(..)")
    }
}

/// Verifies the tokens of a request, one after another in `tokens`: all of one
/// key that redeems now, no two alike, each signed for this directory and day.
///
/// # Errors
/// [`TokenError::Invalid`], whatever is wrong with whichever.
pub fn redeem(
    directory: &DirectoryId,
    keys: &IssuerKeys,
    now_s: u64,
    tokens: &[u8],
    asked: &[&[u8]],
) -> Result<Redeemed, TokenError> {
    let (chunks, rest) = tokens.as_chunks::<TOKEN_BYTES>();
    if !rest.is_empty() {
        return Err(TokenError::Invalid);
    }
    let passes: Vec<Pass> = chunks.iter().map(Pass::new).collect();
    let first = passes.first().ok_or(TokenError::Invalid)?;
    let redeeming = |(day, key): &(Day, &_)| {
        let key: &crate::token::PublicKey = key;
        day.redeems(now_s) && key.id().as_slice() == first.key_id()
    };
    let (day, key) = keys.public().find(redeeming).ok_or(TokenError::Invalid)?;
    let names: Vec<SpentName> = passes.iter().map(Pass::name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != names.len() {
        return Err(TokenError::Invalid);
    }
    let challenge = Challenge::of(directory.as_bytes(), day);
    passes.iter().try_for_each(|pass| pass.verify(&challenge, key))?;
    let mut hash = blake3::Hasher::new_derive_key("blindbook v1 token request");
    for part in asked.iter().copied().chain([tokens]) {
        hash.update(&(part.len() as u64).to_be_bytes()).update(part);
    }
    let (key_id, request) = (*key.id(), *hash.finalize().as_bytes());
    Ok(Redeemed { day, key_id, names, request })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::SecretKey;

    const NOW_S: u64 = 20_000 * 86_400 + 5;
    const DIRECTORY: DirectoryId = DirectoryId::from_bytes([1; 16]);

    fn issue(directory: &DirectoryId, day: Day, key: &SecretKey) -> Vec<u8> {
        let mut rng = rand::rng();
        let challenge = Challenge::of(directory.as_bytes(), day);
        let blinded = key.public().blind(&challenge, &mut rng).unwrap();
        let signature = key.sign(blinded.message().try_into().unwrap(), &mut rng).unwrap();
        blinded.finalize(&signature, key.public()).unwrap().expose().to_vec()
    }

    #[test]
    fn tokens_of_one_good_key_pay_and_any_others_do_not() {
        let today = Day::at(NOW_S);
        let days = [today.before().before(), today.before(), today];
        let mut keys = IssuerKeys::default();
        for day in days {
            keys.add(day, SecretKey::generate(&mut rand::rng()).unwrap());
        }
        let redeem = |tokens: &[u8]| redeem(&DIRECTORY, &keys, NOW_S, tokens, &[b"asked"]);
        let of = |day| issue(&DIRECTORY, day, keys.key(day).unwrap());
        let [expired, yesterday, one] = days.map(of);
        let other = of(today);
        assert_eq!(redeem(&one).unwrap().day, today);
        assert_eq!(redeem(&yesterday).unwrap().day, today.before());
        assert_eq!(redeem(&[&*one, &other].concat()).unwrap().names.len(), 2);

        let invalid = Err(TokenError::Invalid);
        assert_eq!(redeem(&[]), invalid);
        assert_eq!(redeem(&one[1..]), invalid);
        assert_eq!(redeem(&expired), invalid, "its key has expired");
        assert_eq!(redeem(&[&*one, &one].concat()), invalid, "one token pays once");
        assert_eq!(redeem(&[&*one, &yesterday].concat()), invalid, "of two keys");
        let theirs = SecretKey::generate(&mut rand::rng()).unwrap();
        assert_eq!(redeem(&issue(&DIRECTORY, today, &theirs)), invalid, "of another issuer");
        let elsewhere = DirectoryId::from_bytes([2; 16]);
        let key = keys.key(today).unwrap();
        assert_eq!(redeem(&issue(&elsewhere, today, key)), invalid, "for another directory");
        assert_eq!(redeem(&issue(&DIRECTORY, today.next(), key)), invalid, "for another day");
        let mut forged = one;
        forged[TOKEN_BYTES - 1] ^= 1;
        assert_eq!(redeem(&forged), invalid);

        assert_eq!(keys.expire(NOW_S), [days[0]]);
        assert!(keys.key(days[0]).is_none() && keys.key(days[1]).is_some());
        assert!(keys.issuing(today, NOW_S).is_some());
        assert!(keys.issuing(days[1], NOW_S).is_none(), "it redeems and issues no more");
    }

    #[test]
    fn a_request_is_all_that_was_asked() {
        let today = Day::at(NOW_S);
        let mut keys = IssuerKeys::default();
        keys.add(today, SecretKey::generate(&mut rand::rng()).unwrap());
        let token = issue(&DIRECTORY, today, keys.key(today).unwrap());
        let hash =
            |asked: &[&[u8]]| redeem(&DIRECTORY, &keys, NOW_S, &token, asked).unwrap().request;
        let request = hash(&[b"epoch", b"elements"]);
        assert_eq!(hash(&[b"epoch", b"elements"]), request);
        for other in [[b"epochs".as_slice(), b"elements"], [b"epoc", b"helements"]] {
            assert_ne!(hash(&other), request);
        }
        // Nor is the same split into other parts, as of a query and an evaluation.
        let parts: [&[&[u8]]; 4] = [
            &[b"epochelements"],
            &[b"epoch", b"elem", b"ents"],
            &[b"epoch", b"", b"elements"],
            &[b"query", b"epoch", b"elements"],
        ];
        for other in parts {
            assert_ne!(hash(other), request);
        }
    }
}
