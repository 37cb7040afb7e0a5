//! Limits, token keys, and the issuing of tokens.

use bytes::Bytes;
use ed25519_dalek::{SigningKey, VerifyingKey};
use prost::Message as _;

use super::{SignedBody, WireError, array, proto, signed::Kind};
use crate::{
    bucket::DirectoryId,
    token::{Day, PublicKey, SIGNATURE_BYTES},
};

/// Most tokens that are issued in one call.
pub const MAX_ISSUED: usize = 256;

/// Most keys of a list: of yesterday, today and tomorrow, and one to spare.
const MAX_KEYS: usize = 4;

/// The token keys of a directory: one list for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKeys {
    /// Whose.
    pub directory: DirectoryId,
    /// Ascending by day.
    pub keys: Vec<(Day, PublicKey)>,
}

impl TokenKeys {
    /// Signs the list.
    #[must_use]
    pub fn sign(&self, identity: &SigningKey) -> SignedBody {
        let key = |(day, key): &(Day, PublicKey)| proto::TokenKey {
            day: day.number(),
            public_key: Bytes::copy_from_slice(key.encoded()),
        };
        let body = proto::TokenKeys {
            directory_id: Bytes::copy_from_slice(self.directory.as_bytes()),
            keys: self.keys.iter().map(key).collect(),
        };
        SignedBody::sign(Kind::TokenKeys, body.encode_to_vec(), identity)
    }

    /// Verifies a list, and only then decodes it.
    ///
    /// # Errors
    /// The signature is not the directory's, or the list is none.
    pub fn verify(signed: &SignedBody, identity: &VerifyingKey) -> Result<Self, WireError> {
        signed.verify(Kind::TokenKeys, identity)?;
        let body = proto::TokenKeys::decode(signed.body.as_ref())
            .map_err(|_| WireError::Encoding("token keys"))?;
        let directory = DirectoryId::from_bytes(array("directory_id", &body.directory_id)?);
        if directory != DirectoryId::of(identity) {
            let rule = "must be that of the identity key";
            return Err(WireError::Rule { field: "directory_id", rule });
        }
        let ascending = body.keys.is_sorted_by(|one, next| one.day < next.day);
        if body.keys.len() > MAX_KEYS || !ascending {
            let rule = "must be at most four, ascending by day";
            return Err(WireError::Rule { field: "keys", rule });
        }
        let key = |key: proto::TokenKey| {
            let rule = "must be an RSASSA-PSS key of 2048 bits";
            let public = PublicKey::decode(&key.public_key)
                .map_err(|_| WireError::Rule { field: "keys.public_key", rule })?;
            Ok((Day::new(key.day), public))
        };
        let keys = body.keys.into_iter().map(key).collect::<Result<_, _>>()?;
        Ok(Self { directory, keys })
    }

    /// The key of a day.
    #[must_use]
    pub fn key(&self, day: Day) -> Option<&PublicKey> {
        self.keys.iter().find(|(of, _)| *of == day).map(|(_, key)| key)
    }
}

impl From<SignedBody> for proto::GetTokenKeysResponse {
    fn from(signed: SignedBody) -> Self {
        Self { body: signed.body, signature: signed.signature.to_vec().into() }
    }
}

impl TryFrom<proto::GetTokenKeysResponse> for SignedBody {
    type Error = WireError;

    fn try_from(response: proto::GetTokenKeysResponse) -> Result<Self, WireError> {
        Self::from_parts(response.body, &response.signature)
    }
}

/// Blinded messages to sign, or the signatures: so many of [`SIGNATURE_BYTES`].
fn pieces(field: &'static str, bytes: &[u8]) -> Result<Vec<[u8; SIGNATURE_BYTES]>, WireError> {
    let (pieces, rest) = bytes.as_chunks::<SIGNATURE_BYTES>();
    if !(1..=MAX_ISSUED).contains(&pieces.len()) || !rest.is_empty() {
        return Err(WireError::Rule { field, rule: "must be 1 to 256 of 256 bytes" });
    }
    Ok(pieces.to_vec())
}

/// Asks for blind signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct IssueTokens {
    /// Under the key of which day.
    pub day: Day,
    /// 1 to [`MAX_ISSUED`].
    pub blinded: Vec<[u8; SIGNATURE_BYTES]>,
}

impl TryFrom<proto::IssueTokensRequest> for IssueTokens {
    type Error = WireError;

    fn try_from(request: proto::IssueTokensRequest) -> Result<Self, WireError> {
        let blinded = pieces("blinded_messages", &request.blinded_messages)?;
        Ok(Self { day: Day::new(request.day), blinded })
    }
}

impl From<IssueTokens> for proto::IssueTokensRequest {
    fn from(issue: IssueTokens) -> Self {
        let blinded_messages = issue.blinded.into_flattened().into();
        Self { day: issue.day.number(), blinded_messages }
    }
}

/// A limit as the directory tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitTold {
    /// In 86,400 seconds.
    pub per_day: u64,
    /// At once.
    pub burst: u64,
    /// How many could be asked now; unknown of a limit that many share.
    pub available: Option<u64>,
    /// In how many seconds the burst is whole again; unknown with it.
    pub full_in_s: Option<u64>,
}

/// The limits of whoever asked. One that is absent does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsTold {
    /// Evaluated elements.
    pub elements: Option<LimitTold>,
    /// Bytes of buckets.
    pub bucket_bytes: Option<LimitTold>,
    /// Tokens for users.
    pub tokens: Option<LimitTold>,
    /// Queries for rows.
    pub pir_queries: Option<LimitTold>,
    /// Whether evaluations are paid with tokens.
    pub tokens_required: bool,
    /// How many elements a token pays.
    pub elements_per_token: u32,
}

impl From<proto::GetLimitsResponse> for LimitsTold {
    fn from(response: proto::GetLimitsResponse) -> Self {
        let told = |limit: proto::Limit| {
            let proto::Limit { per_day, burst, available, full_in_s } = limit;
            LimitTold { per_day, burst, available, full_in_s }
        };
        Self {
            elements: response.elements.map(told),
            bucket_bytes: response.bucket_bytes.map(told),
            tokens: response.tokens.map(told),
            pir_queries: response.pir_queries.map(told),
            tokens_required: response.tokens_required,
            elements_per_token: response.elements_per_token,
        }
    }
}

/// The blind signatures of an answer to `asked` messages.
///
/// # Errors
/// There are more or fewer, or some are cut.
pub fn issued_from_proto(
    response: &proto::IssueTokensResponse,
    asked: usize,
) -> Result<Vec<[u8; SIGNATURE_BYTES]>, WireError> {
    let signatures = pieces("blind_signatures", &response.blind_signatures)?;
    let (expected, got) = (asked, signatures.len());
    if got == expected {
        Ok(signatures)
    } else {
        Err(WireError::Length { field: "blind_signatures", expected, got })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::SecretKey;

    #[test]
    fn a_signed_list_is_read_by_its_own_directory_only() {
        let identity = SigningKey::from_bytes(&[1; 32]);
        let key = SecretKey::generate(&mut rand::rng()).unwrap().public().clone();
        let directory = DirectoryId::of(&identity.verifying_key());
        let list = |days: &[u32]| TokenKeys {
            directory,
            keys: days.iter().map(|day| (Day::new(*day), key.clone())).collect(),
        };
        let signed = list(&[7, 8]).sign(&identity);
        let verify = |signed: &SignedBody| TokenKeys::verify(signed, &identity.verifying_key());
        assert_eq!(verify(&signed), Ok(list(&[7, 8])));
        assert_eq!(verify(&signed).unwrap().key(Day::new(8)), Some(&key));
        assert_eq!(verify(&signed).unwrap().key(Day::new(9)), None);
        for bad in [list(&[8, 7]), list(&[7, 7]), list(&[1, 2, 3, 4, 5])] {
            assert_eq!(verify(&bad.sign(&identity)).unwrap_err().field(), "keys");
        }
        let foreign = list(&[7]).sign(&SigningKey::from_bytes(&[2; 32]));
        assert_eq!(verify(&foreign), Err(WireError::Signature("token keys")));
        let other = TokenKeys { directory: DirectoryId::from_bytes([9; 16]), ..list(&[7]) };
        assert_eq!(verify(&other.sign(&identity)).unwrap_err().field(), "directory_id");
    }

    #[test]
    fn only_whole_messages_are_issued_and_at_most_256() {
        for bytes in [0, 1, 255, 256, 257, 512, 256 * 256, 256 * 257] {
            let request =
                proto::IssueTokensRequest { day: 1, blinded_messages: vec![0; bytes].into() };
            let whole = [256, 512, 256 * 256].contains(&bytes);
            assert_eq!(IssueTokens::try_from(request).is_ok(), whole, "{bytes}");
            let response = proto::IssueTokensResponse { blind_signatures: vec![0; bytes].into() };
            assert_eq!(issued_from_proto(&response, 2).is_ok(), bytes == 512, "{bytes}");
        }
    }
}
