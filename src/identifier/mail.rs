//! E-mail addresses: `mailto:local@domain`.
//!
//! The local part is a dot-atom of RFC 5322 (section 3.2.3), with the non-ASCII
//! characters of RFC 6531. Dots and `+tags` are kept: what they mean is the
//! mail provider's affair. Not supported, because no second spelling of one
//! address may exist: quoted local parts, percent signs, header fields.

use zeroize::Zeroizing;

use super::{IdentifierError, MAX_ADDRESS_BYTES, SiiKind, domain, text};

/// Longest local part, in bytes (RFC 5321 section 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;

/// Canonicalises an address, its scheme already split off.
pub(super) fn parse(address: &str) -> Result<Zeroizing<String>, IdentifierError> {
    let (local, domain) = address.rsplit_once('@').ok_or(IdentifierError::AddressNoAt)?;
    if local.is_empty() {
        return Err(IdentifierError::AddressNoLocal);
    }
    if local.starts_with('"') {
        return Err(IdentifierError::MailQuoted);
    }
    if address.contains('?') {
        return Err(IdentifierError::MailQuery);
    }
    if address.contains('%') {
        return Err(IdentifierError::MailPercent);
    }
    // Checked after folding: normalisation turns U+037E into a semicolon.
    let local = text::fold(local);
    if !local.chars().all(|c| c == '.' || is_atext(c)) {
        return Err(IdentifierError::MailCharacter);
    }
    if local.split('.').any(str::is_empty) {
        return Err(IdentifierError::MailDot);
    }
    let domain = domain::to_ascii(domain)?;
    if local.len() > MAX_LOCAL_BYTES || local.len() + 1 + domain.len() > MAX_ADDRESS_BYTES {
        return Err(IdentifierError::AddressTooLong);
    }
    Ok(Zeroizing::new([SiiKind::Mailto.scheme(), &local, "@", &domain].concat()))
}

/// `atext` of RFC 5322 section 3.2.3 without `%` and `?`, and RFC 6531
/// section 3.3's non-ASCII characters.
fn is_atext(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_alphanumeric() || "!#$&'*+-/=^_`{|}~".contains(c)
    } else {
        !text::is_forbidden(c)
    }
}
