"""mapping.json, entry.json and bucket.json."""

from dataclasses import replace

from blake3 import blake3

from reference import edwards, protobuf as pb
from reference.formats import Bucket, EntryKeys, Mapping, aad, lp, read_bucket, verify_bucket

from . import DIRECTORY, PROVIDERS, STRANGER, filled, filler, mapping_fields, refusal

SII = "tel:+14155550100"
SEED = PROVIDERS["wa.example"]
KEY = edwards.public_key(SEED)
ALICE = Mapping("wa.example", "alice", False, 1_700_000_000, 1_800_000_000, 86_400)
LONG = Mapping("p" * 32 + ".example", "u" * 32, True, 2**32 - 1, 0, 2**32 - 1)
SHOP = Mapping("chat.example", "caf\u00e9", True, 0, 0, 0)


def mapping_cases():
    def case(sii, mapping, seed):
        return {
            "sii": sii,
            "provider_seed": seed,
            "provider_public_key": edwards.public_key(seed),
            "mapping": mapping_fields(mapping),
            "signature_input": mapping.signature_input(sii),
            "signature": mapping.signed(sii, seed).signature,
        }

    good = [
        case(SII, ALICE, SEED),
        # Re-ordering needs no new signature.
        case(SII, replace(ALICE, default_since=0), SEED),
        case(SII, LONG, SEED),
        case("mailto:jos\u00e9@xn--bcher-kva.example", SHOP, PROVIDERS["chat.example"]),
    ]
    assert good[0]["signature"] == good[1]["signature"]

    signed = ALICE.signed(SII, SEED)
    s = int.from_bytes(signed.signature[32:], "little") + edwards.L
    malleable = signed.signature[:32] + s.to_bytes(32, "little")
    alterations = {
        "sii": (signed, "tel:+14155550101", KEY),
        "audience": (replace(signed, business=True), SII, KEY),
        "verified_until": (replace(signed, verified_until=0), SII, KEY),
        "ttl": (replace(signed, ttl_s=86_401), SII, KEY),
        "user": (replace(signed, user="alicf"), SII, KEY),
        "provider": (replace(signed, provider="wb.example"), SII, KEY),
        "key": (signed, SII, edwards.public_key(PROVIDERS["chat.example"])),
        "signature": (replace(signed, signature=bytes(64)), SII, KEY),
        "signature_malleable": (replace(signed, signature=malleable), SII, KEY),
    }
    bad = [
        {
            "name": f"bad_{name}",
            "sii": sii,
            "provider_public_key": key,
            "mapping": mapping_fields(mapping),
            "signature": mapping.signature,
            "refused": refusal(mapping.verify, sii, key),
        }
        for name, (mapping, sii, key) in alterations.items()
    ]
    return good, bad


def entry_cases():
    def case(label, epoch, n, mapping):
        y = filler("output " + label, 64)
        nonce = filler("nonce " + label, 12)
        keys = EntryKeys(y)
        signed = mapping.signed(SII, SEED)
        entry = keys.seal(DIRECTORY.id, epoch, n, signed.plaintext(), nonce)
        assert keys.open(DIRECTORY.id, epoch, n, entry) == signed
        return {
            "y": y,
            "directory_id": DIRECTORY.id,
            "epoch": epoch,
            "n": n,
            "mapping": mapping_fields(signed),
            "signature": signed.signature,
            "plaintext": signed.plaintext(),
            "tag": keys.tag(n),
            "key": keys.key(n),
            "associated_data": aad(DIRECTORY.id, epoch, n),
            "nonce": nonce,
            "entry": entry,
        }

    good = [
        case("one", 1, 0, ALICE),
        case("one", 1, 7, SHOP),
        case("two", 2**32 - 1, 0, LONG),
    ]

    y = filler("output one", 64)
    keys, signed = EntryKeys(y), ALICE.signed(SII, SEED)
    bad = []

    def refuse(name, entry, **other):
        where = {"y": y, "directory_id": DIRECTORY.id, "epoch": 1, "n": 0} | other
        arguments = where["directory_id"], where["epoch"], where["n"], entry
        found = refusal(EntryKeys(where["y"]).open, *arguments)
        bad.append({"name": f"bad_{name}"} | where | {"entry": entry, "refused": found})

    entry = keys.seal(DIRECTORY.id, 1, 0, signed.plaintext(), filler("nonce one", 12))
    # Of the tag only a lookup tells: an altered one is not found.
    for name, at in (("nonce", 8), ("ciphertext", 20), ("ciphertext_end", 175), ("gcm_tag", 191)):
        refuse(name, entry[:at] + bytes([entry[at] ^ 1]) + entry[at + 1 :])
    refuse("directory", entry, directory_id=STRANGER.id)
    refuse("epoch", entry, epoch=2)
    refuse("n", entry, n=1)
    refuse("output", entry, y=filler("output two", 64))

    def altered(at, *values):
        text = bytearray(signed.plaintext())
        text[at : at + len(values)] = values
        return bytes(text)

    def named(provider, user):
        text = signed.plaintext()[:80] + lp(provider) + lp(user)
        return text.ljust(156, b"\0")

    alice, end = b"wa.example", 84 + len("wa.example" + "alice")
    texts = {
        "format_0": altered(64, 0),
        "format_2": altered(64, 2),
        "flags_2": altered(65, 2),
        "flags_high": altered(65, 0x80),
        "reserved": altered(78, 1),
        "reserved_end": altered(79, 1),
        "provider_length": altered(80, 0, 75),
        "provider_length_high": altered(80, 1),
        "user_length": altered(92, 0, 63),
        "padding": altered(end, 1),
        "padding_end": altered(155, 1),
        "provider_upper_case": named(b"Wa.example", b"alice"),
        "provider_not_ascii": named("stra\u00dfe.example".encode(), b"alice"),
        "provider_dot": named(b"wa.example.", b"alice"),
        "provider_empty": named(b"", b"alice"),
        "provider_utf8": named(b"wa\xff.example", b"alice"),
        "user_empty": named(alice, b""),
        "user_at": named(alice, b"al@ice"),
        "user_space": named(alice, b"al ice"),
        "user_nfc": named(alice, "E\u0301lan".encode()),
        "user_utf8": named(alice, b"al\xc3"),
        "zeros": bytes(156),
    }
    for name, text in texts.items():
        refuse(name, keys.seal(DIRECTORY.id, 1, 0, text, filler("nonce " + name, 12)))
    return good, bad


def message(bucket, rule):
    """A FetchBucketsResponse as the vectors give it."""
    head, tail = bucket.encode()
    whole = head + bucket.entries + tail
    return {"head": head, "middle": rule, "tail": tail, "blake3": blake3(whole).digest()}


def bucket_cases():
    good, bad = [], []
    slots = {
        200: EntryKeys(filler("output one", 64)).seal(
            DIRECTORY.id, 1, 0, ALICE.signed(SII, SEED).plaintext(), filler("nonce one", 12)
        )
    }
    for label, epoch, bits, number, version in [
        ("bucket one", 1, 17, 0x14B4B, 9),
        ("bucket zero", 1, 0, 0, 1),
        ("bucket last", 2**32 - 1, 32, 2**32 - 1, 2**53 - 1),
    ]:
        entries, rule = filled(label, slots)
        bucket = Bucket(epoch, number, version, entries).signed(DIRECTORY.seed, bits)
        verify_bucket(bucket, DIRECTORY.public_key, bits)
        good.append(
            {
                "identity_seed": DIRECTORY.seed,
                "identity_public_key": DIRECTORY.public_key,
                "epoch": epoch,
                "prefix_bits": bits,
                "number": number,
                "version": version,
                "entries": rule,
                "signature_input": bucket.signature_input(DIRECTORY.id, bits),
                "signature": bucket.signature,
                "message": message(bucket, rule),
            }
        )

    bits = 17
    entries, rule = filled("bucket one", slots)
    whole = Bucket(1, 0x14B4B, 9, entries).signed(DIRECTORY.seed, bits)

    def refuse(name, bucket=whole, rule=rule, key=DIRECTORY.public_key, bits=bits, given=None):
        given = given or message(bucket, rule)
        middle = bucket.entries if given["middle"] else b""

        def take():
            read = read_bucket(given["head"] + middle + given["tail"], bits)
            verify_bucket(read, key, bits)

        bad.append(
            {
                "name": f"bad_{name}",
                "identity_public_key": key,
                "prefix_bits": bits,
                "message": given,
                "refused": refusal(take),
            }
        )

    empty = {"head": b"", "middle": None, "tail": b"", "blake3": blake3(b"").digest()}
    refuse("bucket_missing", given=empty)
    fields = pb.number(1, 1) + pb.fixed64(3, 9) + pb.varint(4 << 3 | pb.BYTES) + pb.varint(49_152)
    after = pb.data(5, whole.signature)
    length = len(fields) + 49_152 + len(after)
    head = pb.varint(1 << 3 | pb.BYTES) + pb.varint(length) + fields
    parts = {"head": head, "middle": rule, "tail": after}
    refuse("number_missing", given=parts | {"blake3": blake3(head + entries + after).digest()})
    refuse("number_range", replace(whole, number=1 << 17))
    refuse("epoch_0", replace(whole, epoch=0))
    refuse("signature_short", replace(whole, signature=whole.signature[:63]))
    refuse("signature_long", replace(whole, signature=whole.signature + b"\0"))
    for name, count in (("short", 49_151), ("long", 49_153), ("missing", 0)):
        other, other_rule = filled("bucket one", {}, count)
        refuse(f"entries_{name}", replace(whole, entries=other), other_rule)

    refuse("number", replace(whole, number=0x14B4A))
    refuse("version", replace(whole, version=10))
    refuse("epoch", replace(whole, epoch=2))
    refuse("prefix_bits", bits=18)
    refuse("signature", replace(whole, signature=bytes(64)))
    refuse("key", key=STRANGER.public_key)
    swapped = {201: slots[200]}
    other, other_rule = filled("bucket one", swapped)
    refuse("slot", replace(whole, entries=other), other_rule)
    other, other_rule = filled("bucket two", slots)
    refuse("filler", replace(whole, entries=other), other_rule)

    s = int.from_bytes(whole.signature[32:], "little") + edwards.L
    malleable = whole.signature[:32] + s.to_bytes(32, "little")
    refuse("signature_malleable", replace(whole, signature=malleable))
    # The neutral element as key: the equation alone holds for every message.
    neutral = edwards.IDENTITY.compress()
    forged = edwards.BASE.compress() + (1).to_bytes(32, "little")
    refuse("key_small_order", replace(whole, signature=forged), key=neutral)
    refuse("commitment_small_order", replace(whole, signature=_without_nonce(whole, bits)))
    return good, bad


def _without_nonce(bucket, bits):
    """A signature by the right key whose R is the neutral element: the equation
    alone holds."""
    scalar, _ = edwards.expand(DIRECTORY.seed)
    commitment = edwards.IDENTITY.compress()
    text = bucket.signature_input(DIRECTORY.id, bits)
    k = edwards.sha512(commitment, DIRECTORY.public_key, text) % edwards.L
    return commitment + (k * scalar % edwards.L).to_bytes(32, "little")
