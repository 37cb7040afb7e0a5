"""Writes the identifier vectors beside this file.

    pip install phonenumbers==9.0.42 idna==3.20
    python generate.py

Phone numbers: what Google's libphonenumber says, by its Python port at the metadata
version that the Rust port carries. Addresses: Python's unicodedata and the idna
package's UTS 46. Where Blindbook refuses what libphonenumber accepts, the case says
so in `libphonenumber` and gives the reason in `note`.
"""

import json
import random
import unicodedata
from pathlib import Path

import idna
import phonenumbers as pn

HERE = Path(__file__).parent
FORMATS = [
    pn.PhoneNumberFormat.NATIONAL,
    pn.PhoneNumberFormat.INTERNATIONAL,
    pn.PhoneNumberFormat.RFC3966,
    pn.PhoneNumberFormat.E164,
]
REGIONS = sorted(pn.SUPPORTED_REGIONS)
PARSE_ERRORS = {
    pn.NumberParseException.INVALID_COUNTRY_CODE: "PhoneCountryCode",
    pn.NumberParseException.NOT_A_NUMBER: "PhoneTooShort",
    pn.NumberParseException.TOO_SHORT_AFTER_IDD: "PhoneTooShort",
    pn.NumberParseException.TOO_SHORT_NSN: "PhoneTooShort",
    pn.NumberParseException.TOO_LONG: "PhoneTooLong",
}
LENGTH_ERRORS = {
    pn.ValidationResult.INVALID_COUNTRY_CODE: "PhoneCountryCode",
    pn.ValidationResult.TOO_SHORT: "PhoneTooShort",
    pn.ValidationResult.TOO_LONG: "PhoneTooLong",
    pn.ValidationResult.INVALID_LENGTH: "PhoneLength",
    pn.ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "PhoneLocalOnly",
}


def write(name, about, cases):
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    text = f'{{"about": {json.dumps(about)}, "cases": [\n{lines}\n]}}\n'
    (HERE / f"{name}.json").write_text(text, encoding="utf-8")
    print(name, len(cases))


def e164(number):
    return pn.format_number(number, pn.PhoneNumberFormat.E164)


def length_error(number):
    """A length of numbers without area code must be a valid number, such as Canada's 310-1234."""
    reason = pn.is_possible_number_with_reason(number)
    local = reason == pn.ValidationResult.IS_POSSIBLE_LOCAL_ONLY
    if reason == pn.ValidationResult.IS_POSSIBLE or local and pn.is_valid_number(number):
        return None
    return LENGTH_ERRORS[reason]


def is_global(text):
    return "+" in text or "\uff0b" in text


def expected(text, region):
    """The canonical form, or the kind of the error, of a number without letters."""
    try:
        if is_global(text):
            number = pn.parse(text, None)
            error = length_error(number)
        elif region is None:
            return "RegionMissing"
        else:
            number = pn.parse(text, region)
            error = None if pn.is_valid_number(number) else length_error(number) or "PhoneNotValid"
        if error:
            return error
        # What libphonenumber does not read back as itself is ambiguous.
        again = pn.parse(e164(number), None)
        if error := length_error(again):
            return error
        return f"tel:{e164(number)}" if e164(again) == e164(number) else "PhoneAmbiguous"
    except pn.NumberParseException as error:
        return PARSE_ERRORS[error.error_type]


def case(inputs, region, outcome, **more):
    inputs = [inputs] if isinstance(inputs, str) else inputs
    kind = "canonical" if ":" in outcome else "error"
    found = {"inputs": inputs}
    if region:
        found["region"] = region
    return found | {kind: outcome} | more


def phone_examples():
    """Every region, every type of number it has, every form it can be written in."""
    cases = []
    types = {value: name.lower() for name, value in vars(pn.PhoneNumberType).items() if name.isupper()}
    for region in REGIONS:
        for type_, name in sorted(types.items()):
            number = pn.example_number_for_type(region, type_)
            if number is None:
                continue
            forms = list(dict.fromkeys(pn.format_number(number, form) for form in FORMATS))
            by_outcome = {}
            for form in forms:
                by_outcome.setdefault(expected(form, region), []).append(form)
            cases += [case(some, region, outcome, type=name) for outcome, some in by_outcome.items()]
    for code in sorted(pn.COUNTRY_CODES_FOR_NON_GEO_REGIONS):
        number = pn.example_number_for_non_geo_entity(code)
        forms = list(dict.fromkeys(pn.format_number(number, form) for form in FORMATS[1:]))
        cases.append(case(forms, None, expected(forms[-1], None), type="global"))
    write("phone_examples", "libphonenumber's example numbers of every region and type", cases)


def phone_random():
    """Neighbours of the examples and plain digits: what the examples do not reach."""
    draw = random.Random(3966)
    cases = []

    def digits(count):
        return "".join(draw.choice("0123456789") for _ in range(count))

    for region in REGIONS:
        numbers = [pn.example_number_for_type(region, t) for t in (0, 1, 3, 6)]
        nsns = [pn.national_significant_number(number) for number in numbers if number]
        code = str(pn.country_code_for_region(region))
        prefix = pn.ndd_prefix_for_region(region, True) or ""
        for _ in range(10):
            nsn = draw.choice(nsns)
            keep = draw.randrange(len(nsn) + 1)
            nsn = nsn[:keep] + digits(max(len(nsn) - keep + draw.choice([-1, 0, 0, 0, 0, 1]), 1))
            text = draw.choice(["", "", prefix, code]) + nsn
            cases.append(case(text, region, expected(text, region)))
        text = "+" + code + draw.choice(["", prefix]) + draw.choice(nsns)
        cases.append(case(text, None, expected(text, None)))
    for code in sorted(pn.COUNTRY_CODE_TO_REGION_CODE):
        for _ in range(6):
            text = f"+{code}{digits(draw.randrange(2, 16))}"
            cases.append(case(text, None, expected(text, None)))
    for _ in range(200):
        text = "+" + digits(draw.randrange(1, 20))
        cases.append(case(text, None, expected(text, None)))
    write("phone_random", "random numbers, possible and valid or not, as libphonenumber reads them", cases)


def phone_forms():
    """Spellings, shared calling codes, leading zeros, tel: URIs."""
    rows = [
        # Shared calling codes: dialled at home as abroad.
        ("(416) 234-5678", "US"), ("(415) 555-2671", "CA"), ("876-210-1234", "US"), ("1 787 234 5678", "US"),
        ("8 (912) 345-67-89", "RU"), ("8 (771) 000 9998", "RU"), ("8 (912) 345-67-89", "KZ"),
        ("07781 123456", "GB"), ("07400 123456", "JE"), ("041 2345678", "FI"), ("0691234567", "IT"),
        # Leading zeros that belong to the number.
        ("+39 06 1234 5678", None), ("06 1234 5678", "IT"), ("+39 312 345 6789", None), ("+378 0549 886377", None),
        ("+225 01 23 45 6789", None), ("+242 06 612 3456", None),
        # Trunk prefixes, carrier codes, mobile tokens.
        ("+44 (0)20 7946 0018", None), ("+49 (0) 1512 3456789", None), ("011 15-2345-6789", "AR"),
        ("+54 9 11 2345 6789", None), ("0 15 21 96123-4567", "BR"), ("+52 222 123 4567", None),
        # International prefixes.
        ("00 44 20 7946 0018", "DE"), ("011 44 20 7946 0018", "US"), ("8 10 44 20 7946 0018", "RU"), ("0011 44 20 7946 0018", "AU"),
        # Other scripts and separators.
        ("+４４　２０　７９４６　００１８", None), ("＋44 20 7946 0018", None), ("+٤٤ ٢٠ ٧٩٤٦ ٠٠١٨", None),
        ("+४४ २० ७९४६ ००१८", None), ("+44\u00a020\u20117946\u20110018", None), ("(+44) 20/7946.0018", None),
        ("[020] 7946–0018", "GB"), ("+44\u200b20\u206079460018", None),
        # Possible, though no such range is assigned.
        ("+1 555 555 5555", None), ("+49 999 9999999", None), ("+44 123 4567890", None),
        # tel: URIs.
        ("tel:+1-415-555-2671", None), ("TEL:+1(415)555.2671", None), ("tel:415-555-2671", "US"),
        ("tel:331-6005;phone-context=+64-3", None), ("tel:20-7946-0018;Phone-Context=+44", None),
        ("tel:03-331-6005;phone-context=example.com", "NZ"),
    ]
    cases = []
    for text, region in rows:
        google = text.replace("TEL:", "tel:").replace("Phone-Context", "phone-context")
        outcome = expected(google, region)
        assert ":" in outcome, (text, region, outcome)
        # A number with + means the same in every region.
        for other in (REGIONS if is_global(google) else []):
            assert e164(pn.parse(google, other)) == outcome[4:], (text, other)
        cases.append(case(text, region, outcome))
    write("phone_forms", "spellings of phone numbers and what libphonenumber makes of them", cases)


def phone_bad():
    """What is refused. `libphonenumber` stands where it would accept."""
    rows = [
        ("415 555 2671", None, "RegionMissing", "no + and no region"),
        ("0044 20 7946 0018", None, "RegionMissing", "an international prefix depends on the region too"),
        ("tel:415-555-2671", None, "RegionMissing", "a local number without context"),
        ("+999 123456789", None, "PhoneCountryCode", "no such calling code"),
        ("+0 415 555 2671", "US", "PhoneCountryCode", "no calling code starts with 0"),
        ("+(0) 415 555 2671", None, "PhoneCountryCode", "no calling code starts with 0"),
        ("+1 415 555 26711", None, "PhoneTooLong", "not possible: a digit too many"),
        ("+1 415 5", None, "PhoneTooShort", "not possible: too few digits"),
        ("+", None, "PhoneTooShort", "no digits"),
        ("-", "US", "PhoneTooShort", "no digits"),
        ("1", "US", "PhoneTooShort", "one digit"),
        ("+44 20 7946 00181 5", None, "PhoneTooLong", "not possible"),
        ("+" + "1" * 60, None, "PhoneTooLong", "more digits than any number"),
        ("+45 123456789", None, "PhoneTooLong", "not possible"),
        ("+1 555 2671", None, "PhoneLocalOnly", "an area code is missing: not unique in the world"),
        ("555 2671", "US", "PhoneLocalOnly", "an area code is missing"),
        ("(555) 555-5555", "US", "PhoneNotValid", "no such area code"),
        ("06 12 34 56 78", "US", "PhoneNotValid", "another country's national number"),
        ("020 7946 0018", "US", "PhoneTooLong", "another country's national number"),
        ("0999 9999999", "DE", "PhoneNotValid", "no such range"),
        ("+1 415 555 2671 ext. 5", None, "PhoneExtension", "an extension names another endpoint"),
        ("415-555-2671 x5", "US", "PhoneExtension", "an extension names another endpoint"),
        ("415-555-2671#5", "US", "PhoneExtension", "an extension names another endpoint"),
        ("415-555-2671,5", "US", "PhoneExtension", "an extension names another endpoint"),
        ("415-555-2671;5", "US", "PhoneExtension", "an extension names another endpoint"),
        ("tel:+1-415-555-2671;ext=5", None, "PhoneExtension", "an extension names another endpoint"),
        ("tel:+1-415-555-2671;isub=5", None, "PhoneExtension", "a subaddress names another endpoint"),
        ("tel:+1-415-555-2671;rn=+1-415-555-0000", None, "TelParameter", "number portability is not an identity"),
        ("tel:+1-415-555-2671;x", None, "TelParameter", "unknown parameter"),
        ("tel:331-6005;phone-context=", "NZ", "PhoneContext", "empty context"),
        ("tel:331-6005;phone-context=64-3", "NZ", "PhoneContext", "a number context needs its +"),
        ("tel:331-6005;phone-context=+", "NZ", "PhoneTooShort", "a context without digits"),
        ("tel:331-6005;phone-context=+64x3", "NZ", "PhoneContext", "a letter in the context"),
        ("tel:331-6005;phone-context=exa mple", "NZ", "PhoneContext", "no domain"),
        ("tel:331-6005;phone-context=+64-3;phone-context=+1", "NZ", "PhoneContext", "two contexts"),
        ("tel:+64-3-331-6005;phone-context=+64-3", None, "PhoneContext", "a global number has no context"),
        ("tel:%2B14155552671", None, "PhoneCharacter", "no percent-encoding"),
        ("tel:1-800-FLOWERS", "US", "PhoneCharacter", "keypad letters"),
        ("1-800-FLOWERS", "US", "PhoneCharacter", "keypad letters"),
        ("call 415 555 2671", "US", "PhoneCharacter", "text before the number"),
        ("alice", "US", "PhoneCharacter", "a user id needs acct:"),
        ("sip:+14155552671", None, "PhoneCharacter", "another scheme"),
        ("*2255", "IL", "PhoneCharacter", "a short code is no E.164 number"),
        ("++14155552671", None, "PhoneCharacter", "two plus signs"),
        ("1+4155552671", "US", "PhoneCharacter", "a plus sign inside"),
        ("+1 415 555 2671\n", None, "PhoneCharacter", "a control character"),
        ("+1 415 555 267\u4e00", None, "PhoneCharacter", "a numeral that is no digit"),
        ("+1 415 555 \u200e2671", None, "PhoneCharacter", "a direction mark"),
        ("+61 00 459 840 599", None, "PhoneAmbiguous", "read back, the doubled trunk prefix loses another zero"),
        ("+49 0 0151 23456789", None, "PhoneAmbiguous", "read back, the doubled trunk prefix loses another zero"),
    ]
    cases = []
    for text, region, error, note in rows:
        more = {"note": note}
        try:
            number = pn.parse(text, region)
            accepted = pn.is_possible_number(number) if is_global(text) else pn.is_valid_number(number)
            if accepted:
                more["libphonenumber"] = f"tel:{e164(number)}"
        except pn.NumberParseException:
            pass
        cases.append(case(text, region, error, **more))
    write("phone_bad", "phone numbers that are refused, and why", cases)


def fold(text):
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


def host(domain):
    return idna.encode(domain, uts46=True, transitional=False, std3_rules=True).decode()


def mail():
    locals_ = [
        "alice", "Alice.B", "ALICE+tag", "a.b.c", "!#$&'*+-/=^_`{|}~", "x" * 64, "1234",
        "JOSÉ", "Jose\u0301", "İI", "ıi", "STRASSE", "Straße", "ẞ", "ΟΔΥΣΣΕΥΣ", "ΣΑΣ.ΣΑΣ", "ǅ", "Å\u212b", "\u212a",
        "ﬁ", "ａ", "用户", "пользователь", "مستخدم", "उपयोगकर्ता", "क्\u200dष", "😀", "q\u0323\u0307", "q\u0307\u0323", "가", "\u1100\u1161",
    ]
    domains = [
        "Example.COM", "bücher.example", "BU\u0308CHER.example", "faß.example", "straße.de", "ΒΌΛΟΣ.example", "βόλος.com",
        "例え.テスト", "xn--bcher-kva.example", "XN--BCHER-KVA.example", "例え。テスト", "ｅｘａｍｐｌｅ.com", "İstanbul.example",
        "क्\u200dष.example", "localhost", "a-b.1.example", "مثال.إختبار", "a" * 63 + ".example",
    ]
    cases = [case([f"{l}@Example.COM", f"mailto:{l}@example.com"], None, f"mailto:{fold(l)}@example.com") for l in locals_]
    cases += [case(f"alice@{d}", None, f"mailto:alice@{host(d)}") for d in domains]
    long = ".".join(["d" * 60] * 3) + ".ab.example"
    cases.append(case(f"{'l' * (253 - len(long))}@{long}", None, f"mailto:{'l' * (253 - len(long))}@{long}"))
    cases.append(case("alice@☕.example", None, "mailto:alice@xn--53h.example", note="UTS 46 allows symbols that IDNA 2008 does not"))
    write("mail", "e-mail addresses: Unicode case folding of the local part, UTS 46 for the domain", cases)

    bad = [
        ("mailto:alice", "AddressNoAt", "no @"),
        ("@example.com", "AddressNoLocal", "no local part"),
        ("mailto:@example.com", "AddressNoLocal", "no local part"),
        ("alice@", "Domain", "no domain"),
        ("alice@.", "Domain", "empty labels"),
        ("alice@example..com", "Domain", "an empty label"),
        ("alice@.example.com", "Domain", "an empty label"),
        ("alice@example.com.", "Domain", "a trailing dot"),
        ("alice@exam ple.com", "Domain", "a space"),
        ("alice@ example.com", "Domain", "a space"),
        ("alice@example.com ", "Domain", "a trailing space"),
        ("alice@example.com\n", "Domain", "a line feed"),
        ("alice@exa_mple.com", "Domain", "an underscore"),
        ("alice@-example.com", "Domain", "a leading hyphen"),
        ("alice@example-.com", "Domain", "a trailing hyphen"),
        ("alice@xn--a.com", "Domain", "broken Punycode"),
        ("alice@exa\u00admple.com\u0300\u0300..", "Domain", "an empty label"),
        (f"alice@{'a' * 64}.example", "Domain", "a label of 64"),
        (f"alice@{'.'.join(['d' * 63] * 4)}", "Domain", "a domain of 255"),
        ("alice@example.com>", "Domain", "a bracket"),
        ("alice@[127.0.0.1]", "DomainIsAddress", "an address literal"),
        ("alice@[IPv6:::1]", "DomainIsAddress", "an address literal"),
        ("alice@127.0.0.1", "DomainIsAddress", "an IPv4 address"),
        ("alice@example.com:25", "DomainIsAddress", "a port"),
        ('"alice"@example.com', "MailQuoted", "a quoted local part"),
        ('"a@b"@example.com', "MailQuoted", "a quoted local part"),
        ('a"b@example.com', "MailCharacter", "a quotation mark"),
        ("mailto:al%69ce@example.com", "MailPercent", "percent-encoding"),
        ("alice%40b@example.com", "MailPercent", "percent-encoding"),
        ("alice@exam%70le.com", "MailPercent", "percent-encoding"),
        ("mailto:alice@example.com?subject=hi", "MailQuery", "header fields"),
        ("alice?@example.com", "MailQuery", "a question mark"),
        (".alice@example.com", "MailDot", "a leading dot"),
        ("alice.@example.com", "MailDot", "a trailing dot"),
        ("al..ice@example.com", "MailDot", "two dots"),
        ("al ice@example.com", "MailCharacter", "a space"),
        (" alice@example.com", "MailCharacter", "a leading space"),
        ("al\tice@example.com", "MailCharacter", "a tab"),
        ("al\u0000ice@example.com", "MailCharacter", "a control character"),
        ("al\u0085ice@example.com", "MailCharacter", "a C1 control character"),
        ("al\u00a0ice@example.com", "MailCharacter", "a no-break space"),
        ("al\u200bice@example.com", "MailCharacter", "a zero-width space"),
        ("al\u202eice@example.com", "MailCharacter", "a direction override"),
        ("al\u00adice@example.com", "MailCharacter", "a soft hyphen"),
        ("❤\ufe0f@example.com", "MailCharacter", "a variation selector"),
        ("al\ue000ice@example.com", "MailCharacter", "private use"),
        ("al\u0378ice@example.com", "MailCharacter", "not assigned"),
        ("al\u037eice@example.com", "MailCharacter", "NFC makes it a semicolon"),
        ("alice,bob@example.com", "MailCharacter", "a list"),
        ("<alice@example.com", "MailCharacter", "a bracket"),
        ("Alice <alice@example.com>", "MailCharacter", "a display name"),
        ("alice@b@example.com", "MailCharacter", "two @"),
        ("@alice@social.example", "MailCharacter", "a handle needs acct:"),
        ("sip:alice@example.com", "MailCharacter", "another scheme"),
        (f"{'x' * 65}@example.com", "AddressTooLong", "a local part of 65"),
        (f"{'é' * 33}@example.com", "AddressTooLong", "a local part of 66 bytes"),
        (f"{'l' * (254 - len(long))}@{long}", "AddressTooLong", "255 in all"),
        (f"{'x' * 1100}@example.com", "TooLong", "more than is looked at"),
    ]
    write("mail_bad", "e-mail addresses that are refused, and why",
          [case(text, None, error, note=note) for text, error, note in bad])


def acct():
    good = [
        ("acct:alice@social.example", "acct:alice@social.example", "plain"),
        ("ACCT:Alice@Social.EXAMPLE", "acct:Alice@social.example", "only scheme and host fold their case"),
        ("acct:foobar@status.example.net", "acct:foobar@status.example.net", "RFC 7565 section 4"),
        ("acct:juliet%40capulet.example@shoppingsite.example", "acct:juliet%40capulet.example@shoppingsite.example",
         "RFC 7565 section 4: an address as user"),
        ("acct:a%2fb@h.example", "acct:a%2Fb@h.example", "upper-case hexadecimal"),
        ("acct:%41li%63e@h.example", "acct:Alice@h.example", "unreserved characters are not encoded"),
        ("acct:a%21b@h.example", "acct:a%21b@h.example", "a reserved character stays as it is"),
        ("acct:a!$&'()*+,;=._~-b@h.example", "acct:a!$&'()*+,;=._~-b@h.example", "all that may stand raw"),
        ("acct:a%25b@h.example", "acct:a%25b@h.example", "an encoded percent sign"),
        ("acct:ren\u00e9@h.example", "acct:ren%C3%A9@h.example", "non-ASCII, raw"),
        ("acct:ren%c3%a9@h.example", "acct:ren%C3%A9@h.example", "non-ASCII, encoded"),
        ("acct:rene\u0301@h.example", "acct:ren%C3%A9@h.example", "normalised"),
        ("acct:rene%CC%81@h.example", "acct:ren%C3%A9@h.example", "normalised across the encoding"),
        ("acct:a%2C%CC%A7@h.example", "acct:a%2C%CC%A7@h.example", "an escape's own digits take no mark"),
        ("acct:alice@b\u00fccher.example", "acct:alice@xn--bcher-kva.example", "UTS 46"),
    ]
    write("acct", "acct: URIs (RFC 7565)", [case(text, None, form, note=note) for text, form, note in good])
    bad = [
        ("acct:alice", "AddressNoAt", "no host"),
        ("acct:@h.example", "AddressNoLocal", "no user"),
        ("acct:alice@", "Domain", "no host"),
        ("acct:alice@h.example/x", "Domain", "a path"),
        ("acct:alice@h.example?x", "Domain", "a query"),
        ("acct:alice@h.example:443", "DomainIsAddress", "a port"),
        ("acct:alice@[::1]", "DomainIsAddress", "an address literal"),
        ("acct:alice@10.0.0.1", "DomainIsAddress", "an IPv4 address"),
        ("acct:a b@h.example", "AcctCharacter", "a space"),
        ("acct:a@b@h.example", "AcctCharacter", "a raw @"),
        ("acct:a/b@h.example", "AcctCharacter", "a raw slash"),
        ("acct:a%0Ab@h.example", "AcctCharacter", "an encoded control character"),
        ("acct:a%7Fb@h.example", "AcctCharacter", "an encoded control character"),
        ("acct:a%E2%80%AEb@h.example", "AcctCharacter", "an encoded direction override"),
        ("acct:a\u200bb@h.example", "AcctCharacter", "a zero-width space"),
        ("acct:a\u1fefb@h.example", "AcctCharacter", "NFC makes it a grave accent"),
        ("acct:a%@h.example", "AcctEscape", "half an escape"),
        ("acct:a%4@h.example", "AcctEscape", "half an escape"),
        ("acct:a%zz@h.example", "AcctEscape", "no hexadecimal"),
        ("acct:a%+1@h.example", "AcctEscape", "no hexadecimal"),
        ("acct:a%C3@h.example", "AcctEscape", "half a character"),
        ("acct:a%C3%28@h.example", "AcctEscape", "no UTF-8"),
        ("acct:%40b@h.example", "AcctEscape", "RFC 7565 section 7: no escape at the start"),
        ("acct:\u00e9lan@h.example", "AcctEscape", "RFC 7565 section 7: no escape at the start"),
        (f"acct:{'a' * 250}@h.example", "AddressTooLong", "260 in all"),
        (f"acct:a{'é' * 45}@h.example", "AddressTooLong", "281 in all, once encoded"),
    ]
    write("acct_bad", "acct: URIs that are refused, and why",
          [case(text, None, error, note=note) for text, error, note in bad])


if __name__ == "__main__":
    phone_examples()
    phone_random()
    phone_forms()
    phone_bad()
    mail()
    acct()
