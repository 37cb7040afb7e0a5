"""The cases of each vector file. Whatever looks random is filler: BLAKE3 of a
label."""

from reference import Refused, edwards, voprf
from reference.formats import directory_id, filler, oprf_info


def seed(label):
    return filler("seed of " + label, 32)


def scalar(label):
    """Never zero, as long as BLAKE3 holds."""
    return int.from_bytes(filler("scalar " + label, 64), "little") % edwards.L


def scalar_bytes(label):
    return scalar(label).to_bytes(32, "little")


def refusal(act, *arguments):
    """The check that refuses; that none does is an error of the vector."""
    try:
        act(*arguments)
    except Refused as refused:
        return refused.args[0]
    raise AssertionError(f"{act.__name__} refuses nothing")


class Directory:
    """A directory with two epochs, and the application providers in it."""

    def __init__(self, name):
        self.seed = seed(name)
        self.public_key = edwards.public_key(self.seed)
        self.id = directory_id(self.public_key)
        self.seeds = {epoch: seed(f"epoch {epoch} of {name}") for epoch in (1, 2)}
        self.keys = {
            epoch: voprf.derive_key(of_epoch, oprf_info(self.id, epoch))
            for epoch, of_epoch in self.seeds.items()
        }
        self.public_keys = {epoch: voprf.public_key(key) for epoch, key in self.keys.items()}

    def sign(self, message):
        return edwards.sign(self.seed, message)


DIRECTORY, STRANGER = Directory("the directory"), Directory("another directory")
PROVIDERS = {name: seed(name) for name in ("chat.example", "wa.example")}


def hexed(value):
    """Bytes as hexadecimal digits, all the way down."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(name): hexed(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [hexed(inner) for inner in value]
    return value


def mapping_fields(mapping):
    return {
        "provider": mapping.provider,
        "user": mapping.user,
        "audience": "business" if mapping.business else "personal",
        "default_since": mapping.default_since,
        "verified_until": mapping.verified_until,
        "ttl_s": mapping.ttl_s,
    }


def filled(label, slots, count=256 * 192):
    """The entries that the rule of a bucket describes, and the rule."""
    entries = bytearray(filler(label, count))
    for slot, entry in slots.items():
        entries[slot * 192 : slot * 192 + 192] = entry
    rule = {"filler": label, "bytes": count}
    return bytes(entries), rule | ({"slots": dict(sorted(slots.items()))} if slots else {})
