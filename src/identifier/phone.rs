//! Phone numbers: `tel:+` and E.164 digits, read as Google's libphonenumber
//! reads them.
//!
//! A number with `+` need only be *possible* (a length its country has), since
//! numbering metadata lags new ranges; one without is dialled in a region and
//! must be *valid* there or in a region that shares its calling code. An
//! extension or subaddress names another endpoint and is refused.

use std::{fmt, str::FromStr};

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, ParseError, PhoneNumber, PhoneNumberFormat,
    ValidationError,
};
use zeroize::Zeroizing;

use super::{IdentifierError, SiiKind, domain};

/// More digits than a number with country code and dialling prefixes can have;
/// libphonenumber refuses shorter ones with a better reason.
const MAX_DIGITS: usize = 40;

/// A country or territory with a numbering plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(pub(super) rlibphonenumber::Region);

impl FromStr for Region {
    type Err = IdentifierError;

    /// Reads a two-letter ISO 3166-1 code, in either case.
    fn from_str(code: &str) -> Result<Self, Self::Err> {
        let region =
            rlibphonenumber::Region::from_code(code).map_err(|_| IdentifierError::RegionUnknown)?;
        match PHONE_NUMBER_UTIL.get_country_code_for_region(region) {
            Some(_) => Ok(Self(region)),
            None => Err(IdentifierError::RegionUnknown),
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({})", self.0)
    }
}

/// Whether `+` and digits belong to one of the regions. A number that no region
/// knows yet, since metadata lags new ranges, may belong to any of its calling
/// code.
pub(super) fn is_in(number: &str, regions: &[Region]) -> bool {
    let Ok(number) = possible(number) else { return false };
    if let Some(home) = PHONE_NUMBER_UTIL.get_region_for_number(&number) {
        return regions.contains(&Region(home));
    }
    let code = |region: &Region| PHONE_NUMBER_UTIL.get_country_code_for_region(region.0);
    regions.iter().any(|region| code(region) == Some(number.country_code))
}

/// Canonicalises a bare number.
pub(super) fn parse(
    input: &str,
    region: Option<Region>,
) -> Result<Zeroizing<String>, IdentifierError> {
    canonical(&scan(input)?, region)
}

/// Canonicalises a `tel:` URI, its scheme already split off (RFC 3966 section 3).
/// The only parameter with a say in which subscriber is meant is the context of
/// a local number; a context that is a domain leaves the number to the region,
/// as in libphonenumber.
pub(super) fn parse_uri(
    rest: &str,
    region: Option<Region>,
) -> Result<Zeroizing<String>, IdentifierError> {
    let mut parts = rest.split(';');
    let mut digits = scan(parts.next().unwrap_or_default())?;
    let mut context = None;
    for parameter in parts {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name.eq_ignore_ascii_case("ext") || name.eq_ignore_ascii_case("isub") {
            return Err(IdentifierError::PhoneExtension);
        }
        if !name.eq_ignore_ascii_case("phone-context") {
            return Err(IdentifierError::TelParameter);
        }
        if context.replace(value).is_some() {
            return Err(IdentifierError::PhoneContext);
        }
    }
    if let Some(context) = context {
        if is_global(&digits) {
            return Err(IdentifierError::PhoneContext);
        }
        if context.starts_with('+') {
            let prefix = scan(context).map_err(|_| IdentifierError::PhoneContext)?;
            digits = Zeroizing::new([prefix.as_str(), &digits].concat());
        } else if !is_domain_name(context) {
            return Err(IdentifierError::PhoneContext);
        }
    }
    canonical(&digits, region)
}

fn is_global(digits: &str) -> bool {
    digits.starts_with('+')
}

/// `domainname` of RFC 3966 section 3, whose last label starts with a letter.
fn is_domain_name(context: &str) -> bool {
    let name = context.strip_suffix('.').unwrap_or(context);
    let top = name.rsplit('.').next().unwrap_or_default();
    name.is_ascii()
        && top.starts_with(|c: char| c.is_ascii_alphabetic())
        && domain::to_ascii(name).is_ok()
}

/// Reads a number as written: an optional `+`, then digits of any script among
/// visual separators. libphonenumber itself would also skip leading text, read
/// letters as keypad digits and drop extensions.
fn scan(input: &str) -> Result<Zeroizing<String>, IdentifierError> {
    let mut digits = Zeroizing::new(String::with_capacity(MAX_DIGITS + 1));
    for (at, c) in input.char_indices() {
        match c {
            '0'..='9' => digits.push(c),
            '+' | '\u{ff0b}' if digits.is_empty() => digits.push('+'),
            _ if is_separator(c) => {}
            _ if c.is_ascii() => {
                let follows_number = digits.bytes().any(|byte| byte.is_ascii_digit());
                let marks_extension = "#~,;xX".contains(c)
                    || input.get(at..at + 3).is_some_and(|word| word.eq_ignore_ascii_case("ext"));
                return Err(if follows_number && marks_extension {
                    IdentifierError::PhoneExtension
                } else {
                    IdentifierError::PhoneCharacter
                });
            }
            // A digit of another script, or nothing.
            _ => {
                let digit = PHONE_NUMBER_UTIL.normalize_digits_only(c.encode_utf8(&mut [0; 4]));
                if digit.is_empty() {
                    return Err(IdentifierError::PhoneCharacter);
                }
                digits.push_str(&digit);
            }
        }
        if digits.len() > MAX_DIGITS {
            return Err(IdentifierError::PhoneTooLong);
        }
    }
    Ok(digits)
}

/// libphonenumber's punctuation, without the `x` and `~` that it also reads as
/// marks of an extension.
fn is_separator(c: char) -> bool {
    matches!(c,
        ' ' | '-' | '.' | '(' | ')' | '/' | '[' | ']'
        | '\u{a0}' | '\u{ad}' | '\u{200b}' | '\u{2010}'..='\u{2015}' | '\u{2053}' | '\u{2060}'
        | '\u{2212}' | '\u{223c}' | '\u{3000}' | '\u{30fc}' | '\u{ff08}' | '\u{ff09}'
        | '\u{ff0d}'..='\u{ff0f}' | '\u{ff3b}' | '\u{ff3d}')
}

/// Canonicalises an optional `+` and ASCII digits.
fn canonical(digits: &str, region: Option<Region>) -> Result<Zeroizing<String>, IdentifierError> {
    let number = if is_global(digits) {
        e164(&possible(digits)?)
    } else if let Some(region) = region {
        e164(&valid(digits, region)?)
    } else {
        return Err(IdentifierError::RegionMissing);
    };
    // A number after a doubled trunk prefix loses one zero each time it is read.
    // What is not read back as itself would be two identifiers.
    if e164(&possible(&number)?) == number {
        Ok(Zeroizing::new([SiiKind::Tel.scheme(), &number].concat()))
    } else {
        Err(IdentifierError::PhoneAmbiguous)
    }
}

/// Reads `+` and digits: the same answer in every region.
fn possible(digits: &str) -> Result<PhoneNumber, IdentifierError> {
    let number = PHONE_NUMBER_UTIL.parse(digits, None).map_err(|error| refusal(&error))?;
    check_length(&number)?;
    Ok(number)
}

/// Reads digits as dialled in a region.
fn valid(digits: &str, region: Region) -> Result<PhoneNumber, IdentifierError> {
    let number =
        PHONE_NUMBER_UTIL.parse(digits, Some(region.0)).map_err(|error| refusal(&error))?;
    if PHONE_NUMBER_UTIL.is_valid_number(&number) {
        return Ok(number);
    }
    check_length(&number)?;
    Err(IdentifierError::PhoneNotValid)
}

fn check_length(number: &PhoneNumber) -> Result<(), IdentifierError> {
    match PHONE_NUMBER_UTIL.is_possible_number_with_reason(number) {
        Ok(NumberLengthType::IsPossible) => Ok(()),
        // Too short to be unique in the world, but for a few nationwide numbers
        // such as Canada's 310-1234.
        Ok(NumberLengthType::IsPossibleLocalOnly) if PHONE_NUMBER_UTIL.is_valid_number(number) => {
            Ok(())
        }
        Ok(NumberLengthType::IsPossibleLocalOnly) => Err(IdentifierError::PhoneLocalOnly),
        Err(ValidationError::InvalidCountryCode) => Err(IdentifierError::PhoneCountryCode),
        Err(ValidationError::TooShort) => Err(IdentifierError::PhoneTooShort),
        Err(ValidationError::TooLong) => Err(IdentifierError::PhoneTooLong),
        Err(ValidationError::InvalidLength) => Err(IdentifierError::PhoneLength),
    }
}

fn refusal(error: &ParseError) -> IdentifierError {
    match error {
        ParseError::InvalidCountryCode => IdentifierError::PhoneCountryCode,
        // Only digits got here: what is no number has too few of them.
        ParseError::NotANumber(_) | ParseError::TooShortAfterIdd | ParseError::TooShortNsn => {
            IdentifierError::PhoneTooShort
        }
        ParseError::TooLongNsn => IdentifierError::PhoneTooLong,
    }
}

/// `+` and the digits.
pub(super) fn e164(number: &PhoneNumber) -> Zeroizing<String> {
    Zeroizing::new(PHONE_NUMBER_UTIL.format(number, PhoneNumberFormat::E164).into_owned())
}
