//! Signed tokens in JWS compact form (RFC 7515 section 7.1), read strictly:
//! bounded, base64url without padding or stray bits, no field twice.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::DeserializeOwned, de::IgnoredAny};
use zeroize::Zeroizing;

use super::{CLOCK_SKEW_S, ProofError};

/// Longest token that is read.
pub(super) const MAX_TOKEN_BYTES: usize = 8192;

/// The parts of a token. Nothing of it is believed yet.
pub(super) struct Compact<'a> {
    /// What the signature covers: header, dot, payload, as they arrived.
    pub(super) signing_input: &'a str,
    header: Vec<u8>,
    payload: Zeroizing<Vec<u8>>,
    pub(super) signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    /// Takes a token apart.
    pub(super) fn split(token: &'a str) -> Result<Self, ProofError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(ProofError::TooLarge);
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(ProofError::Form)?;
        let (header, payload) = signing_input.split_once('.').ok_or(ProofError::Form)?;
        // The unsigned form (RFC 7515 appendix A.5) and RFC 8225's compact form,
        // whose header and payload the reader has to guess, lack a part.
        if header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(ProofError::Form);
        }
        Ok(Self {
            signing_input,
            header: decode(header)?,
            payload: Zeroizing::new(decode(payload)?),
            signature: decode(signature)?,
        })
    }

    /// Reads the header as one kind of token has it.
    pub(super) fn header<H: DeserializeOwned>(&self) -> Result<H, ProofError> {
        serde_json::from_slice(&self.header).map_err(|_| ProofError::Header)
    }

    /// Reads the claims as one kind of token has them.
    pub(super) fn claims<C: DeserializeOwned>(&self) -> Result<C, ProofError> {
        serde_json::from_slice(&self.payload).map_err(|_| ProofError::Claims)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, ProofError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| ProofError::Form)
}

/// Header parameters by which a token would choose its own key, or change how it
/// is read (RFC 7515 sections 4.1.2 to 4.1.6 and 4.1.11, RFC 7797, RFC 7516).
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Forbidden {
    jku: Option<IgnoredAny>,
    jwk: Option<IgnoredAny>,
    x5c: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
    zip: Option<IgnoredAny>,
}

impl Forbidden {
    /// Refuses a header that has any; `x5u` only where it has no business.
    pub(super) const fn check(&self, x5u_ignored: bool) -> Result<(), ProofError> {
        let any = self.jku.is_some()
            || self.jwk.is_some()
            || self.x5c.is_some()
            || (self.x5u.is_some() && !x5u_ignored)
            || self.crit.is_some()
            || self.b64.is_some()
            || self.zip.is_some();
        if any { Err(ProofError::HeaderParameter) } else { Ok(()) }
    }
}

/// Refuses what is signed in the future, but for the clocks' skew.
pub(super) const fn not_from_the_future(iat_s: u64, now_s: u64) -> Result<(), ProofError> {
    if iat_s > now_s.saturating_add(CLOCK_SKEW_S) { Err(ProofError::NotYetValid) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(token: &str) -> ProofError {
        Compact::split(token).err().unwrap()
    }

    #[test]
    fn what_is_no_compact_jws_is_refused() {
        for token in ["", ".", "..", "a.b", "YQ.YQ.", ".YQ.YQ", "YQ..YQ", "YQ.YQ.YQ.YQ", "..YQ"] {
            assert!(matches!(fault(token), ProofError::Form), "{token}");
        }
        // Padding, the other alphabet, white space, bits behind the last byte.
        for part in ["YQ==", "+/+/", " YQ", "YQ\n", "YR", "Y"] {
            for token in [format!("{part}.YQ.YQ"), format!("YQ.{part}.YQ"), format!("YQ.YQ.{part}")]
            {
                assert!(matches!(fault(&token), ProofError::Form), "{token:?}");
            }
        }
        assert!(Compact::split("YQ.YQ.YQ").is_ok());
    }

    #[test]
    fn a_token_beyond_the_bound_is_not_read() {
        let token = format!("YQ.{}.YQ", "YWFh".repeat(MAX_TOKEN_BYTES / 4));
        assert!(matches!(fault(&token), ProofError::TooLarge));
    }

    #[test]
    fn a_name_that_stands_twice_is_refused() {
        #[derive(Deserialize)]
        struct Header {
            #[serde(rename = "alg")]
            _alg: String,
        }
        let encoded = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let token = format!("{}.YQ.YQ", encoded(r#"{"alg":"ES256","alg":"none"}"#));
        assert!(matches!(
            Compact::split(&token).unwrap().header::<Header>(),
            Err(ProofError::Header)
        ));
    }
}
