//! The numbers and domains that an authority speaks for.

use super::AccessError;
use crate::identifier::{Sii, SiiKind};

/// Most digits of a number, ITU-T E.164.
const MAX_DIGITS: usize = 15;

/// Beginnings of phone numbers, and whole domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// As canonical identifiers begin: `tel:+1415`.
    numbers: Vec<String>,
    /// In ASCII, lower case.
    domains: Vec<String>,
}

impl Coverage {
    /// `numbers` are beginnings as `+1415`; `domains` hold just the addresses
    /// at themselves, none of their subdomains.
    ///
    /// # Errors
    /// [`AccessError::Number`], [`AccessError::Domain`], or
    /// [`AccessError::NoCoverage`] if there is none of either.
    pub fn new(numbers: &[String], domains: &[String]) -> Result<Self, AccessError> {
        if numbers.is_empty() && domains.is_empty() {
            return Err(AccessError::NoCoverage);
        }
        let number = |text: &String| {
            let digits = text.strip_prefix('+').unwrap_or_default();
            let right = (1..=MAX_DIGITS).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && !digits.starts_with('0');
            right
                .then(|| [SiiKind::Tel.scheme(), text].concat())
                .ok_or_else(|| AccessError::Number(text.clone()))
        };
        let domain = |text: &String| {
            // As it comes out of an address, whatever form it was written in.
            let address = Sii::parse(&format!("mailto:a@{text}"), None).ok();
            address
                .as_ref()
                .and_then(host)
                .map(str::to_owned)
                .ok_or_else(|| AccessError::Domain(text.clone()))
        };
        Ok(Self {
            numbers: numbers.iter().map(number).collect::<Result<_, _>>()?,
            domains: domains.iter().map(domain).collect::<Result<_, _>>()?,
        })
    }

    /// The beginnings of numbers, as `+1415`.
    pub fn numbers(&self) -> impl Iterator<Item = &str> {
        let scheme = SiiKind::Tel.scheme();
        self.numbers.iter().map(move |number| number.strip_prefix(scheme).unwrap_or(number))
    }

    /// The domains, in ASCII.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.domains.iter().map(String::as_str)
    }

    /// Whether it speaks for this identifier.
    #[must_use]
    pub fn covers(&self, sii: &Sii) -> bool {
        match sii.kind() {
            SiiKind::Tel => self.numbers.iter().any(|number| sii.as_str().starts_with(number)),
            SiiKind::Mailto | SiiKind::Acct => {
                host(sii).is_some_and(|host| self.domains.iter().any(|domain| domain == host))
            }
        }
    }
}

/// The domain of an address or user id.
fn host(sii: &Sii) -> Option<&str> {
    sii.as_str().rsplit_once('@').map(|(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(numbers: &[&str], domains: &[&str]) -> Result<Coverage, AccessError> {
        let owned =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Coverage::new(&owned(numbers), &owned(domains))
    }

    fn sii(text: &str) -> Sii {
        Sii::from_canonical(text).unwrap()
    }

    #[test]
    fn numbers_are_covered_by_their_beginning_and_addresses_by_their_domain() {
        let all = coverage(&["+1415", "+4420"], &["mail.example", "B\u{fc}cher.example"]).unwrap();
        for covered in [
            "tel:+14155550100",
            "tel:+442079460018",
            "mailto:alice@mail.example",
            "acct:alice@mail.example",
            "mailto:a@xn--bcher-kva.example",
        ] {
            assert!(all.covers(&sii(covered)), "{covered}");
        }
        for other in [
            "tel:+14165550100",
            "mailto:alice@sub.mail.example",
            "mailto:alice@otherm.example",
            "acct:mail.example@other.example",
        ] {
            assert!(!all.covers(&sii(other)), "{other}");
        }
        assert!(!coverage(&["+1415"], &[]).unwrap().covers(&sii("mailto:a@mail.example")));
        assert!(!coverage(&[], &["mail.example"]).unwrap().covers(&sii("tel:+14155550100")));
    }

    #[test]
    fn what_is_covered_is_listed_as_it_was_given() {
        let all = coverage(&["+1415", "+4420"], &["mail.example"]).unwrap();
        let numbers: Vec<_> = all.numbers().map(str::to_owned).collect();
        let domains: Vec<_> = all.domains().map(str::to_owned).collect();
        assert_eq!(Coverage::new(&numbers, &domains), Ok(all));
        assert_eq!(numbers, ["+1415", "+4420"]);
    }

    #[test]
    fn what_covers_nothing_is_refused() {
        assert_eq!(coverage(&[], &[]), Err(AccessError::NoCoverage));
        for number in ["", "+", "1415", "+1 415", "+0", "+1234567890123456", "tel:+1"] {
            assert_eq!(coverage(&[number], &[]), Err(AccessError::Number(number.into())));
        }
        for domain in ["", "@", "a@b.example", "a b.example"] {
            assert_eq!(coverage(&[], &[domain]), Err(AccessError::Domain(domain.into())));
        }
    }
}
