"""identifiers.json, keys.json and placement.json."""

from reference import check, edwards, identifiers
from reference.formats import bucket_number, oprf_info, placement, read_key_file

from . import DIRECTORY, PROVIDERS, STRANGER, refusal

READERS = {
    "sii": identifiers.sii,
    "canonical_sii": lambda text: identifiers.canonical(text, identifiers.sii),
    "provider": identifiers.provider,
    "canonical_provider": lambda text: identifiers.canonical(text, identifiers.provider),
    "user": identifiers.user,
    "canonical_user": lambda text: identifiers.canonical(text, identifiers.user),
}

GOOD = [
    ("sii", "+1 (415) 555-2671"),
    ("sii", "\uff0b1 415 555 2671"),
    ("sii", "+\u0664\u0664 \u0662\u0660 \u0667\u0669\u0664\u0666 \u0660\u0660\u0661\u0668"),
    ("sii", "+44 (0)20 7946 0018"),
    ("sii", "+39 06 698 82672"),
    ("sii", "TEL:+1-415-555-2671"),
    ("sii", "tel:555-2671;phone-context=+1-415"),
    ("sii", "tel:4155552671;phone-context=wa.example.", "US"),
    ("sii", "020 7946 0018", "GB"),
    ("sii", "00 44 20 7946 0018", "de"),
    ("sii", "+1 415 555 0100"),
    ("sii", "Alice.B+tag@Mail.Example"),
    ("sii", "mailto:Jose\u0301@Bu\u0308cher.example"),
    ("sii", "\u039f\u0394\u039f\u03a3@mail.example"),
    ("sii", "I\u0130@mail.example"),
    ("sii", "ACCT:Alice@WA.example"),
    ("sii", "acct:a%7eb%3a%c3%a9@wa.example"),
    ("sii", "acct:Jose\u0301@wa.example"),
    ("canonical_sii", "tel:+14155550100"),
    ("canonical_sii", "mailto:jos\u00e9@xn--bcher-kva.example"),
    ("canonical_sii", "acct:a~b%3A%C3%A9@wa.example"),
    ("provider", "WA.Example"),
    ("provider", "stra\u00dfe.example"),
    ("provider", "localhost"),
    ("canonical_provider", "xn--bcher-kva.example"),
    ("user", "Alice+1.x:y/z"),
    ("user", "E\u0301lan"),
    ("user", "u" * 71),
    ("canonical_user", "\u00c9lan"),
]

BAD = [
    ("sii", "", "Empty"),
    ("sii", " \t", "Empty"),
    ("sii", "tel:", "Empty"),
    ("sii", "a" * 1017 + "@b.example", "TooLong"),
    ("sii", "0049 30", "RegionMissing"),
    ("sii", "030 123456", "RegionUnknown", "ZZ"),
    ("sii", "+1 415 CALL NOW", "PhoneCharacter"),
    ("sii", "1+415", "PhoneCharacter"),
    ("sii", "+14155552671 ext. 5", "PhoneExtension"),
    ("sii", "+14155552671x5", "PhoneExtension"),
    ("sii", "tel:+14155552671;ext=5", "PhoneExtension"),
    ("sii", "tel:+14155552671;isub=5", "PhoneExtension"),
    ("sii", "tel:+14155552671;cpc=ordinary", "TelParameter"),
    ("sii", "tel:+14155552671;phone-context=+1", "PhoneContext"),
    ("sii", "tel:5552671;phone-context=+1415;phone-context=+1415", "PhoneContext"),
    ("sii", "tel:5552671;phone-context=a_b", "PhoneContext"),
    ("sii", "+999 123 4567", "PhoneCountryCode"),
    ("sii", "+33 12", "PhoneTooShort"),
    ("sii", "+1 415 555 2671 99", "PhoneTooLong"),
    ("sii", "1" * 41, "PhoneTooLong"),
    ("sii", "+47 123456", "PhoneLength"),
    ("sii", "+1 555 2671", "PhoneLocalOnly"),
    ("sii", "123 456 7890", "PhoneNotValid", "US"),
    ("sii", "+49 00301234567", "PhoneAmbiguous"),
    ("sii", "mailto:alice", "AddressNoAt"),
    ("sii", "@mail.example", "AddressNoLocal"),
    ("sii", "a" * 65 + "@mail.example", "AddressTooLong"),
    ("sii", "a%20b@mail.example", "MailPercent"),
    ("sii", "mailto:a@mail.example?subject=b", "MailQuery"),
    ("sii", '"a b"@mail.example', "MailQuoted"),
    ("sii", " a@mail.example", "MailCharacter"),
    ("sii", "a\u200bb@mail.example", "MailCharacter"),
    ("sii", "a\u037eb@mail.example", "MailCharacter"),
    ("sii", "a..b@mail.example", "MailDot"),
    ("sii", ".a@mail.example", "MailDot"),
    ("sii", "a@mail_box.example", "Domain"),
    ("sii", "a@-b.example", "Domain"),
    ("sii", "a@mail.example.", "Domain"),
    ("sii", "a@", "Domain"),
    ("sii", "a@127.0.0.1", "DomainIsAddress"),
    ("sii", "a@[127.0.0.1]", "DomainIsAddress"),
    ("sii", "a@mail.example:25", "DomainIsAddress"),
    ("sii", "acct:a b@wa.example", "AcctCharacter"),
    ("sii", "acct:a%0ab@wa.example", "AcctCharacter"),
    ("sii", "acct:a\u00a0b@wa.example", "AcctCharacter"),
    ("sii", "acct:a%4@wa.example", "AcctEscape"),
    ("sii", "acct:a%ff@wa.example", "AcctEscape"),
    ("sii", "acct:%3Aa@wa.example", "AcctEscape"),
    ("canonical_sii", "tel:+1-4155552671", "NotCanonical"),
    ("canonical_sii", "+14155552671", "NotCanonical"),
    ("canonical_sii", "mailto:A@mail.example", "NotCanonical"),
    ("canonical_sii", "acct:a%7Eb@wa.example", "NotCanonical"),
    ("provider", "wa example", "Domain"),
    ("provider", "p" * 60 + ".some.example", "SsiTooLong"),
    ("canonical_provider", "WA.example", "NotCanonical"),
    ("user", "", "UserEmpty"),
    ("user", "a@b", "UserCharacter"),
    ("user", "a b", "UserCharacter"),
    ("user", "\u202eecila", "UserCharacter"),
    ("user", "u" * 72, "SsiTooLong"),
    ("canonical_user", "E\u0301lan", "NotCanonical"),
]


def _read(kind, text, region=None):
    return READERS[kind](text, region) if kind == "sii" else READERS[kind](text)


def identifier_cases():
    good = [
        {"kind": kind, "input": text}
        | ({"region": region[0]} if region else {})
        | {"canonical": _read(kind, text, *region)}
        for kind, text, *region in GOOD
    ]
    bad = []
    for kind, text, expected, *region in BAD:
        found = refusal(_read, kind, text, *region)
        assert found == expected, f"{text!r}: {found}, not {expected}"
        case = {"kind": kind, "input": text} | ({"region": region[0]} if region else {})
        bad.append(case | {"refused": found})
    ssi = {"kind": "ssi", "provider": "wa.example"}
    good.append(ssi | {"user": "u" * 62})
    identifiers.ssi("wa.example", "u" * 62)
    long = refusal(identifiers.ssi, "wa.example", "u" * 63)
    bad.append(ssi | {"user": "u" * 63, "refused": long})
    return good, bad


LABELS = {
    "identity": "blindbook-v1-identity-public-key",
    "provider": "blindbook-v1-provider-public-key",
}


def key_cases():
    def directory(of):
        return {
            "identity_seed": of.seed,
            "identity_public_key": of.public_key,
            "directory_id": of.id,
            "identity_file": f"{LABELS['identity']} {of.public_key.hex()}\n",
            "epochs": [
                {
                    "epoch": epoch,
                    "seed": of.seeds[epoch],
                    "info": oprf_info(of.id, epoch),
                    "public_key": of.public_keys[epoch],
                }
                for epoch in of.keys
            ],
        }

    def provider(name, of):
        key = edwards.public_key(of)
        file = f"{LABELS['provider']} {key.hex()}\n"
        return {"provider": name, "seed": of, "public_key": key, "provider_file": file}

    good = [directory(DIRECTORY), directory(STRANGER)]
    good += [provider(name, of) for name, of in PROVIDERS.items()]

    identity, key = LABELS["identity"], DIRECTORY.public_key.hex()
    order_two = (edwards.P - 1).to_bytes(32, "little").hex()
    files = {
        "other_label": f"{LABELS['provider']} {key}\n",
        "no_space": f"{identity}{key}\n",
        "two_spaces": f"{identity}  {key}\n",
        "upper_case": f"{identity} {key.upper()}\n",
        "too_few_digits": f"{identity} {key[:-2]}\n",
        "too_many_digits": f"{identity} {key}00\n",
        "two_lines": f"{identity} {key}\n{identity} {key}\n",
        "empty": "",
        "no_point": f"{identity} {'02' + '00' * 31}\n",
        "small_order": f"{identity} {order_two}\n",
    }
    bad = [
        {"name": f"bad_file_{name}", "identity_file": text,
         "refused": refusal(read_key_file, text, identity)}
        for name, text in files.items()
    ]  # fmt: skip
    return good, bad


def _check_number(number, bits):
    check(bits <= 32, "prefix_bits")
    check(number < 1 << bits, "number")


def placement_cases():
    bits = 0, 1, 7, 8, 16, 17, 24, 31, 32
    siis = [
        "tel:+14155550100",
        "tel:+442079460018",
        "mailto:alice@mail.example",
        "mailto:jos\u00e9@xn--bcher-kva.example",
        "acct:Alice@wa.example",
    ]
    good = [
        {
            "sii": sii,
            "placement": placement(sii),
            "numbers": {b: bucket_number(placement(sii), b) for b in bits},
            "partitions": {
                b: bucket_number(placement(sii), b) >> 16 if b > 16 else 0 for b in bits
            },
        }
        for sii in siis
    ]
    good += [
        {"prefix": prefix, "prefix_bits": k, "directory_prefix_bits": deep,
         "first": prefix << (deep - k), "count": 1 << (deep - k)}
        for prefix, k, deep in [
            (0, 0, 0), (0, 0, 32), (5, 3, 3), (5, 3, 10), (0x1FFFF, 17, 20), (1, 1, 32),
        ]
    ]  # fmt: skip
    bad = [
        {"name": f"bad_{name}", "number": number, "prefix_bits": b,
         "refused": refusal(_check_number, number, b)}
        for name, number, b in [
            ("number_of_no_bits", 1, 0),
            ("number", 1 << 17, 17),
            ("prefix_bits", 0, 33),
        ]
    ]  # fmt: skip
    return good, bad
