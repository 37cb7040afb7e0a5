//! Why an identifier was refused: each variant names the fault and what to do
//! about it, and none can hold the value.

use super::MAX_SSI_BYTES;

/// Why an identifier was refused. The caller's input is at fault in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum IdentifierError {
    /// There is nothing to read.
    #[error("the identifier is empty: give a phone number, an e-mail address or acct:user@host")]
    Empty,
    /// More bytes than any identifier can have.
    #[error("the identifier is too long: give one identifier of at most 254 bytes")]
    TooLong,
    /// A valid identifier in another spelling than the canonical one.
    #[error(
        "the identifier is not in canonical form: canonicalise it before storing or sending it"
    )]
    NotCanonical,

    /// No such region, or one without a numbering plan.
    #[error("unknown region: give a two-letter ISO 3166-1 code such as US, GB or DE")]
    RegionUnknown,
    /// A phone number without `+`, and no region to dial it in.
    #[error(
        "the phone number has no country: start it with + and the country code, or give a region"
    )]
    RegionMissing,
    /// A character that no phone number holds.
    #[error("not a phone number: use digits, spaces and - . ( ) / after an optional +")]
    PhoneCharacter,
    /// An extension names another endpoint than the number itself.
    #[error("the phone number has an extension: give a direct number without one")]
    PhoneExtension,
    /// A parameter of a `tel:` URI other than `phone-context`.
    #[error("the tel: URI has a parameter that changes what it names: leave only the number")]
    TelParameter,
    /// A `phone-context` that RFC 3966 does not allow.
    #[error(
        "the tel: URI's phone-context is wrong: write the number in full, with + and country code"
    )]
    PhoneContext,
    /// `+` and digits that start with no country's calling code.
    #[error("the phone number's country code does not exist: check the digits after the +")]
    PhoneCountryCode,
    /// Fewer digits than the country's shortest numbers.
    #[error("the phone number is too short for its country: digits are missing")]
    PhoneTooShort,
    /// More digits than the country's longest numbers.
    #[error("the phone number is too long for its country: remove the surplus digits")]
    PhoneTooLong,
    /// Between the country's lengths, but none of them.
    #[error("the country has no phone numbers of this length: check for missing or surplus digits")]
    PhoneLength,
    /// A number that can be dialled only inside one area.
    #[error("the phone number lacks its area code: give the full number")]
    PhoneLocalOnly,
    /// A national number outside every range that the numbering plan assigns.
    #[error(
        "the phone number is not assigned in this region: check it, or write it with + and country code"
    )]
    PhoneNotValid,
    /// Written back in full, the number would be read as another one: a trunk
    /// prefix is doubled.
    #[error(
        "the phone number is ambiguous: remove the 0 (or other trunk prefix) after the country code"
    )]
    PhoneAmbiguous,

    /// No `@`, so no domain.
    #[error("the address has no @: write local@domain")]
    AddressNoAt,
    /// Nothing before the `@`.
    #[error("there is nothing before the @: write local@domain")]
    AddressNoLocal,
    /// More bytes than SMTP carries.
    #[error("the address is too long: at most 64 bytes before the @ and 254 in all")]
    AddressTooLong,
    /// A percent sign in an e-mail address.
    #[error("the e-mail address has a percent sign: write it out without percent-encoding")]
    MailPercent,
    /// A `mailto:` URI with header fields.
    #[error("the e-mail address has a ? part: give the address alone")]
    MailQuery,
    /// A quoted local part.
    #[error("quoted e-mail addresses are not supported: give an address without quotation marks")]
    MailQuoted,
    /// A character that RFC 5322 and RFC 6531 allow only inside quotation marks,
    /// or one that cannot be seen.
    #[error(
        "the e-mail address has a space, control, invisible or special character before the @: remove it"
    )]
    MailCharacter,
    /// A dot at the edge of the local part, or two in a row.
    #[error("the e-mail address has a dot too many before the @: remove it")]
    MailDot,

    /// A domain that is none under UTS 46 and the DNS's length limits.
    #[error(
        "the domain is not valid: write letters, digits and hyphens in labels of at most 63, separated by dots"
    )]
    Domain,
    /// An IP address where a domain is needed.
    #[error("an IP address is no domain: give the host's name")]
    DomainIsAddress,

    /// A character that RFC 7565 does not allow in an `acct:` user part.
    #[error(
        "the acct: user part holds a character that must be percent-encoded, or one that is not allowed"
    )]
    AcctCharacter,
    /// A broken or forbidden percent-encoding in an `acct:` user part.
    #[error(
        "the acct: user part has a wrong percent-encoding: use %XX with UTF-8, not at its start"
    )]
    AcctEscape,

    /// A user without a name.
    #[error("the user is empty: give the user's name at the provider")]
    UserEmpty,
    /// A character that would make `user@provider` ambiguous or unseen.
    #[error(
        "the user holds an @, a space, a control or an invisible character: give its plain name"
    )]
    UserCharacter,
    /// Provider and user do not fit one directory entry.
    #[error("user and provider are too long: together at most {MAX_SSI_BYTES} bytes")]
    SsiTooLong,
}
