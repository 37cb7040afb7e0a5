"""Claim tokens."""

import json
from base64 import urlsafe_b64decode

import blake3
from cryptography.hazmat.primitives.asymmetric import ec, utils
from makers import (
    NOW_S,
    P256_ORDER,
    altered,
    b64,
    ec_key,
    hmac_token,
    jwk,
    odd_token,
    raw_signature,
    signing_input,
    thumbprint,
    token,
)

TYPE = "blindbook-claim+jwt"
SII = "tel:+12015550123"
PROVIDER = "wa.example"
OURS, OTHER, STRANGER = ec_key("ours"), ec_key("other directory"), ec_key("stranger")
OUR_ID, OTHER_ID = "a0" * 16, "b1" * 16
JTI = b64(bytes(range(16)))


def header(key=OURS, **more):
    return {"alg": "ES256", "kid": thumbprint(key), "typ": TYPE, **more}


def claims(**more):
    good = {"iss": OUR_ID, "sub": SII, "aud": PROVIDER, "iat": NOW_S, "exp": NOW_S + 600, "jti": JTI}
    good.update(more)
    return {name: value for name, value in good.items() if value is not None}


def case(name, made, expect, now_s=NOW_S + 30, sii=SII, provider=PROVIDER):
    return {
        "name": name,
        "sii": sii,
        "provider": provider,
        "token": made,
        "now_s": now_s,
        "expect": expect,
    }


def good():
    plain = token(OURS, header(), claims())
    yield case("as it should be", plain, "ok")
    # (r, n - s) verifies as well: the same proof, in another spelling.
    text, signature = plain.rsplit(".", 1)
    raw = urlsafe_b64decode(signature + "==")
    s = P256_ORDER - int.from_bytes(raw[32:])
    yield case("second form of the signature", f"{text}.{b64(raw[:32] + s.to_bytes(32))}", "ok")
    other = token(OTHER, header(OTHER), claims(iss=OTHER_ID))
    yield case("by another trusted directory", other, "ok")
    yield case("last second", plain, "ok", now_s=NOW_S + 599)
    yield case("five seconds ahead", plain, "ok", now_s=NOW_S - 5)
    mail = token(OURS, header(), claims(sub="mailto:a@b.example"))
    yield case("for an address", mail, "ok", sii="mailto:a@b.example")


def who():
    plain = token(OURS, header(), claims())
    yield case("for another identifier", plain, "Subject", sii="tel:+12015550124")
    yield case("for another provider", plain, "Audience", provider="signal.example")
    for name, sub in [
        ("identifier in another spelling", "tel:+1-201-555-0123"),
        ("identifier without scheme", "+12015550123"),
        ("no identifier", ""),
    ]:
        yield case(name, token(OURS, header(), claims(sub=sub)), "Subject")
    yield case("provider in capitals", token(OURS, header(), claims(aud="WA.example")), "Audience")
    yield case("by a stranger", token(STRANGER, header(STRANGER), claims()), "UnknownSigner")
    yield case("by a stranger under our kid", token(STRANGER, header(), claims()), "Signature")
    yield case("by another directory in our name", token(OTHER, header(OTHER), claims()), "Issuer")
    yield case("in the name of nobody", token(OURS, header(), claims(iss="")), "Issuer")


def when():
    plain = token(OURS, header(), claims())
    yield case("expired", plain, "Expired", now_s=NOW_S + 600)
    yield case("expired long ago", plain, "Expired", now_s=NOW_S * 2)
    yield case("six seconds ahead", plain, "NotYetValid", now_s=NOW_S - 6)
    for name, exp in [
        ("good for longer", NOW_S + 601),
        ("good for ever", 2**64 - 1),
        ("good for no time", NOW_S),
        ("ends before it begins", NOW_S - 1),
    ]:
        yield case(name, token(OURS, header(), claims(exp=exp)), "Lifetime")
    for name, more in [
        ("time as text", {"iat": str(NOW_S)}),
        ("time with a fraction", {"iat": NOW_S + 0.5}),
        ("time before 1970", {"iat": -1}),
        ("time beyond 64 bits", {"exp": 2**64}),
        ("without iat", {"iat": None}),
        ("without exp", {"exp": None}),
    ]:
        yield case(name, token(OURS, header(), claims(**more)), "Claims")


def how():
    """Another algorithm or type, or a key of the token's own."""
    for alg in ["none", "None", "HS256", "ES384", "ES512", "RS256", "PS256", "EdDSA", "es256", ""]:
        made = odd_token(OURS, header(alg=alg), claims())
        yield case(f"alg {alg or 'empty'}", made, "Algorithm")
    unsigned = signing_input(header(alg="none"), claims())
    yield case("unsigned", unsigned + ".", "Form")
    yield case("two parts", unsigned, "Form")
    yield case("HS256 under the public key", hmac_token(OURS, header(alg="HS256"), claims()), "Algorithm")
    yield case("ES256 in name, HMAC in truth", hmac_token(OURS, header(), claims()), "Signature")
    for typ in ["JWT", "passport", "at+jwt", "Blindbook-Claim+JWT", ""]:
        yield case(f"typ {typ or 'empty'}", odd_token(OURS, header(typ=typ), claims()), "Type")
    for name, value in [
        ("jwk", jwk(STRANGER)),
        ("jku", "https://stranger.example/keys"),
        ("x5u", "https://stranger.example/cert"),
        ("x5c", ["MIIB"]),
        ("crit", ["exp"]),
        ("b64", False),
        ("zip", "DEF"),
    ]:
        made = odd_token(STRANGER, header(STRANGER, **{name: value}), claims())
        yield case(f"header with {name}", made, "HeaderParameter")
    for absent in ["alg", "kid", "typ"]:
        rest = {name: value for name, value in header().items() if name != absent}
        yield case(f"header without {absent}", odd_token(OURS, rest, claims()), "Header")
    yield case("header with more", odd_token(OURS, header(cty="JWT"), claims()), "Header")
    twice = json.dumps(header())[:-1] + ',"alg":"none"}'
    yield case("alg twice", odd_token(OURS, twice, claims()), "Header")
    yield case("header no object", odd_token(OURS, "[]", claims()), "Header")
    yield case("header no JSON", odd_token(OURS, "{", claims()), "Header")


def form():
    plain = token(OURS, header(), claims())
    yield case("header altered", altered(plain, 0), "UnknownSigner")
    yield case("claims altered", altered(plain, 1), "Signature")
    yield case("signature altered", altered(plain, 2), "Signature")
    text, signature = plain.rsplit(".", 1)
    raw = urlsafe_b64decode(signature + "==")
    der = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    for name, value in [
        ("signature in DER", der),
        ("signature cut", raw[:63]),
        ("signature and a byte", raw + b"\0"),
        ("signature of zeros", bytes(64)),
        ("signature with r of the order", P256_ORDER.to_bytes(32) + raw[32:]),
    ]:
        yield case(name, f"{text}.{b64(value)}", "Signature")
    other = token(OURS, header(), claims(sub="tel:+12015550199")).rsplit(".", 1)[1]
    yield case("signature of another token", f"{text}.{other}", "Signature")
    for name, made in [
        ("padded", plain + "="),
        ("line break behind", plain + "\n"),
        ("space before", " " + plain),
        ("empty", ""),
        ("four parts", plain + ".AA"),
        ("JSON serialization", json.dumps({"payload": text})),
    ]:
        yield case(name, made, "Form")
    yield case("too large", f"{text}.{'A' * 8192}", "TooLarge")
    for name, payload in [
        ("claims no JSON", "no"),
        ("claims no object", "[]"),
        ("claim twice", json.dumps(claims())[:-1] + f',"sub":"{SII}"}}'),
        ("claims and more behind", json.dumps(claims()) + "{}"),
        ("claim with more", claims(scope="all")),
        ("audience a list", claims(aud=[PROVIDER])),
        ("without audience", claims(aud=None)),
        ("without identifier", claims(sub=None)),
        ("without issuer", claims(iss=None)),
        ("without jti", claims(jti=None)),
        ("jti short", claims(jti=b64(bytes(15)))),
        ("jti long", claims(jti=b64(bytes(17)))),
        ("jti empty", claims(jti="")),
        ("nested deep", "[" * 2000 + "]" * 2000),
    ]:
        yield case(name, odd_token(OURS, header(), payload), "Claims")


def minted():
    """What the directory's own signer must write, byte for byte."""
    seed = bytes(range(32))
    base = blake3.blake3(seed, derive_key_context="blindbook v1 token key").digest()
    scalar = int.from_bytes(blake3.blake3(b"\0", key=base).digest())
    assert 0 < scalar < P256_ORDER
    key = ec.derive_private_key(scalar, ec.SECP256R1())
    text = signing_input(header(key), claims())
    made = f"{text}.{b64(raw_signature(key, text.encode()))}"
    assert token(key, header(key), claims()).split(".")[1] == made.split(".")[1]
    return {"seed": seed.hex(), "jti": bytes(range(16)).hex(), "jwk": jwk(key), "token": made}


def vectors():
    cases = [*good(), *who(), *when(), *how(), *form()]
    issuers = [
        {"directory": OUR_ID, "jwk": jwk(OURS, kid=thumbprint(OURS))},
        {"directory": OTHER_ID, "jwk": jwk(OTHER)},
    ]
    return {"issuers": issuers, "minted": {"now_s": NOW_S, **minted()}, "cases": cases}
