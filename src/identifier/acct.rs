//! User ids: `acct:user@host` (RFC 7565).
//!
//! The user part keeps its case: RFC 7565 (section 4) compares by the case and
//! percent-encoding rules of RFC 3986 only, under which two users may differ in
//! case alone. Non-ASCII characters are accepted raw, normalised (NFC) and
//! percent-encoded as UTF-8.

use std::fmt::Write as _;

use zeroize::Zeroizing;

use super::{IdentifierError, MAX_ADDRESS_BYTES, SiiKind, domain, text};

/// Canonicalises `user@host`, its scheme already split off.
pub(super) fn parse(account: &str) -> Result<Zeroizing<String>, IdentifierError> {
    let (user, host) = account.rsplit_once('@').ok_or(IdentifierError::AddressNoAt)?;
    if user.is_empty() {
        return Err(IdentifierError::AddressNoLocal);
    }
    let host = domain::to_ascii(host)?;
    let user = canonical_user(user)?;
    if user.len() + 1 + host.len() > MAX_ADDRESS_BYTES {
        return Err(IdentifierError::AddressTooLong);
    }
    Ok(Zeroizing::new([SiiKind::Acct.scheme(), &user, "@", &host].concat()))
}

/// The user part in canonical form. An escaped ASCII character that may
/// not stand raw stays escaped (RFC 3986 section 6.2.2.2) and ends a run of
/// text that is normalised as one.
fn canonical_user(user: &str) -> Result<Zeroizing<String>, IdentifierError> {
    // Room for every byte escaped, so that no unwiped copy is left behind.
    let mut canonical = Zeroizing::new(String::with_capacity(user.len() * 3));
    let mut run = Zeroizing::new(Vec::with_capacity(user.len()));
    let mut bytes = user.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            if byte.is_ascii() && !may_stand_raw(byte) {
                return Err(IdentifierError::AcctCharacter);
            }
            run.push(byte);
            continue;
        }
        let byte = hex_pair(bytes.next(), bytes.next()).ok_or(IdentifierError::AcctEscape)?;
        if byte.is_ascii_control() {
            return Err(IdentifierError::AcctCharacter);
        } else if is_unreserved(byte) || !byte.is_ascii() {
            run.push(byte);
        } else {
            push_run(&mut canonical, &run)?;
            run.clear();
            push_escaped(&mut canonical, byte);
        }
    }
    push_run(&mut canonical, &run)?;
    // RFC 7565 section 7: userpart starts with unreserved / sub-delims.
    if canonical.starts_with('%') {
        return Err(IdentifierError::AcctEscape);
    }
    Ok(canonical)
}

fn push_run(canonical: &mut String, run: &[u8]) -> Result<(), IdentifierError> {
    let run = str::from_utf8(run).map_err(|_| IdentifierError::AcctEscape)?;
    for c in text::nfc(run).chars() {
        let mut buffer = [0; 4];
        if c.is_ascii() {
            // Normalisation makes a few ASCII characters, such as the semicolon.
            if !u8::try_from(c).is_ok_and(may_stand_raw) {
                return Err(IdentifierError::AcctCharacter);
            }
            canonical.push(c);
        } else if text::is_forbidden(c) {
            return Err(IdentifierError::AcctCharacter);
        } else {
            c.encode_utf8(&mut buffer).bytes().for_each(|byte| push_escaped(canonical, byte));
        }
    }
    Ok(())
}

fn push_escaped(canonical: &mut String, byte: u8) {
    // Upper-case hexadecimal: RFC 3986 section 6.2.2.1. A String takes every write.
    let _infallible = write!(canonical, "%{byte:02X}");
}

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// `unreserved` of RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// `unreserved / sub-delims`.
fn may_stand_raw(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=".contains(&byte)
}
