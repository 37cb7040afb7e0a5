"""PASSporTs and their certificate chains."""

import base64
import hashlib
import json

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from makers import (
    NOW_S,
    Party,
    altered,
    b64,
    ec_key,
    extension,
    hmac_token,
    jwk,
    numbers,
    odd_token,
    one,
    rsa_key,
    signing_input,
    spc,
    tn_auth_list,
    token,
)

NUMBER, SII = "12015550123", "tel:+12015550123"
PROVIDER, OTHER_PROVIDER, NO_ADDRESS = "wa.example", "signal.example", "threema.example"
ADDRESS, OTHER_ADDRESS = "12015559000", "sip:signal@verify.dp.example"
CHALLENGE = b64(bytes(range(0x60, 0x70)))
ISSUED_S = NOW_S - 20
X5U = "https://cert.example.org/passport.cer"

ALL = tn_auth_list(numbers("12015550000", 10_000))
HUNDRED = tn_auth_list(spc("1234"), numbers("12015550100", 100))
ONE = tn_auth_list(one(NUMBER))

P384 = ec_key("root", ec.SECP384R1())
ROOT = Party("root", ca=True, key=P384, digest=hashes.SHA384())
OLD_ROOT = Party("old root", ca=True, ends="2020-01-01")
STRANGE_ROOT = Party("strange root", ca=True)
FLAT_ROOT = Party("flat root", ca=True, path_length=0)
RSA_ROOT_KEY = rsa_key("rsa root")
AUTHORITY = Party("authority", ROOT, ca=True, path_length=1, lists=ALL, digest=hashes.SHA384())
DELEGATE = Party("delegate", AUTHORITY, ca=True, path_length=0, lists=HUNDRED)
SIGNER = Party("signer", DELEGATE, lists=ONE)
CHAIN = [SIGNER, DELEGATE, AUTHORITY]


def header(**more):
    given = {"alg": "ES256", "typ": "passport", "x5u": X5U, **more}
    return {name: value for name, value in given.items() if value is not None}


def claims(**more):
    good = {"dest": {"tn": [ADDRESS]}, "iat": NOW_S, "orig": {"tn": NUMBER}}
    good.update(more)
    return {name: value for name, value in good.items() if value is not None}


def text(provider=PROVIDER, challenge=CHALLENGE):
    return f"I want to be found at {provider}. blindbook v1 challenge {challenge}"


def msgi(said, algorithm="sha256"):
    digest = hashlib.new(algorithm, said.encode()).digest()
    return f"{algorithm}-{base64.b64encode(digest).decode()}"


def message(**more):
    return claims(**{"dest": {"tn": ["12015559999"]}, "msgi": msgi(text()), **more})


def made(payload=None, head=None, party=SIGNER):
    return token(party.key, head or header(), payload or claims())


def case(name, token, expect, chain=None, now_s=NOW_S + 10, sii=SII, provider=PROVIDER, **more):
    chain = CHAIN if chain is None else chain
    ders = [party if isinstance(party, bytes) else party.der for party in chain]
    return {
        "name": name,
        "sii": sii,
        "provider": provider,
        "token": token,
        "chain": [base64.b64encode(certificate).decode() for certificate in ders],
        "challenge": CHALLENGE,
        "issued_s": more.get("issued_s", ISSUED_S),
        "now_s": now_s,
        "expect": expect,
    }


def good():
    yield case("a call to our address", made(), "ok")
    yield case("without x5u", made(head=header(x5u=None)), "ok")
    yield case("chain with its root", made(), "ok", chain=[*CHAIN, ROOT])
    to_uri = made(claims(dest={"uri": [OTHER_ADDRESS]}))
    yield case("a call to a URI", to_uri, "ok", provider=OTHER_PROVIDER)
    for algorithm in ["sha256", "sha384", "sha512"]:
        payload = message(msgi=msgi(text(), algorithm))
        yield case(f"a message, {algorithm}", made(payload, header(ppt="msg")), "ok")
    payload = message(msgi=msgi(text(NO_ADDRESS)))
    sent = made(payload, header(ppt="msg"))
    yield case("a message for a provider without address", sent, "ok", provider=NO_ADDRESS)
    yield case("a minute old", made(claims(iat=NOW_S - 50)), "ok", issued_s=NOW_S - 50)
    yield case("five seconds ahead", made(claims(iat=NOW_S + 15)), "ok")
    yield case("signed as we asked, by a slow clock", made(claims(iat=ISSUED_S - 5)), "ok")
    direct = Party("direct", ROOT, lists=HUNDRED, digest=hashes.SHA384())
    yield case("signer issued by the root", made(party=direct), "ok", chain=[direct])
    plain = Party("plain", DELEGATE, lists=ONE, usage={"none"}, constraints=False)
    yield case("signer without constraints", made(party=plain), "ok", chain=[plain, DELEGATE, AUTHORITY])


def rfc_8225():
    """The header and claims of RFC 8225, appendix A: a call to Alice, which is no
    proof of anything to us. Those of its section 7.1 have `iat` as text."""
    party = Party("rfc 8225", ROOT, lists=tn_auth_list(one("12155551212")), digest=hashes.SHA384())
    head = '{"alg":"ES256","typ":"passport","x5u":"https://cert.example.org/passport.cer"}'
    call = '{"dest":{"uri":["sip:alice@example.com"]},"iat":%s,"orig":{"tn":"12155551212"}}'
    assert signing_input(head, call % 1471375418) == (
        "eyJhbGciOiJFUzI1NiIsInR5cCI6InBhc3Nwb3J0IiwieDV1IjoiaHR0cHM6Ly9jZXJ0LmV4YW1wbGUub3JnL3Bhc3"
        "Nwb3J0LmNlciJ9.eyJkZXN0Ijp7InVyaSI6WyJzaXA6YWxpY2VAZXhhbXBsZS5jb20iXX0sImlhdCI6MTQ3MTM3NTQ"
        "xOCwib3JpZyI6eyJ0biI6IjEyMTU1NTUxMjEyIn19"
    )
    when = {"now_s": 1471375420, "issued_s": 1471375410, "sii": "tel:+12155551212", "chain": [party]}
    appendix = odd_token(party.key, head, call % 1471375418)
    yield case("RFC 8225 appendix A", appendix, "Destination", **when)
    section = odd_token(party.key, head, call % '"1443208345"')
    yield case("RFC 8225 section 7.1", section, "Claims", **when)
    alice = json.loads(call % 1471375418)
    ours = token(party.key, json.loads(head), {**alice, "dest": {"tn": [ADDRESS]}})
    yield case("RFC 8225 appendix A, to us", ours, "ok", **when)


def bad_claims():
    for name, more, expect in [
        ("a call to somebody else", {"dest": {"tn": ["12015559999"]}}, "Destination"),
        ("a call to another provider's address", {"dest": {"uri": [OTHER_ADDRESS]}}, "Destination"),
        ("a call to us and somebody else", {"dest": {"tn": [ADDRESS, "12015559999"]}}, "Destination"),
        ("a call to us twice", {"dest": {"tn": [ADDRESS, ADDRESS]}}, "Destination"),
        ("a call to a number and a URI", {"dest": {"tn": [ADDRESS], "uri": ["sip:a@b"]}}, "Destination"),
        ("our number as a URI", {"dest": {"uri": [ADDRESS]}}, "Destination"),
        ("our number with a plus", {"dest": {"tn": ["+" + ADDRESS]}}, "Destination"),
        ("a call to nobody", {"dest": {}}, "Destination"),
        ("destination no list", {"dest": {"tn": ADDRESS}}, "Claims"),
        ("destination of another kind", {"dest": {"urn": [ADDRESS]}}, "Claims"),
        ("no destination", {"dest": None}, "Claims"),
        ("from another number", {"orig": {"tn": "12015550124"}}, "Subject"),
        ("from a number with a plus", {"orig": {"tn": "+" + NUMBER}}, "Subject"),
        ("from a URI", {"orig": {"uri": "sip:a@b.example"}}, "Subject"),
        ("from number and URI", {"orig": {"tn": NUMBER, "uri": "sip:a@b.example"}}, "Claims"),
        ("from nobody", {"orig": {}}, "Claims"),
        ("origin a list", {"orig": {"tn": [NUMBER]}}, "Claims"),
        ("stale", {"iat": NOW_S - 51}, "Expired"),
        ("from the future", {"iat": NOW_S + 16}, "NotYetValid"),
        ("signed before we asked", {"iat": ISSUED_S - 6}, "BeforeChallenge"),
        ("time as text", {"iat": str(NOW_S)}, "Claims"),
        ("no time", {"iat": None}, "Claims"),
    ]:
        issued = {"issued_s": NOW_S - 60} if name == "stale" else {}
        yield case(name, made(claims(**more)), expect, **issued)
    yield case("a call for a provider without address", made(), "Destination", provider=NO_ADDRESS)
    for name, more in [
        ("a message for another provider", {"msgi": msgi(text(OTHER_PROVIDER))}),
        ("a message of another challenge", {"msgi": msgi(text(challenge=b64(bytes(16))))}),
        ("a message by a weak digest", {"msgi": msgi(text(), "md5")}),
        ("a message by a digest in name", {"msgi": msgi(text()).replace("256", "384")}),
        ("a message without digest", {"msgi": "sha256-"}),
        ("a message in base64url", {"msgi": msgi(text()).rstrip("=")}),
    ]:
        yield case(name, made(message(**more), header(ppt="msg")), "Message")
    yield case("a message without msgi", made(message(msgi=None), header(ppt="msg")), "Claims")
    yield case("a message in the form of a call", made(message()), "Destination")
    yield case("a call in the form of a message", made(head=header(ppt="msg")), "Claims")
    mail = "mailto:a@b.example"
    yield case("about an address", made(), "Kind", sii=mail)
    other = "tel:+12015550124"
    yield case("for another number of the range", made(), "NumberNotCovered", sii=other)


def bad_token():
    for ppt in ["shaken", "div", "rcd", "MSG", ""]:
        yield case(f"ppt {ppt or 'empty'}", made(head=header(ppt=ppt)), "PassportExtension")
    for typ in ["JWT", "blindbook-claim+jwt", "Passport"]:
        yield case(f"typ {typ}", odd_token(SIGNER.key, header(typ=typ), claims()), "Type")
    for alg in ["none", "HS256", "ES384", "RS256"]:
        yield case(f"alg {alg}", odd_token(SIGNER.key, header(alg=alg), claims()), "Algorithm")
    confused = hmac_token(SIGNER.key, header(alg="HS256"), claims())
    yield case("HS256 under the public key", confused, "Algorithm")
    for name, value in [("jwk", jwk(SIGNER.key)), ("x5c", ["MIIB"]), ("crit", ["ppt"])]:
        odd = odd_token(SIGNER.key, header(**{name: value}), claims())
        yield case(f"header with {name}", odd, "HeaderParameter")
    yield case("header with more", odd_token(SIGNER.key, header(opt="x"), claims()), "Header")
    yield case("unsigned", signing_input(header(), claims()) + ".", "Form")
    yield case("compact form", ".." + made().rsplit(".", 1)[1], "Form")
    yield case("claims altered", altered(made(), 1), "Signature")
    yield case("signature altered", altered(made(), 2), "Signature")
    yield case("signed by the delegate", made(party=DELEGATE), "Signature")


def bad_chain():
    def signed_by(name, expect, party, above=(DELEGATE, AUTHORITY)):
        return case(name, made(party=party), expect, chain=[party, *above])

    def under(name, expect, authority, above=(AUTHORITY,), **more):
        leaf = Party("leaf of " + name, authority, lists=ONE, **more)
        return signed_by(name, expect, leaf, (authority, *above))

    yield case("no certificate", made(), "ChainLength", chain=[])
    yield case("six certificates", made(), "ChainLength", chain=[*CHAIN, ROOT, ROOT, ROOT])
    yield case("a certificate of other bytes", made(), "Certificate", chain=[b"\x30\x03abc"])
    yield case("a byte behind", made(), "Certificate", chain=[SIGNER.der + b"\0", DELEGATE, AUTHORITY])
    yield case("a certificate cut", made(), "Certificate", chain=[SIGNER.der[:-1], DELEGATE, AUTHORITY])
    yield case("a certificate too large", made(), "TooLarge", chain=[SIGNER.der + bytes(9000)])
    yield case("a gap", made(), "CertificateOrder", chain=[SIGNER, AUTHORITY])
    yield case("in another order", made(), "CertificatePathLength", chain=[SIGNER, AUTHORITY, DELEGATE])
    yield case("not up to a root", made(), "UnknownRoot", chain=[SIGNER, DELEGATE])
    strange = Party("strange authority", STRANGE_ROOT, ca=True, lists=ALL)
    yield under("unknown root", "UnknownRoot", strange, ())
    yield under("unknown root handed over", "UnknownRoot", strange, (STRANGE_ROOT,))
    own = Party("own", lists=ONE)
    yield case("signed by itself", made(party=own), "UnknownRoot", chain=[own])
    named = Party("root", ca=True, key=ec_key("root of the same name"), lists=ALL)
    yield under("a root of the same name handed over", "CertificateSignature", named, ())
    forged = Party("forged", AUTHORITY, ca=True, lists=HUNDRED, signed_by=ec_key("forger"))
    yield under("forged authority", "CertificateSignature", forged)
    forged = Party("forged signer", DELEGATE, lists=ONE, signed_by=ec_key("forger"))
    yield signed_by("forged signer", "CertificateSignature", forged)

    ended = Party("ended", DELEGATE, lists=ONE, ends="2026-01-01")
    yield signed_by("expired signer", "CertificateTime", ended)
    early = Party("early", DELEGATE, lists=ONE, begins="2028-01-01")
    yield signed_by("signer not valid yet", "CertificateTime", early)
    ended = Party("ended authority", AUTHORITY, ca=True, lists=HUNDRED, ends="2026-01-01")
    yield under("expired authority", "CertificateTime", ended)
    old = Party("under old root", OLD_ROOT, ca=True, lists=ALL)
    yield under("expired root", "CertificateTime", old, ())

    leaf = Party("signer beneath a signer", SIGNER, lists=ONE)
    yield signed_by("issued by a signer", "CertificateAuthority", leaf, CHAIN)
    unsaid = Party("unsaid", AUTHORITY, ca=True, lists=HUNDRED, constraints=False)
    yield under("authority without constraints", "CertificateAuthority", unsaid)
    deep = Party("deep", DELEGATE, ca=True, lists=HUNDRED)
    yield under("delegated once too often", "CertificatePathLength", deep, (DELEGATE, AUTHORITY))
    flat = Party("under flat root", FLAT_ROOT, ca=True, lists=ALL)
    yield under("more beneath the root than it permits", "CertificatePathLength", flat, ())
    lame = Party("lame", AUTHORITY, ca=True, lists=HUNDRED, usage={"digital_signature"})
    yield under("authority's key not for certificates", "CertificateUsage", lame)
    unused = Party("unused", AUTHORITY, ca=True, lists=HUNDRED, usage={"none"})
    yield under("authority without key usage", "CertificateUsage", unused)
    lame = Party("lame signer", DELEGATE, lists=ONE, usage={"key_agreement"})
    yield signed_by("signer's key not for signatures", "CertificateUsage", lame)
    yield case("signed by an authority", made(party=DELEGATE), "CertificateUsage", chain=[DELEGATE, AUTHORITY])

    big = Party("p384", DELEGATE, lists=ONE, key=ec_key("p384", ec.SECP384R1()))
    yield case("signer on P-384", made(), "CertificateKey", chain=[big, DELEGATE, AUTHORITY])
    rsa = Party("rsa", DELEGATE, lists=ONE, key=RSA_ROOT_KEY)
    yield case("signer with RSA", made(), "CertificateKey", chain=[rsa, DELEGATE, AUTHORITY])
    rsa = Party("rsa authority", AUTHORITY, ca=True, lists=HUNDRED, key=RSA_ROOT_KEY)
    yield under("authority with RSA", "CertificateAlgorithm", rsa)

    unknown = [(extension("1.3.6.1.4.1.99999.1", b"\x05\x00"), True)]
    odd = Party("critical", DELEGATE, lists=ONE, more=unknown)
    yield signed_by("critical extension", "CertificateExtension", odd)
    claim = [(extension("1.3.6.1.5.5.7.1.27", bytes.fromhex("3000")), False)]
    odd = Party("constrained", DELEGATE, lists=ONE, more=claim)
    yield signed_by("JWT claim constraints", "CertificateExtension", odd)
    tree = x509.NameConstraints([x509.DNSName("example")], None)
    odd = Party("named", AUTHORITY, ca=True, lists=HUNDRED, more=[(tree, True)])
    yield under("name constraints", "CertificateExtension", odd)


def bad_numbers():
    def with_list(name, expect, lists):
        leaf = Party("signer, " + name, DELEGATE, lists=lists)
        return case(name, made(party=leaf), expect, chain=[leaf, DELEGATE, AUTHORITY])

    def authority(name, expect, lists):
        middle = Party("authority, " + name, AUTHORITY, ca=True, lists=lists)
        leaf = Party("leaf, " + name, middle, lists=ONE)
        return case(name, made(party=leaf), expect, chain=[leaf, middle, AUTHORITY])

    yield with_list("no TNAuthList", "NumbersMissing", None)
    yield authority("authority without TNAuthList", "NumbersMissing", None)
    yield with_list("service provider code only", "NumbersUnnamed", tn_auth_list(spc("1234")))
    yield authority("authority with a service provider code only", "NumbersUnnamed", tn_auth_list(spc("1")))
    yield with_list("another number", "NumberNotCovered", tn_auth_list(one("12015550124")))
    yield with_list("before the range", "NumberNotCovered", tn_auth_list(numbers("12015550124", 100)))
    yield with_list("behind the range", "NumberNotCovered", tn_auth_list(numbers("12015550023", 100)))
    yield with_list("a prefix of the number", "NumberNotCovered", tn_auth_list(numbers("1201555012", 10)))
    yield authority("authority over others", "NumberNotCovered", tn_auth_list(numbers("12015551000", 1000)))
    yield with_list("empty list", "NumbersMalformed", tn_auth_list())
    yield with_list("list of other bytes", "NumbersMalformed", b"\x04\x00")
    yield with_list("a byte behind the list", "NumbersMalformed", ONE + b"\0")
    yield with_list("a range of one", "NumbersMalformed", tn_auth_list(numbers(NUMBER, 1)))
    yield with_list("a number with a plus", "NumbersMalformed", tn_auth_list(one("+" + NUMBER)))


def vectors():
    roots = [ROOT, OLD_ROOT, FLAT_ROOT]
    cases = [*good(), *rfc_8225(), *bad_claims(), *bad_token(), *bad_chain(), *bad_numbers()]
    return {
        "roots": [base64.b64encode(root.der).decode() for root in roots],
        "addresses": {PROVIDER: "+" + ADDRESS, OTHER_PROVIDER: OTHER_ADDRESS},
        "cases": cases,
    }
