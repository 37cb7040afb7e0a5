"""OIDC id_tokens."""

import json

from makers import (
    NOW_S,
    altered,
    b64,
    ec_key,
    hmac_token,
    jwk,
    odd_token,
    rsa_key,
    signing_input,
    token,
)

ISSUER, OTHER_ISSUER = "https://id.mail.example", "https://id.other.example"
SII = "mailto:alice@mail.example"
PROVIDER, CLIENT, OTHER_CLIENT = "wa.example", "client-wa", "client-signal"
RSA, EC, OTHER, STRANGER = rsa_key("rsa"), ec_key("ec"), ec_key("other issuer"), rsa_key("stranger")
CHALLENGE = b64(bytes(range(0x40, 0x50)))
ISSUED_S = NOW_S - 100


def header(alg="RS256", kid="rsa-1", **more):
    return {"alg": alg, "kid": kid, **more}


def es(alg="ES256"):
    return header(alg, "ec-1")


def claims(**more):
    good = {
        "iss": ISSUER,
        "sub": "248289761001",
        "aud": CLIENT,
        "iat": NOW_S,
        "exp": NOW_S + 3600,
        "nonce": CHALLENGE,
        "email": "alice@mail.example",
        "email_verified": True,
    }
    good.update(more)
    return {name: value for name, value in good.items() if value is not None}


def case(name, made, expect, now_s=NOW_S + 10, sii=SII, provider=PROVIDER):
    return {
        "name": name,
        "sii": sii,
        "provider": provider,
        "token": made,
        "challenge": CHALLENGE,
        "issued_s": ISSUED_S,
        "now_s": now_s,
        "expect": expect,
    }


def good():
    yield case("RS256", token(RSA, header(typ="JWT"), claims()), "ok")
    yield case("ES256", token(EC, es(), claims()), "ok")
    yield case("without typ", odd_token(RSA, header(), claims()), "ok")
    yield case("audience a list of one", token(RSA, header(), claims(aud=[CLIENT])), "ok")
    yield case("azp ours", token(RSA, header(), claims(azp=CLIENT)), "ok")
    yield case("address in capitals", token(RSA, header(), claims(email="Alice@Mail.Example")), "ok")
    yield case("more claims", token(RSA, header(x5t="AA"), claims(name="Alice", groups=["a"])), "ok")
    yield case("last second", token(RSA, header(), claims(exp=NOW_S + 11)), "ok")
    for_other = token(RSA, header(), claims(aud=OTHER_CLIENT))
    yield case("for the other provider", for_other, "ok", provider="signal.example")


def bad_claims():
    for name, more, expect in [
        ("for another address", {"email": "bob@mail.example"}, "Subject"),
        ("for an address at another domain", {"email": "alice@other.example"}, "Subject"),
        ("for no address", {"email": "alice"}, "Subject"),
        ("a query behind the address", {"email": "alice@mail.example?x=y"}, "Subject"),
        ("address not verified", {"email_verified": False}, "EmailUnverified"),
        ("verified as text", {"email_verified": "true"}, "Claims"),
        ("verified not said", {"email_verified": None}, "Claims"),
        ("without address", {"email": None}, "Claims"),
        ("for another provider's client", {"aud": OTHER_CLIENT}, "Audience"),
        ("for two clients", {"aud": [CLIENT, OTHER_CLIENT]}, "Audience"),
        ("for one client twice", {"aud": [CLIENT, CLIENT]}, "Audience"),
        ("for nobody", {"aud": []}, "Audience"),
        ("azp of another", {"azp": OTHER_CLIENT}, "Audience"),
        ("another nonce", {"nonce": b64(bytes(16))}, "Nonce"),
        ("nonce and more", {"nonce": CHALLENGE + "="}, "Nonce"),
        ("no nonce", {"nonce": None}, "Claims"),
        ("nonce empty", {"nonce": ""}, "Nonce"),
        ("expired", {"exp": NOW_S + 10}, "Expired"),
        ("from the future", {"iat": NOW_S + 16}, "NotYetValid"),
        ("not before later", {"nbf": NOW_S + 16}, "NotYetValid"),
        ("before the challenge", {"iat": ISSUED_S - 6}, "BeforeChallenge"),
        ("time as text", {"iat": str(NOW_S)}, "Claims"),
        ("unknown issuer", {"iss": "https://stranger.example"}, "UnknownSigner"),
        ("issuer with a slash", {"iss": ISSUER + "/"}, "UnknownSigner"),
        ("in the name of another domain's issuer", {"iss": OTHER_ISSUER}, "UnknownSigner"),
    ]:
        yield case(name, token(RSA, header(), claims(**more)), expect)
    other = token(OTHER, header("ES256", "other-1"), claims(iss=OTHER_ISSUER))
    yield case("by an issuer for another domain", other, "UnknownSigner")
    elsewhere = token(OTHER, header("ES256", "other-1"), claims())
    yield case("by another issuer in the name of ours", elsewhere, "UnknownSigner")
    plain = token(RSA, header(), claims())
    yield case("about a number", plain, "Kind", sii="tel:+12015550123")
    yield case("about a user id", plain, "Kind", sii="acct:alice@mail.example")
    yield case("for a provider without client", plain, "Audience", provider="threema.example")


def bad_signature():
    yield case("by a stranger under a known kid", token(STRANGER, header(), claims()), "Signature")
    yield case("unknown kid", token(RSA, header(kid="rsa-2"), claims()), "UnknownSigner")
    yield case("without kid", odd_token(RSA, {"alg": "RS256"}, claims()), "Header")
    yield case("encryption key's kid", token(RSA, header(kid="enc-1"), claims()), "UnknownSigner")
    for alg in ["none", "HS256", "PS256", "RS384", "RS512", "ES256", "ES384", "rs256"]:
        yield case(f"alg {alg}", odd_token(RSA, header(alg), claims()), "Algorithm")
    yield case("RS256 with the kid of an EC key", odd_token(RSA, es(alg="RS256"), claims()), "Algorithm")
    hs = header("HS256")
    yield case("HS256 under the public key", hmac_token(RSA, hs, claims()), "Algorithm")
    yield case("unsigned", signing_input(header("none"), claims()) + ".", "Form")
    plain = token(RSA, header(), claims())
    yield case("claims altered", altered(plain, 1), "Claims")
    yield case("signature altered", altered(plain, 2), "Signature")
    yield case("ES256 altered", altered(token(EC, es(), claims()), 2), "Signature")
    for typ in ["at+jwt", "logout+jwt", "blindbook-claim+jwt"]:
        yield case(f"typ {typ}", odd_token(RSA, header(typ=typ), claims()), "Type")
    for name, value in [("jwk", jwk(STRANGER)), ("jku", "https://x.example"), ("crit", ["exp"])]:
        made = odd_token(STRANGER, header(**{name: value}), claims())
        yield case(f"header with {name}", made, "HeaderParameter")
    twice = json.dumps(claims())[:-1] + ',"email":"bob@mail.example"}'
    yield case("claim twice", odd_token(RSA, header(), twice), "Claims")


def vectors():
    ours = [
        jwk(RSA, kid="rsa-1", use="sig", alg="RS256"),
        jwk(EC, kid="ec-1", use="sig"),
        jwk(STRANGER, kid="enc-1", use="enc"),
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed-1", "x": b64(bytes(32))},
    ]
    clients = {PROVIDER: CLIENT, "signal.example": OTHER_CLIENT}
    issuers = [
        {"url": ISSUER, "jwks": {"keys": ours}, "domains": ["Mail.example"], "clients": clients},
        {
            "url": OTHER_ISSUER,
            "jwks": {"keys": [jwk(OTHER, kid="other-1")]},
            "domains": ["other.example"],
            "clients": clients,
        },
    ]
    return {"issuers": issuers, "cases": [*good(), *bad_claims(), *bad_signature()]}
