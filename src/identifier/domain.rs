//! Domains: UTS 46 to ASCII, non-transitional, with the DNS's lengths.

use std::borrow::Cow;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::IdentifierError;

/// The domain's lower-case ASCII form. One label is enough (`localhost` is a
/// name), a trailing dot or an underscore is not allowed.
pub(super) fn to_ascii(domain: &str) -> Result<Cow<'_, str>, IdentifierError> {
    if domain.starts_with('[') || domain.contains(':') {
        // RFC 5321 section 4.1.3 and RFC 3986 section 3.2.2: address literals.
        return Err(IdentifierError::DomainIsAddress);
    }
    let ascii = Uts46::new()
        .to_ascii(
            domain.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Verify,
        )
        .map_err(|_| IdentifierError::Domain)?;
    // No top-level domain is a number (RFC 3696 section 2): this is an IPv4 address.
    let last = ascii.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(IdentifierError::DomainIsAddress);
    }
    Ok(ascii)
}
