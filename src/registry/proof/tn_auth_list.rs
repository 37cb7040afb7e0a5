//! The TNAuthList of a certificate (RFC 8226 section 9): which numbers it has
//! authority over. Service provider codes are read and cover nothing, since what
//! numbers a code stands for is written elsewhere.

use std::fmt;

use super::ProofError;

/// Longest list that is read.
const MAX_LIST_BYTES: usize = 8192;

const MAX_DIGITS: usize = 15;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const IA5_STRING: u8 = 0x16;
/// The module has explicit tags: `[n]` is constructed, around the type's own.
const SPC: u8 = 0xa0;
const RANGE: u8 = 0xa1;
const ONE: u8 = 0xa2;

/// Numbers of one length, in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberRange {
    digits: usize,
    first: u64,
    last: u64,
}

impl NumberRange {
    fn covers(&self, number: &str) -> bool {
        self.digits == number.len()
            && read_digits(number.as_bytes())
                .is_some_and(|number| (self.first..=self.last).contains(&number))
    }
}

/// A TNAuthList's numbers.
#[derive(Clone, PartialEq, Eq)]
pub struct TnAuthList(Vec<NumberRange>);

impl TnAuthList {
    /// Reads the DER of the extension's value.
    ///
    /// # Errors
    /// [`ProofError::NumbersMalformed`], [`ProofError::NumbersUnnamed`] for a list
    /// of service provider codes only, [`ProofError::TooLarge`].
    pub fn from_der(der: &[u8]) -> Result<Self, ProofError> {
        if der.len() > MAX_LIST_BYTES {
            return Err(ProofError::TooLarge);
        }
        let ranges = read_list(der).ok_or(ProofError::NumbersMalformed)?;
        if ranges.is_empty() { Err(ProofError::NumbersUnnamed) } else { Ok(Self(ranges)) }
    }

    /// Whether a number, country code and digits without `+`, is among them.
    #[must_use]
    pub fn covers(&self, number: &str) -> bool {
        self.0.iter().any(|range| range.covers(number))
    }
}

impl fmt::Debug for TnAuthList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TnAuthList of {}", self.0.len())
    }
}

fn read_list(der: &[u8]) -> Option<Vec<NumberRange>> {
    let mut entries = only(der, SEQUENCE)?;
    // SIZE (1..MAX)
    if entries.is_empty() {
        return None;
    }
    let mut ranges = Vec::new();
    while !entries.is_empty() {
        let (tag, content, rest) = element(entries)?;
        match tag {
            SPC => {
                let code = only(content, IA5_STRING)?;
                if !code.is_ascii() {
                    return None;
                }
            }
            RANGE => ranges.push(read_range(content)?),
            ONE => {
                // `#` and `*` may stand in a number that nobody has as an identifier.
                let number = read_number(only(content, IA5_STRING)?)?;
                if let (digits, Some(number)) = number {
                    ranges.push(NumberRange { digits, first: number, last: number });
                }
            }
            _ => return None,
        }
        entries = rest;
    }
    Some(ranges)
}

/// `start` and `count`. The sequence is extensible; what follows would say more
/// than we understand, so it is refused.
fn read_range(content: &[u8]) -> Option<NumberRange> {
    let (tag, start, rest) = element(only(content, SEQUENCE)?)?;
    if tag != IA5_STRING {
        return None;
    }
    let count = read_count(only(rest, INTEGER)?)?;
    // A row has no meaning with `#` or `*`.
    let (digits, Some(first)) = read_number(start)? else { return None };
    let most = 10_u64.pow(u32::try_from(digits).ok()?) - 1;
    let last = first.saturating_add(count - 1);
    // The row must not run on into longer numbers.
    (last <= most).then_some(NumberRange { digits, first, last })
}

/// `E164Number ::= IA5String (SIZE (1..15)) (FROM ("0123456789#*"))`, with its
/// value if it is digits only.
fn read_number(text: &[u8]) -> Option<(usize, Option<u64>)> {
    let allowed = text.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'#' | b'*'));
    ((1..=MAX_DIGITS).contains(&text.len()) && allowed).then(|| (text.len(), read_digits(text)))
}

fn read_digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > MAX_DIGITS {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0'))
    })
}

/// `INTEGER (2..MAX)`, in its shortest form.
fn read_count(bytes: &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    let negative = *first >= 0x80;
    let padded = *first == 0 && rest.first().is_none_or(|next| *next < 0x80);
    if negative || (padded && !rest.is_empty()) || bytes.len() > 8 {
        return None;
    }
    let count = bytes.iter().fold(0_u64, |count, byte| count << 8 | u64::from(*byte));
    (count >= 2).then_some(count)
}

/// The content of the one element that `der` consists of.
fn only(der: &[u8], tag: u8) -> Option<&[u8]> {
    match element(der)? {
        (found, content, []) if found == tag => Some(content),
        _ => None,
    }
}

/// The first element: tag, content, and what follows. Lengths are definite and
/// in their shortest form, as DER demands (X.690 section 10.1).
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 => {
            let (length, rest) = rest.split_first()?;
            (Some(usize::from(*length)).filter(|length| *length > 0x7f)?, rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let length = usize::from(u16::from_be_bytes(*length));
            (Some(length).filter(|length| *length > 0xff)?, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn one(number: &str) -> Vec<u8> {
        der(ONE, &der(IA5_STRING, number.as_bytes()))
    }

    fn range(start: &str, count: &[u8]) -> Vec<u8> {
        let content = [der(IA5_STRING, start.as_bytes()), der(INTEGER, count)].concat();
        der(RANGE, &der(SEQUENCE, &content))
    }

    fn list(entries: &[Vec<u8>]) -> Result<TnAuthList, ProofError> {
        TnAuthList::from_der(&der(SEQUENCE, &entries.concat()))
    }

    #[test]
    fn a_range_covers_its_first_and_last_number_and_none_of_another_length() {
        let numbers = list(&[range("12155551000", &[0x03, 0xe8])]).unwrap();
        for covered in ["12155551000", "12155551500", "12155551999"] {
            assert!(numbers.covers(covered), "{covered}");
        }
        for other in [
            "12155550999",
            "12155552000",
            "1215555100",
            "121555510000",
            "012155551000",
            "",
            "1215555100a",
        ] {
            assert!(!numbers.covers(other), "{other}");
        }
    }

    #[test]
    fn one_number_covers_itself_with_its_leading_zeros() {
        let numbers = list(&[one("0012"), one("44#"), one("3")]).unwrap();
        assert!(numbers.covers("0012") && numbers.covers("3"));
        assert!(!numbers.covers("12") && !numbers.covers("44") && !numbers.covers("03"));
    }

    #[test]
    fn provider_codes_cover_nothing_and_alone_are_refused() {
        let spc = der(SPC, &der(IA5_STRING, b"1234"));
        assert!(matches!(list(std::slice::from_ref(&spc)), Err(ProofError::NumbersUnnamed)));
        assert!(matches!(list(&[one("#")]), Err(ProofError::NumbersUnnamed)));
        assert!(list(&[spc, one("12155551000")]).unwrap().covers("12155551000"));
    }

    #[test]
    fn what_rfc_8226_does_not_allow_is_malformed() {
        let good = der(SEQUENCE, &one("12155551000"));
        for entries in [
            vec![],
            vec![one("")],
            vec![one("1234567890123456")],
            vec![one("+12155551000")],
            vec![range("12155551000", &[1])],
            vec![range("12155551000", &[0])],
            vec![range("12155551000", &[])],
            vec![range("12155551000", &[0xff])],
            vec![range("12155551000", &[0, 2])],
            vec![range("12155551000", &[1; 9])],
            vec![range("1215555#", &[2])],
            vec![range("99999999998", &[3])],
            vec![der(ONE, b"12155551000")],
            vec![der(0x82, b"12155551000")],
            vec![der(0xa3, &der(IA5_STRING, b"1"))],
            vec![der(ONE, &der(0x0c, b"12155551000"))],
            vec![one("12155551000"), vec![0]],
        ] {
            assert!(matches!(list(&entries), Err(ProofError::NumbersMalformed)), "{entries:x?}");
        }
        for der in [
            [good.clone(), vec![0]].concat(),
            good[..good.len() - 1].to_vec(),
            vec![0x30, 0x80, 0, 0],
            vec![0x30, 0x81, 0x03, 0xa2, 0x01, 0x00],
            vec![],
        ] {
            assert!(matches!(TnAuthList::from_der(&der), Err(ProofError::NumbersMalformed)));
        }
        assert!(list(&[range("99999999998", &[2])]).unwrap().covers("99999999999"));
    }

    #[test]
    fn every_cut_of_a_list_is_refused() {
        let whole = der(SEQUENCE, &[one("4420"), range("12155551000", &[2])].concat());
        for end in 0..whole.len() {
            assert!(TnAuthList::from_der(&whole[..end]).is_err());
        }
    }
}
