"""The curve edwards25519, Ed25519 (RFC 8032) with strict verification, and the
group ristretto255 (RFC 9496)."""

import hashlib

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def sqrt_ratio(u, v):
    """SQRT_RATIO_M1 of RFC 9496 section 4.2: whether u/v is a square, and its
    non-negative root, or that of i*u/v."""
    r = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    check = v * r * r % P
    correct, flipped = check == u % P, check == -u % P
    flipped_i = check == -u * SQRT_M1 % P
    if flipped or flipped_i:
        r = r * SQRT_M1 % P
    return correct or flipped, (-r % P if r & 1 else r)


INVSQRT_A_MINUS_D = sqrt_ratio(1, -1 - D)[1]
# The root that RFC 9496 section 4.1 names is the odd one.
SQRT_AD_MINUS_ONE = -sqrt_ratio(-D - 1, 1)[1] % P


class Point:
    """A point in extended coordinates."""

    def __init__(self, x, y, z=1, t=None):
        self.x, self.y, self.z = x, y, z
        self.t = x * y % P if t is None else t

    def __add__(self, other):
        a = (self.y - self.x) * (other.y - other.x) % P
        b = (self.y + self.x) * (other.y + other.x) % P
        c = 2 * self.t * other.t * D % P
        d = 2 * self.z * other.z % P
        e, f, g, h = b - a, d - c, d + c, b + a
        return Point(e * f % P, g * h % P, f * g % P, e * h % P)

    def __neg__(self):
        return Point(-self.x % P, self.y, self.z, -self.t % P)

    def __rmul__(self, scalar):
        result, power = IDENTITY, self
        while scalar:
            if scalar & 1:
                result += power
            power += power
            scalar >>= 1
        return result

    def is_small_order(self):
        eight = 8 * self
        return eight.x == 0 and (eight.y - eight.z) % P == 0

    # Ed25519's encoding, RFC 8032 section 5.1.2 and 5.1.3.

    def compress(self):
        inverse = pow(self.z, -1, P)
        x, y = self.x * inverse % P, self.y * inverse % P
        return (y | (x & 1) << 255).to_bytes(32, "little")

    @staticmethod
    def decompress(encoding):
        """The point, or None."""
        number = int.from_bytes(encoding, "little")
        y, sign = number & (2**255 - 1), number >> 255
        if y >= P:
            return None
        square, x = sqrt_ratio((y * y - 1) % P, (D * y * y + 1) % P)
        if not square or (x == 0 and sign):
            return None
        return Point(-x % P if x & 1 != sign else x, y)

    # ristretto255, RFC 9496 section 4.3.

    def encode(self):
        u1 = (self.z + self.y) * (self.z - self.y) % P
        u2 = self.x * self.y % P
        _, root = sqrt_ratio(1, u1 * u2 * u2 % P)
        den1, den2 = root * u1 % P, root * u2 % P
        z_inverse = den1 * den2 * self.t % P
        x, y, den = self.x, self.y, den2
        if self.t * z_inverse % P & 1:
            x, y = self.y * SQRT_M1 % P, self.x * SQRT_M1 % P
            den = den1 * INVSQRT_A_MINUS_D % P
        if x * z_inverse % P & 1:
            y = -y % P
        s = den * (self.z - y) % P
        return (-s % P if s & 1 else s).to_bytes(32, "little")

    @staticmethod
    def decode(encoding):
        """The element, or None for an encoding that is not canonical."""
        s = int.from_bytes(encoding, "little")
        if s >= P or s & 1:
            return None
        ss = s * s % P
        u1, u2 = (1 - ss) % P, (1 + ss) % P
        v = (-(D * u1 * u1) - u2 * u2) % P
        square, root = sqrt_ratio(1, v * u2 * u2 % P)
        den_x, den_y = root * u2 % P, root * root * u2 * v % P
        x = 2 * s * den_x % P
        x = -x % P if x & 1 else x
        y, t = u1 * den_y % P, x * u1 * den_y % P
        if not square or t & 1 or y == 0:
            return None
        return Point(x, y)

    @staticmethod
    def from_uniform(data):
        """The one-way map of RFC 9496 section 4.3.4."""
        half = lambda part: int.from_bytes(part, "little") % 2**255 % P
        return _map(half(data[:32])) + _map(half(data[32:]))


def _map(t):
    r = SQRT_M1 * t * t % P
    u = (r + 1) * (1 - D * D) % P
    v = (-1 - r * D) * (r + D) % P
    square, s = sqrt_ratio(u, v)
    if not square:
        s = s * t % P
        s = s if s & 1 else -s % P
    c = -1 if square else r
    n = (c * (r - 1) * (D - 1) ** 2 - v) % P
    w0, w1 = 2 * s * v % P, n * SQRT_AD_MINUS_ONE % P
    w2, w3 = (1 - s * s) % P, (1 + s * s) % P
    return Point(w0 * w3 % P, w2 * w1 % P, w1 * w3 % P, w0 * w2 % P)


IDENTITY = Point(0, 1)
BASE = Point.decompress(bytes([0x58]) + bytes([0x66]) * 31)


def sha512(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def expand(seed):
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little")
    return scalar & (2**254 - 8) | 2**254, digest[32:]


def public_key(seed):
    return (expand(seed)[0] * BASE).compress()


def sign(seed, message):
    scalar, prefix = expand(seed)
    key = (scalar * BASE).compress()
    r = sha512(prefix, message) % L
    commitment = (r * BASE).compress()
    s = (r + sha512(commitment, key, message) * scalar) % L
    return commitment + s.to_bytes(32, "little")


def is_key(key):
    """Whether 32 bytes are a key that a client accepts."""
    point = Point.decompress(key) if len(key) == 32 else None
    return point is not None and not point.is_small_order()


def verify(key, message, signature):
    point, commitment = Point.decompress(key), Point.decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if point is None or commitment is None or s >= L:
        return False
    if point.is_small_order() or commitment.is_small_order():
        return False
    k = sha512(signature[:32], key, message) % L
    return (s * BASE + k * -point).compress() == signature[:32]
