"""The byte formats and what a client checks in them: docs/protocol.md, "Exact
bytes" and "Signed bodies"."""

from dataclasses import dataclass, replace

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import Refused, check, edwards, identifiers, protobuf as pb, voprf

ENTRY_BYTES, BUCKET_ENTRIES = 192, 256
BUCKET_BYTES = ENTRY_BYTES * BUCKET_ENTRIES
MAX_MAPPINGS = 8


def u32(number):
    return number.to_bytes(4, "big")


def u64(number):
    return number.to_bytes(8, "big")


lp = voprf.lp


def derive_key(context, material):
    return blake3(material, derive_key_context=context).digest()


def keyed_hash(key, message):
    return blake3(message, key=key).digest()


def filler(label, count):
    return blake3(label.encode()).digest(length=count)


def directory_id(identity):
    return derive_key("blindbook v1 directory", identity)[:16]


def oprf_info(directory, epoch):
    return b"blindbook v1 oprf" + directory + u32(epoch)


def placement(sii):
    return derive_key("blindbook v1 placement", sii.encode())


def bucket_number(place, bits):
    return int.from_bytes(place[:4], "big") >> (32 - bits) if bits else 0


# Mappings and entries.


@dataclass
class Mapping:
    provider: str
    user: str
    business: bool = False
    default_since: int = 0
    verified_until: int = 0
    ttl_s: int = 0
    signature: bytes = bytes(64)

    def fixed(self, default_since):
        return (
            bytes([1, int(self.business)])
            + u32(default_since)
            + u32(self.verified_until)
            + u32(self.ttl_s)
            + bytes(2)
        )

    def names(self):
        return lp(self.provider.encode()) + lp(self.user.encode())

    def signature_input(self, sii):
        return b"blindbook v1 mapping" + lp(sii.encode()) + self.fixed(0) + self.names()

    def signed(self, sii, seed):
        return replace(self, signature=edwards.sign(seed, self.signature_input(sii)))

    def verify(self, sii, key):
        holds = edwards.verify(key, self.signature_input(sii), self.signature)
        check(holds, "signature")

    def plaintext(self):
        return (self.signature + self.fixed(self.default_since) + self.names()).ljust(156, b"\0")


def read_plaintext(text):
    """The one mapping that encodes to this plaintext."""
    check(text[64] == 1 and text[65] in (0, 1) and text[78:80] == bytes(2), "malformed")
    numbers = [int.from_bytes(text[at : at + 4], "big") for at in (66, 70, 74)]
    rest, names = text[80:], []
    for _ in range(2):
        check(len(rest) >= 2, "malformed")
        length = int.from_bytes(rest[:2], "big")
        check(length <= len(rest) - 2, "malformed")
        names.append(rest[2 : 2 + length])
        rest = rest[2 + length :]
    try:
        provider, user = (name.decode() for name in names)
        identifiers.canonical(provider, identifiers.provider)
        identifiers.canonical(user, identifiers.user)
        identifiers.ssi(provider, user)
    except (UnicodeDecodeError, Refused) as error:
        raise Refused("malformed") from error
    check(not any(rest), "malformed")
    return Mapping(provider, user, bool(text[65]), *numbers, text[:64])


class EntryKeys:
    def __init__(self, y):
        self.tag_key = derive_key("blindbook v1 tag", y)
        self.sealing_key = derive_key("blindbook v1 entry key", y)

    def tag(self, n):
        return keyed_hash(self.tag_key, u32(n))[:8]

    def key(self, n):
        return keyed_hash(self.sealing_key, u32(n))

    def seal(self, directory, epoch, n, plaintext, nonce):
        sealed = AESGCM(self.key(n)).encrypt(nonce, plaintext, aad(directory, epoch, n))
        return self.tag(n) + nonce + sealed

    def open(self, directory, epoch, n, entry):
        try:
            text = AESGCM(self.key(n)).decrypt(entry[8:20], entry[20:], aad(directory, epoch, n))
        except InvalidTag as error:
            raise Refused("authentic") from error
        return read_plaintext(text)

    def open_all(self, directory, epoch, entries):
        """The mappings in a bucket, and how many n are damaged."""
        mappings, damaged = [], 0
        slots = [entries[at : at + ENTRY_BYTES] for at in range(0, BUCKET_BYTES, ENTRY_BYTES)]
        for n in range(MAX_MAPPINGS):
            tagged = [slot for slot in slots if slot[:8] == self.tag(n)]
            if not tagged:
                break
            for slot in tagged:
                try:
                    mappings.append(self.open(directory, epoch, n, slot))
                    break
                except Refused:
                    continue
            else:
                damaged += 1
        return mappings, damaged


def aad(directory, epoch, n):
    return b"blindbook v1 entry" + directory + u32(epoch) + u32(n)


# Buckets.


@dataclass
class Bucket:
    epoch: int
    number: int
    version: int
    entries: bytes
    signature: bytes = bytes(64)

    def signature_input(self, directory, prefix_bits):
        return (
            b"blindbook v1 bucket"
            + directory
            + u32(self.epoch)
            + bytes([prefix_bits])
            + u32(self.number)
            + u64(self.version)
            + blake3(self.entries).digest()
        )

    def signed(self, seed, prefix_bits):
        directory = directory_id(edwards.public_key(seed))
        message = self.signature_input(directory, prefix_bits)
        return replace(self, signature=edwards.sign(seed, message))

    def encode(self):
        """A FetchBucketsResponse: what stands before and after the entries."""
        before = (
            pb.number(1, self.epoch)
            + pb.fixed32(2, self.number)
            + pb.fixed64(3, self.version)
            + pb.varint(4 << 3 | pb.BYTES)
            + pb.varint(len(self.entries))
        )
        after = pb.data(5, self.signature)
        whole = len(before) + len(self.entries) + len(after)
        return pb.varint(1 << 3 | pb.BYTES) + pb.varint(whole) + before, after


BUCKET = {
    1: ("bucket", {1: ("epoch", "u32"), 2: ("number", "f32"), 3: ("version", "f64"),
                   4: ("entries", "bytes"), 5: ("signature", "bytes")}),
}  # fmt: skip


def read_bucket(message, prefix_bits):
    bucket = pb.decode(message, BUCKET, "encoding")["bucket"]
    check(bucket is not None, "bucket")
    check(bucket["number"] is not None, "bucket.number")
    check(bucket["number"] < 1 << prefix_bits, "bucket.number")
    check(bucket["epoch"] >= 1, "bucket.epoch")
    check(len(bucket["signature"]) == 64, "bucket.signature")
    check(len(bucket["entries"]) == BUCKET_BYTES, "bucket.entries")
    return Bucket(**bucket)


def verify_bucket(bucket, identity, prefix_bits):
    message = bucket.signature_input(directory_id(identity), prefix_bits)
    check(edwards.verify(identity, message, bucket.signature), "signature")


# Signed bodies.


def signed_input(word, body):
    return b"blindbook v1 " + word.encode() + b"\0" + body


def encode_parameters(p):
    return (
        pb.data(1, p["directory_id"])
        + pb.number(2, p["serial"])
        + pb.number(3, p["not_before_s"])
        + pb.number(4, p["not_after_s"])
        + pb.number(5, p["prefix_bits"])
        + pb.number(6, p["entry_bytes"])
        + pb.number(7, p["bucket_entries"])
        + b"".join(
            pb.message(8, pb.number(1, known["epoch"]) + pb.data(2, known["public_key"]))
            for known in p["epochs"]
        )
        + pb.number(9, p["refresh_period_s"])
        + b"".join(pb.message(10, region.encode()) for region in p["regions"])
    )


PARAMETERS = {
    1: ("directory_id", "bytes"), 2: ("serial", "u64"), 3: ("not_before_s", "u64"),
    4: ("not_after_s", "u64"), 5: ("prefix_bits", "u32"), 6: ("entry_bytes", "u32"),
    7: ("bucket_entries", "u32"),
    8: ("epochs", [{1: ("epoch", "u32"), 2: ("public_key", "bytes")}]),
    9: ("refresh_period_s", "u32"), 10: ("regions", ["text"]),
}  # fmt: skip


def ascends(values):
    return all(one < following for one, following in zip(values, values[1:]))


def read_parameters(body, signature, identity):
    """Checks 1 to 10."""
    check(len(signature) == 64, "signature")
    check(edwards.verify(identity, signed_input("parameters", body), signature), "signature")
    p = pb.decode(body, PARAMETERS, "parameters")
    check(len(p["directory_id"]) == 16, "directory_id")
    check(p["not_before_s"] < p["not_after_s"], "not_after_s")
    check(p["prefix_bits"] <= 32, "prefix_bits")
    check(p["entry_bytes"] == ENTRY_BYTES, "entry_bytes")
    check(p["bucket_entries"] == BUCKET_ENTRIES, "bucket_entries")
    check(1 <= len(p["epochs"]) <= 2, "epochs")
    check(ascends([known["epoch"] for known in p["epochs"]]), "epochs")
    for known in p["epochs"]:
        check(known["epoch"] >= 1, "epochs.epoch")
        key = known["public_key"]
        element = len(key) == 32 and key != bytes(32) and edwards.Point.decode(key)
        check(element, "epochs.public_key")
    check(len(p["regions"]) <= 512, "regions")
    for region in p["regions"]:
        two = len(region) == 2 and region.isascii() and region.isalpha() and region.isupper()
        check(two, "regions")
    check(p["directory_id"] == directory_id(identity), "directory_id")
    return p


def succession_input(provider, new):
    return b"blindbook v1 succession" + lp(provider.encode()) + new


def encode_providers(p):
    def step(s):
        fields = s["old_public_key"], s["new_public_key"], s["signature"]
        return b"".join(pb.data(field, value) for field, value in enumerate(fields, 1))

    return (
        pb.data(1, p["directory_id"])
        + pb.number(2, p["serial"])
        + b"".join(
            pb.message(
                3,
                pb.data(1, provider["name"].encode())
                + pb.data(2, provider["public_key"])
                + b"".join(pb.message(3, step(s)) for s in provider["successions"]),
            )
            for provider in p["providers"]
        )
    )


PROVIDERS = {
    1: ("directory_id", "bytes"), 2: ("serial", "u64"),
    3: ("providers", [{
        1: ("name", "text"), 2: ("public_key", "bytes"),
        3: ("successions", [{1: ("old_public_key", "bytes"), 2: ("new_public_key", "bytes"),
                             3: ("signature", "bytes")}]),
    }]),
}  # fmt: skip


def read_providers(body, signature, identity):
    """Checks 13 to 17."""
    check(len(signature) == 64, "signature")
    check(edwards.verify(identity, signed_input("providers", body), signature), "signature")
    p = pb.decode(body, PROVIDERS, "providers")
    check(len(p["directory_id"]) == 16, "directory_id")
    check(p["directory_id"] == directory_id(identity), "directory_id")
    for provider in p["providers"]:
        try:
            identifiers.canonical(provider["name"], identifiers.provider)
        except Refused as refused:
            raise Refused("providers.name") from refused
        check(len(provider["successions"]) <= 64, "providers.successions")
        for step in provider["successions"]:
            for key in ("old_public_key", "new_public_key"):
                check(edwards.is_key(step[key]), f"providers.successions.{key}")
            check(len(step["signature"]) == 64, "providers.successions.signature")
        check(edwards.is_key(provider["public_key"]), "providers.public_key")
    check(ascends([provider["name"].encode() for provider in p["providers"]]), "providers")
    return p


def follow(provider, pinned):
    """Check 30: the pinned key leads to the listed one."""
    key = pinned
    for step in provider["successions"]:
        message = succession_input(provider["name"], step["new_public_key"])
        if step["old_public_key"] == key and edwards.verify(key, message, step["signature"]):
            key = step["new_public_key"]
    check(key == provider["public_key"], "succession")


def read_key_file(text, label):
    line = text.rstrip("\t\n\f\r ")
    prefix = label + " "
    digits = line[len(prefix) :]
    check(line.startswith(prefix) and len(digits) == 64, "file")
    check(all(digit in "0123456789abcdef" for digit in digits), "file")
    key = bytes.fromhex(digits)
    check(edwards.is_key(key), "key")
    return key
