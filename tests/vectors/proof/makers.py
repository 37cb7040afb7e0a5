"""Fixed keys, tokens and certificates."""

import base64
import datetime
import hashlib
import hmac
import json
import random

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from jwt.algorithms import ECAlgorithm

NOW_S = 1_800_000_000
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def b64(data):
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def ec_key(name, curve=ec.SECP256R1()):
    """A key that its name fixes."""
    digest = hashlib.sha512(b"blindbook test key " + name.encode()).digest()
    return ec.derive_private_key(int.from_bytes(digest[:32]), curve)


def rsa_key(name, bits=2048):
    """An RSA key that its name fixes: primes from a seeded generator."""
    draw = random.Random("blindbook test key " + name)

    def is_prime(number):
        odd, twos = number - 1, 0
        while odd % 2 == 0:
            odd, twos = odd // 2, twos + 1
        for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
            power = pow(base, odd, number)
            if power in (1, number - 1):
                continue
            for _ in range(twos - 1):
                power = power * power % number
                if power == number - 1:
                    break
            else:
                return False
        return True

    def prime():
        while True:
            number = draw.getrandbits(bits // 2) | 3 << (bits // 2 - 2) | 1
            if number % 65537 != 1 and is_prime(number):
                return number

    p, q, e = prime(), prime(), 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, p * q)
    )
    return numbers.private_key()


def jwk(key, **more):
    """The public half, as JWK."""
    public = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        n = public.n.to_bytes((public.n.bit_length() + 7) // 8)
        return {"kty": "RSA", "n": b64(n), "e": b64(public.e.to_bytes(3)), **more}
    return {
        "kty": "EC",
        "crv": "P-256",
        "x": b64(public.x.to_bytes(32)),
        "y": b64(public.y.to_bytes(32)),
        **more,
    }


def thumbprint(key):
    """RFC 7638."""
    members = {name: value for name, value in jwk(key).items() if name in ("crv", "kty", "x", "y")}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return b64(hashlib.sha256(text.encode()).digest())


class Deterministic(ECAlgorithm):
    """PyJWT's ES256 with the nonce of RFC 6979."""

    def sign(self, msg, key):
        return raw_signature(key, msg)


JWS = jwt.PyJWS()
JWS.unregister_algorithm("ES256")
JWS.register_algorithm("ES256", Deterministic(hashes.SHA256))


def raw_signature(key, message):
    der = key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    r, s = utils.decode_dss_signature(der)
    return r.to_bytes(32) + s.to_bytes(32)


def token(key, header, claims):
    """A token as PyJWT signs it."""
    payload = json.dumps(claims, separators=(",", ":")).encode()
    made = JWS.encode(payload, key, algorithm=header["alg"], headers=header)
    assert JWS.decode(made, key.public_key(), algorithms=[header["alg"]]) == payload
    return made


def signing_input(header, claims):
    """What stands before the signature, of anything: text is taken as it is."""
    parts = [
        part if isinstance(part, str) else json.dumps(part, separators=(",", ":"))
        for part in (header, claims)
    ]
    return ".".join(b64(part.encode()) for part in parts)


def odd_token(key, header, claims):
    """A token that PyJWT would not make; ES256 or RS256 whatever `alg` says."""
    text = signing_input(header, claims)
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    else:
        signature = raw_signature(key, text.encode())
    return f"{text}.{b64(signature)}"


def public_pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def hmac_token(key, header, claims):
    """Algorithm confusion: HS256 under the text of the public key."""
    text = signing_input(header, claims)
    return f"{text}.{b64(hmac.digest(public_pem(key), text.encode(), 'sha256'))}"


def altered(made, part):
    """One bit of a part turned over."""
    parts = made.split(".")
    data = bytearray(base64.urlsafe_b64decode(parts[part] + "=="))
    data[len(data) // 2] ^= 1
    parts[part] = b64(bytes(data))
    return ".".join(parts)


# Certificates.


def der(tag, content):
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size) + content


def ia5(text):
    return der(0x16, text.encode())


def spc(code):
    return der(0xA0, ia5(code))


def numbers(start, count):
    size = count.bit_length() // 8 + 1
    return der(0xA1, der(0x30, ia5(start) + der(0x02, count.to_bytes(size))))


def one(number):
    return der(0xA2, ia5(number))


def tn_auth_list(*entries):
    return der(0x30, b"".join(entries))


def name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def date(text):
    return datetime.datetime.fromisoformat(text)


class Party:
    """A name, a key and a certificate."""

    def __init__(
        self,
        subject,
        issuer=None,
        *,
        lists=None,
        ca=False,
        path_length=None,
        usage=None,
        key=None,
        signed_by=None,
        digest=None,
        begins="2016-01-01",
        ends="2030-01-01",
        more=(),
        constraints=True,
    ):
        self.key = key or ec_key(subject)
        self.name = name(subject)
        issuer_name = issuer.name if issuer else self.name
        issuer_key = signed_by or (issuer.key if issuer else self.key)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer_name)
            .public_key(self.key.public_key())
            .serial_number(int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8]) | 1)
            .not_valid_before(date(begins))
            .not_valid_after(date(ends))
        )
        if constraints:
            builder = builder.add_extension(
                x509.BasicConstraints(ca=ca, path_length=path_length), critical=True
            )
        usage = usage or ({"key_cert_sign"} if ca else {"digital_signature"})
        flags = (
            "digital_signature content_commitment key_encipherment data_encipherment "
            "key_agreement key_cert_sign crl_sign encipher_only decipher_only"
        ).split()
        if usage != {"none"}:
            builder = builder.add_extension(
                x509.KeyUsage(**{flag: flag in usage for flag in flags}), critical=True
            )
        if lists is not None:
            builder = builder.add_extension(extension("1.3.6.1.5.5.7.1.26", lists), critical=False)
        for value, critical in more:
            builder = builder.add_extension(value, critical=critical)
        if isinstance(issuer_key, rsa.RSAPrivateKey):
            made = builder.sign(issuer_key, hashes.SHA256())
        else:
            made = builder.sign(issuer_key, digest or hashes.SHA256(), ecdsa_deterministic=True)
        self.der = made.public_bytes(serialization.Encoding.DER)


def extension(oid, value):
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
