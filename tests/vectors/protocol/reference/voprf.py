"""RFC 9497 in VOPRF mode over ristretto255 with SHA-512."""

import hashlib

from . import check
from .edwards import BASE, IDENTITY, L, Point

CONTEXT = b"OPRFV1-" + bytes([1]) + b"-ristretto255-SHA512"


def u16(number):
    return number.to_bytes(2, "big")


def lp(data):
    return u16(len(data)) + data


def _expand(message, dst):
    """expand_message_xmd of RFC 9380 section 5.3.1, 64 bytes."""
    dst += bytes([len(dst)])
    b_0 = hashlib.sha512(bytes(128) + message + u16(64) + bytes([0]) + dst).digest()
    return hashlib.sha512(b_0 + bytes([1]) + dst).digest()


def _hash_to_scalar(message, dst=b"HashToScalar-" + CONTEXT):
    return int.from_bytes(_expand(message, dst), "little") % L


def _hash_to_group(message):
    return Point.from_uniform(_expand(message, b"HashToGroup-" + CONTEXT))


def scalar(encoding):
    return int.from_bytes(encoding, "little")


def derive_key(seed, info):
    """DeriveKeyPair, section 3.2.1: the secret scalar."""
    for counter in range(256):
        key = _hash_to_scalar(seed + lp(info) + bytes([counter]), b"DeriveKeyPair" + CONTEXT)
        if key:
            return key
    raise ValueError("a seed without a key")


def public_key(key):
    return (key * BASE).encode()


def element(encoding):
    point = Point.decode(encoding)
    check(point is not None, "MalformedElement")
    check(encoding != bytes(32), "IdentityElement")
    return point


def blind(message, blind):
    return (blind * _hash_to_group(message)).encode()


def _composites(key, blinded, evaluated):
    """ComputeComposites, section 2.2.2."""
    seed = hashlib.sha512(lp(key) + lp(b"Seed-" + CONTEXT)).digest()
    m = z = IDENTITY
    for i, (c, d) in enumerate(zip(blinded, evaluated)):
        weight = _hash_to_scalar(lp(seed) + u16(i) + lp(c) + lp(d) + b"Composite")
        m, z = m + weight * Point.decode(c), z + weight * Point.decode(d)
    return m, z


def _challenge(key, m, z, t2, t3):
    points = [m.encode(), z.encode(), t2.encode(), t3.encode()]
    return _hash_to_scalar(lp(key) + b"".join(map(lp, points)) + b"Challenge")


def evaluate(key, blinded, r):
    """BlindEvaluate for a batch, with the proof's random scalar r."""
    evaluated = [(key * element(c)).encode() for c in blinded]
    public = public_key(key)
    m, z = _composites(public, blinded, evaluated)
    c = _challenge(public, m, z, r * BASE, r * m)
    s = (r - c * key) % L
    return evaluated, c.to_bytes(32, "little") + s.to_bytes(32, "little")


def finalize(inputs, blinds, blinded, evaluated, proof, public):
    """Checks the answer to a batch and returns its outputs."""
    c, s = scalar(proof[:32]), scalar(proof[32:])
    check(c < L and s < L, "MalformedProof")
    points = [element(encoding) for encoding in evaluated]
    m, z = _composites(public, blinded, evaluated)
    t2 = s * BASE + c * Point.decode(public)
    t3 = s * m + c * z
    check(_challenge(public, m, z, t2, t3) == c, "InvalidProof")
    return [
        hashlib.sha512(
            lp(message) + lp((pow(blind, -1, L) * point).encode()) + b"Finalize"
        ).digest()
        for message, blind, point in zip(inputs, blinds, points)
    ]


def output(key, message):
    """Evaluate, section 3.3.1: what the directory computes without a client."""
    point = (key * _hash_to_group(message)).encode()
    return hashlib.sha512(lp(message) + lp(point) + b"Finalize").digest()
