//! Service-independent identifiers in their one canonical form, and the
//! service-specific ones they map to.
//!
//! Client and registry both go through [`Sii::parse`], so the same person is
//! found whichever way an address was written down. Canonical forms:
//!
//! | input | canonical form |
//! |---|---|
//! | phone number, `tel:` URI (RFC 3966) | `tel:+` and the E.164 digits as libphonenumber prints them |
//! | e-mail address, `mailto:` | `mailto:local@domain`, case-folded, the domain in ASCII (UTS 46) |
//! | `acct:` URI (RFC 7565) | `acct:user@host`, the user's case kept, the host in ASCII (UTS 46) |
//!
//! An input without one of these schemes is an e-mail address when it holds an
//! `@`, else a phone number; a user id needs its `acct:`.
//!
//! ```
//! use blindbook::identifier::Sii;
//!
//! let region = Some("GB".parse()?);
//! assert_eq!(Sii::parse("020 7946 0018", region)?.as_str(), "tel:+442079460018");
//! assert_eq!(Sii::parse("Jos\u{e9}@B\u{fc}cher.example", None)?.as_str(),
//!            "mailto:jos\u{e9}@xn--bcher-kva.example");
//! # Ok::<(), blindbook::identifier::IdentifierError>(())
//! ```

mod acct;
mod domain;
mod error;
mod mail;
mod phone;
mod sample;
mod ssi;
mod text;

use std::{fmt, hash, str};

use zeroize::Zeroizing;

pub use error::IdentifierError;
pub use phone::Region;
pub use sample::{mobile_numbers, regions};
pub use ssi::{MAX_SSI_BYTES, Provider, Ssi, User};

/// Longest input that is looked at: room for every canonical form, its escapes
/// and visual separators.
const MAX_INPUT_BYTES: usize = 1024;

/// Longest `local@domain` or `user@host`, in bytes: the longest path of RFC 5321
/// (section 4.5.3.1.3) without its angle brackets.
const MAX_ADDRESS_BYTES: usize = 254;

/// What a service-independent identifier names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SiiKind {
    /// A phone number.
    Tel,
    /// An e-mail address.
    Mailto,
    /// A user id at a host.
    Acct,
}

impl SiiKind {
    const ALL: [Self; 3] = [Self::Tel, Self::Mailto, Self::Acct];

    /// The scheme with its colon, as canonical forms start with it.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Tel => "tel:",
            Self::Mailto => "mailto:",
            Self::Acct => "acct:",
        }
    }

    /// Splits off a known scheme; schemes are case-insensitive (RFC 3986
    /// section 3.1).
    fn split(input: &str) -> Option<(Self, &str)> {
        Self::ALL.into_iter().find_map(|kind| {
            let (scheme, rest) = input.split_at_checked(kind.scheme().len())?;
            scheme.eq_ignore_ascii_case(kind.scheme()).then_some((kind, rest))
        })
    }
}

/// A service-independent identifier in canonical form.
///
/// Zeroised when dropped; `Debug` prints its kind only, and there is no
/// `Display`, so that it cannot slip into a log.
#[derive(Clone)]
pub struct Sii {
    canonical: Zeroizing<Box<str>>,
    kind: SiiKind,
}

impl Sii {
    /// Canonicalises what a person or a file says. `region` is where a phone
    /// number without `+` is dialled; other inputs do not depend on it.
    ///
    /// # Errors
    /// The fault and what to do about it, never the value.
    pub fn parse(input: &str, region: Option<Region>) -> Result<Self, IdentifierError> {
        if input.len() > MAX_INPUT_BYTES {
            return Err(IdentifierError::TooLong);
        }
        let (kind, canonical) = match SiiKind::split(input) {
            Some((_, "")) => return Err(IdentifierError::Empty),
            Some((SiiKind::Tel, rest)) => (SiiKind::Tel, phone::parse_uri(rest, region)?),
            Some((SiiKind::Mailto, rest)) => (SiiKind::Mailto, mail::parse(rest)?),
            Some((SiiKind::Acct, rest)) => (SiiKind::Acct, acct::parse(rest)?),
            None if input.trim().is_empty() => return Err(IdentifierError::Empty),
            None if input.contains('@') => (SiiKind::Mailto, mail::parse(input)?),
            None => (SiiKind::Tel, phone::parse(input, region)?),
        };
        Ok(Self { canonical: Zeroizing::new(canonical.as_str().into()), kind })
    }

    /// Takes what [`Sii::parse`] gave out elsewhere: any other spelling of the
    /// same identifier is refused.
    ///
    /// # Errors
    /// [`IdentifierError::NotCanonical`] for another spelling; otherwise as
    /// [`Sii::parse`].
    pub fn from_canonical(canonical: &str) -> Result<Self, IdentifierError> {
        let sii = Self::parse(canonical, None)?;
        if sii.as_str() == canonical { Ok(sii) } else { Err(IdentifierError::NotCanonical) }
    }

    /// Takes back what this side canonicalised, stored and has just
    /// authenticated: nothing but the scheme is looked at, so that a number
    /// stays readable when later metadata would refuse it.
    #[cfg(any(feature = "client", feature = "server"))]
    pub(crate) fn from_stored(canonical: &str) -> Option<Self> {
        let (kind, _) = SiiKind::split(canonical)?;
        Some(Self { canonical: Zeroizing::new(canonical.into()), kind })
    }

    /// The canonical form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.canonical
    }

    /// The canonical form's bytes: what is hashed, blinded and signed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.canonical.as_bytes()
    }

    /// Whether a phone number belongs to one of these regions; an address belongs
    /// everywhere.
    #[must_use]
    pub fn is_in(&self, regions: &[Region]) -> bool {
        match self.as_str().strip_prefix(SiiKind::Tel.scheme()) {
            Some(number) => phone::is_in(number, regions),
            None => true,
        }
    }

    /// What it names.
    #[must_use]
    pub const fn kind(&self) -> SiiKind {
        self.kind
    }
}

impl AsRef<[u8]> for Sii {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Sii {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sii({}..)", self.kind.scheme())
    }
}

impl PartialEq for Sii {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Sii {}

impl PartialOrd for Sii {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sii {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl hash::Hash for Sii {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &str) -> Result<Sii, IdentifierError> {
        Sii::parse(input, None)
    }

    #[test]
    fn scheme_is_case_insensitive_and_chooses_the_kind() {
        for (input, kind, canonical) in [
            ("TEL:+1-415-555-2671", SiiKind::Tel, "tel:+14155552671"),
            ("MailTo:A@B.example", SiiKind::Mailto, "mailto:a@b.example"),
            ("ACCT:A@B.example", SiiKind::Acct, "acct:A@b.example"),
            ("A@B.example", SiiKind::Mailto, "mailto:a@b.example"),
            ("+1 415 555 2671", SiiKind::Tel, "tel:+14155552671"),
        ] {
            let sii = parse(input).unwrap();
            assert_eq!((sii.kind(), sii.as_str()), (kind, canonical), "{input}");
        }
    }

    #[test]
    fn nothing_to_read_is_empty() {
        for input in ["", " ", "\t", "tel:", "mailto:", "acct:"] {
            assert_eq!(parse(input), Err(IdentifierError::Empty), "{input:?}");
        }
    }

    #[test]
    fn overlong_input_is_refused_before_it_is_read() {
        let input = format!("{}@b.example", "a".repeat(MAX_INPUT_BYTES));
        assert_eq!(parse(&input), Err(IdentifierError::TooLong));
    }

    #[test]
    fn other_spellings_are_not_canonical() {
        for canonical in ["tel:+14155552671", "mailto:a@b.example", "acct:A@b.example"] {
            assert_eq!(Sii::from_canonical(canonical).unwrap().as_str(), canonical);
        }
        for other in ["+14155552671", "tel:+1-4155552671", "a@b.example", "mailto:A@b.example"] {
            assert_eq!(Sii::from_canonical(other), Err(IdentifierError::NotCanonical), "{other}");
        }
        assert_eq!(Sii::from_canonical("tel:4155552671"), Err(IdentifierError::RegionMissing));
    }

    #[test]
    fn a_number_belongs_to_its_region_and_an_address_everywhere() {
        let regions = |codes: &[&str]| -> Vec<Region> {
            codes.iter().map(|code| code.parse().unwrap()).collect()
        };
        for (number, inside, outside) in [
            ("+442079460018", "GB", "GG"),
            ("+16135550100", "CA", "US"),
            ("+14155550100", "US", "CA"),
            ("+4915112345678", "DE", "AT"),
        ] {
            let sii = parse(number).unwrap();
            assert!(sii.is_in(&regions(&[outside, inside])), "{number}");
            assert!(!sii.is_in(&regions(&[outside])), "{number}");
        }
        assert!(parse("a@b.example").unwrap().is_in(&[]));
        assert!(!parse("+80012345678").unwrap().is_in(&regions(&["DE"])));
        // An area code that is nobody's yet.
        let new = parse("+12115550100").unwrap();
        assert!(new.is_in(&regions(&["CA"])) && !new.is_in(&regions(&["GB"])));
    }

    #[test]
    fn debug_prints_the_kind_only() {
        let sii = parse("canary-of-some-length@canary.example").unwrap();
        assert_eq!(format!("{sii:?}"), "Sii(mailto:..)");
    }

    #[test]
    fn errors_never_repeat_the_value() {
        for input in [
            "+1415canary",
            "canary",
            "canary@@canary",
            "canary canary@x.example",
            "acct:canary",
            "canary@[canary]",
            "+999canary",
            "0800canary",
        ] {
            let error = parse(input).unwrap_err();
            assert!(!format!("{error} {error:?}").to_lowercase().contains("canary"), "{input}");
        }
    }
}
