//! Which directory is asked: chosen by the identifier alone, before anything is
//! asked, and by no answer.

use std::{fmt, str::FromStr};

use crate::identifier::{Sii, SiiKind};

/// Most digits after the `+` of a route.
const MAX_DIGITS: usize = 15;

/// Why a route is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a route is tel:, mailto: or acct: for all of a kind, tel:+ and first digits, or mailto:@ or \
     acct:@ and a domain"
)]
pub struct RouteError;

/// Some identifiers: those of a kind, or of a kind and a beginning or host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    kind: SiiKind,
    part: Part,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    All,
    /// The first digits of a number.
    Digits(Box<str>),
    /// A host, canonical. Hosts beneath it are others.
    Host(Box<str>),
}

impl Route {
    /// All identifiers: one route for each kind.
    #[must_use]
    pub fn all() -> Vec<Self> {
        [SiiKind::Tel, SiiKind::Mailto, SiiKind::Acct]
            .map(|kind| Self { kind, part: Part::All })
            .into()
    }

    /// Whether an identifier goes this way.
    pub(super) fn takes(&self, sii: &Sii) -> bool {
        let Some(rest) = sii.as_str().strip_prefix(self.kind.scheme()) else { return false };
        match &self.part {
            Part::All => true,
            Part::Digits(digits) => {
                rest.strip_prefix('+').is_some_and(|number| number.starts_with(&**digits))
            }
            Part::Host(host) => rest.rsplit_once('@').is_some_and(|(_, of)| *of == **host),
        }
    }

    /// Whether every identifier of `other` goes this way.
    fn covers(&self, other: &Self) -> bool {
        self.kind == other.kind
            && match (&self.part, &other.part) {
                (Part::All, _) => true,
                (Part::Digits(ours), Part::Digits(theirs)) => theirs.starts_with(&**ours),
                (Part::Host(ours), Part::Host(theirs)) => ours == theirs,
                _ => false,
            }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.scheme())?;
        match &self.part {
            Part::All => Ok(()),
            Part::Digits(digits) => write!(f, "+{digits}"),
            Part::Host(host) => write!(f, "@{host}"),
        }
    }
}

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let (scheme, rest) = text.split_once(':').ok_or(RouteError)?;
        let kind = match scheme {
            "tel" => SiiKind::Tel,
            "mailto" => SiiKind::Mailto,
            "acct" => SiiKind::Acct,
            _ => return Err(RouteError),
        };
        let part = match kind {
            _ if rest.is_empty() => Part::All,
            SiiKind::Tel => {
                let digits = rest.strip_prefix('+').ok_or(RouteError)?;
                let right = (1..=MAX_DIGITS).contains(&digits.len())
                    && digits.bytes().all(|digit| digit.is_ascii_digit());
                Part::Digits(right.then_some(digits).ok_or(RouteError)?.into())
            }
            SiiKind::Mailto | SiiKind::Acct => {
                let host = rest.strip_prefix('@').ok_or(RouteError)?;
                // As the host of an identifier is canonicalised.
                let sii =
                    Sii::parse(&format!("{scheme}:x@{host}"), None).map_err(|_| RouteError)?;
                let (_, host) = sii.as_str().rsplit_once('@').ok_or(RouteError)?;
                Part::Host(host.into())
            }
        };
        Ok(Self { kind, part })
    }
}

/// The first of the routes, in their order, that an earlier one leaves nothing
/// for.
pub(super) fn unreached<'a>(routes: impl IntoIterator<Item = &'a Route>) -> Option<&'a Route> {
    let mut seen: Vec<&Route> = Vec::new();
    for route in routes {
        if seen.iter().any(|earlier| earlier.covers(route)) {
            return Some(route);
        }
        seen.push(route);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Route {
        text.parse().unwrap()
    }

    fn takes(text: &str, sii: &str) -> bool {
        route(text).takes(&Sii::parse(sii, None).unwrap())
    }

    #[test]
    fn routes_take_kinds_first_digits_and_whole_hosts() {
        assert!(takes("tel:", "+4915112345678") && takes("tel:+49", "+49 151 12345678"));
        assert!(!takes("tel:+41", "+4915112345678") && !takes("tel:", "acct:a@b.example"));
        assert!(takes("mailto:@Bücher.example", "x@xn--bcher-kva.example"));
        assert!(takes("mailto:@mail.example", "X@Mail.Example"));
        assert!(!takes("mailto:@mail.example", "x@sub.mail.example"));
        assert!(!takes("mailto:@mail.example", "x@notmail.example"));
        assert!(!takes("mailto:@mail.example", "acct:x@mail.example"));
        assert!(takes("acct:@b.example", "acct:a%40c@b.example"));
        assert!(
            Route::all().iter().any(|route| route.takes(&Sii::parse("a@b.example", None).unwrap()))
        );
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for bad in [
            "",
            "tel",
            "*",
            "sip:",
            "tel:49",
            "tel:+",
            "tel:+4x",
            "tel:@b.example",
            "mailto:+49",
            "mailto:@",
            "mailto:b.example",
            "acct:@a b",
            "tel:\u{e9}",
            "mailto:\u{e9}",
            "tel:+1234567890123456",
        ] {
            assert_eq!(bad.parse::<Route>(), Err(RouteError), "{bad}");
        }
        for good in ["tel:", "tel:+49", "mailto:", "mailto:@b.example", "acct:", "acct:@b.example"]
        {
            assert_eq!(route(good).to_string(), good);
        }
    }

    #[test]
    fn a_route_behind_one_that_takes_all_of_it_is_found() {
        let first = |texts: &[&str]| {
            let routes: Vec<_> = texts.iter().map(|text| route(text)).collect();
            unreached(&routes).map(ToString::to_string)
        };
        assert_eq!(first(&["tel:+49", "tel:", "mailto:@b.example", "mailto:", "acct:"]), None);
        assert_eq!(first(&["tel:+4", "tel:+49"]).unwrap(), "tel:+49");
        assert_eq!(first(&["mailto:", "mailto:@b.example"]).unwrap(), "mailto:@b.example");
        assert_eq!(first(&["acct:", "tel:", "acct:"]).unwrap(), "acct:");
    }
}
