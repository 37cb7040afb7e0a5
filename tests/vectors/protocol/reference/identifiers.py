"""Canonical forms: docs/protocol.md, "Identifiers"."""

import re
import unicodedata

import idna
import phonenumbers
from phonenumbers import NumberParseException as ParseError, ValidationResult

from . import Refused, check

FORBIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
SEPARATORS = re.compile(
    "[-. ()/\\[\\]\u00a0\u00ad\u200b\u2010-\u2015\u2053\u2060\u2212\u223c\u3000\u30fc\uff08\uff09"
    "\uff0d-\uff0f\uff3b\uff3d]"
)
RAW = "-._~!$&'()*+,;="
UNRESERVED = "-._~"
MAX_ADDRESS = 254
MAX_SSI = 72


def forbidden(c):
    return (
        c == " "
        or unicodedata.category(c) in ("Cc", "Cn", "Co", "Cs")
        or c.isspace()
        or FORBIDDEN.match(c) is not None
    )


def nfc(text):
    return unicodedata.normalize("NFC", text)


def is_word(c):
    return c.isascii() and c.isalnum()


def sii(text, region=None):
    check(len(text.encode()) <= 1024, "TooLong")
    for scheme, parse in (("tel:", _tel), ("mailto:", _mail), ("acct:", _acct)):
        if text[: len(scheme)].lower() == scheme:
            rest = text[len(scheme) :]
            check(rest, "Empty")
            return parse(rest, region)
    check(text.strip(), "Empty")
    if "@" in text:
        return _mail(text, region)
    return _number(_scan(text), region)


def canonical(text, parse):
    """Takes only what is canonical already."""
    check(parse(text) == text, "NotCanonical")
    return text


def _tel(rest, region):
    number, *parameters = rest.split(";")
    number = _scan(number)
    context = None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        check(name.lower() not in ("ext", "isub"), "PhoneExtension")
        check(name.lower() == "phone-context", "TelParameter")
        check(context is None, "PhoneContext")
        context = value
    if context is not None:
        check(not number.startswith("+"), "PhoneContext")
        try:
            if context.startswith("+"):
                number = _scan(context) + number
            else:
                check(context.isascii(), "PhoneContext")
                domain(context[:-1] if context.endswith(".") else context)
        except Refused as refused:
            raise Refused("PhoneContext") from refused
    return _number(number, region)


def _scan(text):
    kept = ""
    for at, c in enumerate(text):
        if c in "+\uff0b" and not kept:
            kept = "+"
        elif unicodedata.category(c) == "Nd":
            kept += str(unicodedata.digit(c))
        elif not SEPARATORS.match(c):
            extension = c in "#~,;xX" or text[at : at + 3].lower() == "ext"
            check(not (extension and kept.strip("+")), "PhoneExtension")
            raise Refused("PhoneCharacter")
        check(len(kept) <= 40, "PhoneTooLong")
    return kept


def _number(digits, region):
    if digits.startswith("+"):
        e164 = _possible(digits)
    else:
        check(region is not None, "RegionMissing")
        region = region.upper()
        check(region in phonenumbers.SUPPORTED_REGIONS, "RegionUnknown")
        number = _parse(digits, region)
        if not phonenumbers.is_valid_number(number):
            _check_length(number)
            raise Refused("PhoneNotValid")
        e164 = _e164(number)
    check(_possible(e164) == e164, "PhoneAmbiguous")
    return "tel:" + e164


def _e164(number):
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _possible(digits):
    number = _parse(digits, None)
    _check_length(number)
    return _e164(number)


def _parse(digits, region):
    try:
        return phonenumbers.parse(digits, region)
    except ParseError as error:
        raise Refused(
            {
                ParseError.INVALID_COUNTRY_CODE: "PhoneCountryCode",
                ParseError.TOO_LONG: "PhoneTooLong",
            }.get(error.error_type, "PhoneTooShort")
        ) from error


def _check_length(number):
    reason = phonenumbers.is_possible_number_with_reason(number)
    if reason != ValidationResult.IS_POSSIBLE:
        raise Refused(
            {
                ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "PhoneLocalOnly",
                ValidationResult.INVALID_COUNTRY_CODE: "PhoneCountryCode",
                ValidationResult.TOO_SHORT: "PhoneTooShort",
                ValidationResult.TOO_LONG: "PhoneTooLong",
                ValidationResult.INVALID_LENGTH: "PhoneLength",
            }[reason]
        )


def domain(text):
    check(not text.startswith("[") and ":" not in text, "DomainIsAddress")
    try:
        # Stricter than UTS 46 where IDNA 2008 disallows a character: no vector
        # has one of these.
        ascii_form = idna.encode(text, uts46=True, std3_rules=True).decode()
    except idna.IDNAError as error:
        raise Refused("Domain") from error
    check(not ascii_form.endswith("."), "Domain")
    check(not ascii_form.rpartition(".")[2].isdigit(), "DomainIsAddress")
    return ascii_form


def _mail(text, _region):
    local, at, host = text.rpartition("@")
    check(at, "AddressNoAt")
    check(local, "AddressNoLocal")
    check(not local.startswith('"'), "MailQuoted")
    check("?" not in text, "MailQuery")
    check("%" not in text, "MailPercent")
    local = nfc(nfc(local).lower())
    for c in local:
        allowed = is_word(c) or c in "!#$&'*+-/=^_`{|}~." if c.isascii() else not forbidden(c)
        check(allowed, "MailCharacter")
    check(all(local.split(".")), "MailDot")
    host = domain(host)
    address = f"{local}@{host}"
    check(len(local.encode()) <= 64 and len(address.encode()) <= MAX_ADDRESS, "AddressTooLong")
    return "mailto:" + address


def _acct(text, _region):
    user, at, host = text.rpartition("@")
    check(at, "AddressNoAt")
    check(user, "AddressNoLocal")
    host = domain(host)
    written, run, rest = "", b"", user.encode()
    while rest:
        byte, rest = rest[:1], rest[1:]
        if byte != b"%":
            check(byte >= b"\x80" or is_word(chr(byte[0])) or chr(byte[0]) in RAW, "AcctCharacter")
            run += byte
            continue
        digits, rest = rest[:2], rest[2:]
        check(re.fullmatch(rb"[0-9A-Fa-f]{2}", digits), "AcctEscape")
        byte = int(digits, 16)
        check(byte >= 32 and byte != 127, "AcctCharacter")
        if byte >= 128 or is_word(chr(byte)) or chr(byte) in UNRESERVED:
            run += bytes([byte])
        else:
            written += _run(run) + f"%{byte:02X}"
            run = b""
    written += _run(run)
    check(not written.startswith("%"), "AcctEscape")
    address = f"{written}@{host}"
    check(len(address) <= MAX_ADDRESS, "AddressTooLong")
    return "acct:" + address


def _run(run):
    try:
        text = nfc(run.decode())
    except UnicodeDecodeError as error:
        raise Refused("AcctEscape") from error
    written = ""
    for c in text:
        if c.isascii():
            check(is_word(c) or c in RAW, "AcctCharacter")
            written += c
        else:
            check(not forbidden(c), "AcctCharacter")
            written += "".join(f"%{byte:02X}" for byte in c.encode())
    return written


def provider(text):
    name = domain(text)
    check(len(name) < MAX_SSI, "SsiTooLong")
    return name


def user(text):
    check(text, "UserEmpty")
    check(len(text.encode()) < 3 * MAX_SSI, "SsiTooLong")
    text = nfc(text)
    check(not any(c == "@" or forbidden(c) for c in text), "UserCharacter")
    check(len(text.encode()) < MAX_SSI, "SsiTooLong")
    return text


def ssi(provider_name, user_name):
    names = provider(provider_name), user(user_name)
    check(sum(len(name.encode()) for name in names) <= MAX_SSI, "SsiTooLong")
    return names
