"""SM3 and SM2 in plain Python, written from GB/T 32905 and GB/T 32918: suite 2 is checked against them.

Affine arithmetic, slow and not constant in time; nothing here is for keys that matter.
"""

from dataclasses import dataclass

IDENTITY = b"1234567812345678"
MASK = 0xFFFFFFFF

# ---- SM3 (GB/T 32905)

START = (
    *(0x7380166F, 0x4914B2B9, 0x172442D7, 0xDA8A0600),
    *(0xA96F30BC, 0x163138AA, 0xE38DEE4D, 0xB0FB0E4E),
)


def rotated(word: int, by: int) -> int:
    by %= 32
    return (word << by | word >> 32 - by) & MASK


def p0(word: int) -> int:
    return word ^ rotated(word, 9) ^ rotated(word, 17)


def p1(word: int) -> int:
    return word ^ rotated(word, 15) ^ rotated(word, 23)


def expanded(block: bytes) -> list[int]:
    words = [int.from_bytes(block[i : i + 4], "big") for i in range(0, 64, 4)]
    for j in range(16, 68):
        mixed = p1(words[j - 16] ^ words[j - 9] ^ rotated(words[j - 3], 15))
        words.append(mixed ^ rotated(words[j - 13], 7) ^ words[j - 6])
    return words


def compressed(state: tuple[int, ...], block: bytes) -> tuple[int, ...]:
    words = expanded(block)
    a, b, c, d, e, f, g, h = state
    for j in range(64):
        constant = 0x79CC4519 if j < 16 else 0x7A879D8A
        ss1 = rotated(rotated(a, 12) + e + rotated(constant, j) & MASK, 7)
        ss2 = ss1 ^ rotated(a, 12)
        ff = a ^ b ^ c if j < 16 else a & b | a & c | b & c
        gg = e ^ f ^ g if j < 16 else e & f | ~e & MASK & g
        tt1 = ff + d + ss2 + (words[j] ^ words[j + 4]) & MASK
        tt2 = gg + h + ss1 + words[j] & MASK
        a, b, c, d = tt1, a, rotated(b, 9), c
        e, f, g, h = p0(tt2), e, rotated(f, 19), g
    return tuple(x ^ y for x, y in zip(state, (a, b, c, d, e, f, g, h), strict=True))


def sm3(data: bytes) -> bytes:
    padded = data + b"\x80" + bytes(-(len(data) + 9) % 64) + (8 * len(data)).to_bytes(8, "big")
    state: tuple[int, ...] = START
    for at in range(0, len(padded), 64):
        state = compressed(state, padded[at : at + 64])
    return b"".join(word.to_bytes(4, "big") for word in state)


# ---- the recommended curve (GB/T 32918.5)

P = 0xFFFFFFFE_FFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_00000000_FFFFFFFF_FFFFFFFF
A = 0xFFFFFFFE_FFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_00000000_FFFFFFFF_FFFFFFFC
B = 0x28E9FA9E_9D9F5E34_4D5A9E4B_CF6509A7_F39789F5_15AB8F92_DDBCBD41_4D940E93
N = 0xFFFFFFFE_FFFFFFFF_FFFFFFFF_FFFFFFFF_7203DF6B_21C6052B_53BBF409_39D54123


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int


G = Point(
    0x32C4AE2C_1F198119_5F990446_6A39C994_8FE30BBF_F2660BE1_715A4589_334C74C7,
    0xBC3736A2_F4F6779C_59BDCEE3_6B692153_D0A9877C_C62A4740_02DF32E5_2139F0A0,
)


def on_curve(point: Point) -> bool:
    return (point.y**2 - point.x**3 - A * point.x - B) % P == 0


def added(p: Point | None, q: Point | None) -> Point | None:
    """None is the point at infinity."""
    if p is None or q is None:
        return p or q
    if p.x == q.x and (p.y + q.y) % P == 0:
        return None
    if p == q:
        slope = (3 * p.x**2 + A) * pow(2 * p.y, -1, P) % P
    else:
        slope = (q.y - p.y) * pow(q.x - p.x, -1, P) % P
    x = (slope**2 - p.x - q.x) % P
    return Point(x, (slope * (p.x - x) - p.y) % P)


def times(factor: int, point: Point) -> Point:
    total: Point | None = None
    for bit in f"{factor:b}":
        total = added(total, total)
        if bit == "1":
            total = added(total, point)
    assert total is not None
    return total


def octets(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(32, "big") for number in numbers)


def encoded(point: Point) -> bytes:
    return b"\x04" + octets(point.x, point.y)


def decoded(public: bytes) -> Point:
    assert len(public) == 65
    assert public[0] == 4
    return Point(int.from_bytes(public[1:33], "big"), int.from_bytes(public[33:], "big"))


# ---- signatures (GB/T 32918.2)


def digest_of(public: Point, message: bytes) -> int:
    identity = (8 * len(IDENTITY)).to_bytes(2, "big") + IDENTITY
    z = sm3(identity + octets(A, B, G.x, G.y, public.x, public.y))
    return int.from_bytes(sm3(z + message), "big")


def sign(private: int, message: bytes, k: int) -> tuple[int, int]:
    e = digest_of(times(private, G), message)
    r = (e + times(k, G).x) % N
    assert r not in (0, N - k)
    return r, pow(1 + private, -1, N) * (k - r * private) % N


def verify(public: Point, message: bytes, signature: tuple[int, int]) -> bool:
    r, s = signature
    if not (0 < r < N and 0 < s < N) or (r + s) % N == 0:
        return False
    point = added(times(s, G), times((r + s) % N, public))
    return point is not None and (digest_of(public, message) + point.x) % N == r


# ---- encryption (GB/T 32918.4)


def key_stream(shared: Point, length: int) -> bytes:
    blocks = range(1, length // 32 + 2)
    return b"".join(sm3(octets(shared.x, shared.y) + n.to_bytes(4, "big")) for n in blocks)[:length]


def mixed(data: bytes, stream: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(data, stream, strict=True))


def encrypt(public: Point, plain: bytes, k: int) -> tuple[Point, bytes, bytes]:
    """C1, C3, C2."""
    shared = times(k, public)
    check = sm3(octets(shared.x) + plain + octets(shared.y))
    return times(k, G), check, mixed(plain, key_stream(shared, len(plain)))


def decrypt(private: int, c1: Point, c3: bytes, c2: bytes) -> bytes:
    assert on_curve(c1)
    shared = times(private, c1)
    plain = mixed(c2, key_stream(shared, len(c2)))
    assert sm3(octets(shared.x) + plain + octets(shared.y)) == c3
    return plain


# ---- DER, as far as these need it


def wrapped(tag: int, content: bytes) -> bytes:
    size = len(content)
    short = bytes([size]) if size < 128 else bytes([0x80 | (size.bit_length() + 7) // 8])
    long = b"" if size < 128 else size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + short + long + content


def integer(number: int) -> bytes:
    return wrapped(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def signature_der(r: int, s: int) -> bytes:
    return wrapped(0x30, integer(r) + integer(s))


def ciphertext_der(c1: Point, c3: bytes, c2: bytes) -> bytes:
    return wrapped(0x30, integer(c1.x) + integer(c1.y) + wrapped(0x04, c3) + wrapped(0x04, c2))


def parts_of(der: bytes) -> list[bytes]:
    """The contents of the elements of one SEQUENCE."""
    (content,) = elements(der)
    return elements(content)


def elements(data: bytes) -> list[bytes]:
    found = []
    while data:
        size, start = data[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[2:start], "big")
        found.append(data[start : start + size])
        data = data[start + size :]
    return found


def read_signature(der: bytes) -> tuple[int, int]:
    r, s = (int.from_bytes(part, "big") for part in parts_of(der))
    return r, s


def read_ciphertext(der: bytes) -> tuple[Point, bytes, bytes]:
    x, y, c3, c2 = parts_of(der)
    return Point(int.from_bytes(x, "big"), int.from_bytes(y, "big")), c3, c2
