"""SM2 (GB/T 32918) with SM3 through the system's OpenSSL 3, found by its soname: `cryptography` has no SM2.

Public keys are 65 bytes, 04 ‖ x ‖ y; private ones 32 bytes, big-endian. Every failure is a `SuiteError`; what
OpenSSL queued of it is taken off the thread's queue, for Python's own `ssl` may read the same one. All that a
call allocates is freed before it returns, private keys by the calls that also wipe.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_ulong, c_void_p
from functools import cache
from sys import byteorder
from typing import Any, Final, Literal, TypeAlias

from agent.logformat.suites import SuiteError

PUBLIC_BYTES: Final = 65
PRIVATE_BYTES: Final = 32
ORDER: Final = 0xFFFFFFFE_FFFFFFFF_FFFFFFFF_FFFFFFFF_7203DF6B_21C6052B_53BBF409_39D54123
"""n of the recommended curve (GB/T 32918.5)."""
IDENTITY: Final = b"1234567812345678"
"""The signer's identity where none is agreed on (GM/T 0009)."""

_SONAME: Final = "libcrypto.so.3"
_ALGORITHM: Final = b"SM2"
_UNCOMPRESSED: Final = 4
_MAX_SIGNATURE_BYTES: Final = 72
"""DER of two integers of at most 33 bytes."""
_MAX_BYTES: Final = 1 << 20
"""OpenSSL's DER reader counts in a C long; nothing of ours comes near."""
_GREATEST_PRIVATE: Final = (ORDER - 2).to_bytes(PRIVATE_BYTES, "big")

# include/openssl/obj_mac.h, core.h, evp.h and core_names.h of OpenSSL 3.0
_NID_SM2: Final = 1172
_UNSIGNED, _UTF8, _OCTETS = 2, 4, 5
_PUBLIC_KEY, _KEY_PAIR = 0x86, 0x87

# PKCS#8 (RFC 5208) of an ECPrivateKey (RFC 5915): id-ecPublicKey, then the curve 1.2.156.10197.1.301.
_PKCS8_HEAD: Final = bytes.fromhex("308187020100301306072a8648ce3d020106082a811ccf5501822d046d306b0201010420")
_PKCS8_PUBLIC: Final = bytes.fromhex("a144034200")

_P: Final = c_void_p
_Octets: TypeAlias = "ctypes.Array[c_ubyte]"
_PROTOTYPES: Final[tuple[tuple[str, Any, tuple[Any, ...]], ...]] = (
    ("ERR_get_error", c_ulong, ()),
    ("ERR_reason_error_string", c_char_p, (c_ulong,)),
    ("BN_bin2bn", _P, (_P, c_int, _P)),
    ("BN_bn2binpad", c_int, (_P, _P, c_int)),
    ("BN_clear_free", None, (_P,)),
    ("EC_GROUP_new_by_curve_name", _P, (c_int,)),
    ("EC_GROUP_free", None, (_P,)),
    ("EC_POINT_new", _P, (_P,)),
    ("EC_POINT_free", None, (_P,)),
    ("EC_POINT_mul", c_int, (_P, _P, _P, _P, _P, _P)),
    ("EC_POINT_point2oct", c_size_t, (_P, _P, c_int, _P, c_size_t, _P)),
    ("EVP_PKEY_free", None, (_P,)),
    ("EVP_PKEY_is_a", c_int, (_P, c_char_p)),
    ("EVP_PKEY_get_bn_param", c_int, (_P, c_char_p, POINTER(_P))),
    ("EVP_PKEY_get_octet_string_param", c_int, (_P, c_char_p, _P, c_size_t, POINTER(c_size_t))),
    ("EVP_PKEY_CTX_new_from_name", _P, (_P, c_char_p, c_char_p)),
    ("EVP_PKEY_CTX_new_from_pkey", _P, (_P, _P, c_char_p)),
    ("EVP_PKEY_CTX_free", None, (_P,)),
    ("EVP_PKEY_CTX_set1_id", c_int, (_P, c_char_p, c_int)),
    ("EVP_PKEY_keygen_init", c_int, (_P,)),
    ("EVP_PKEY_generate", c_int, (_P, POINTER(_P))),
    ("EVP_PKEY_fromdata_init", c_int, (_P,)),
    ("EVP_PKEY_fromdata", c_int, (_P, POINTER(_P), c_int, _P)),
    ("EVP_PKEY_encrypt_init", c_int, (_P,)),
    ("EVP_PKEY_encrypt", c_int, (_P, _P, POINTER(c_size_t), _P, c_size_t)),
    ("EVP_PKEY_decrypt_init", c_int, (_P,)),
    ("EVP_PKEY_decrypt", c_int, (_P, _P, POINTER(c_size_t), _P, c_size_t)),
    ("EVP_MD_CTX_new", _P, ()),
    ("EVP_MD_CTX_free", None, (_P,)),
    ("EVP_DigestSignInit_ex", c_int, (_P, POINTER(_P), c_char_p, _P, c_char_p, _P, _P)),
    ("EVP_DigestSign", c_int, (_P, _P, POINTER(c_size_t), _P, c_size_t)),
    ("EVP_DigestVerifyInit_ex", c_int, (_P, POINTER(_P), c_char_p, _P, c_char_p, _P, _P)),
    ("EVP_DigestVerify", c_int, (_P, _P, c_size_t, _P, c_size_t)),
    ("d2i_AutoPrivateKey", _P, (_P, POINTER(_P), ctypes.c_long)),
)


class _Param(ctypes.Structure):
    """OSSL_PARAM."""

    _fields_ = (
        ("key", c_char_p),
        ("data_type", c_uint),
        ("data", _P),
        ("data_size", c_size_t),
        ("return_size", c_size_t),
    )


class Sm2:
    """The operations; holds the library and no keys. SuiteError where OpenSSL 3 or its SM2 is missing."""

    def __init__(self) -> None:
        self._lib = _library()
        try:
            self.generate()
        except SuiteError as error:
            raise SuiteError(
                f"suite 2: this system's {_SONAME} was built without SM2 ({error.reason})"
            ) from None

    def generate(self) -> tuple[bytes, bytes]:
        """A fresh private key and its public one."""
        lib, key = self._lib, _P()
        with self._held(
            lib.EVP_PKEY_CTX_new_from_name(None, _ALGORITHM, None), lib.EVP_PKEY_CTX_free
        ) as context:
            self._must(lib.EVP_PKEY_keygen_init(context))
            self._must(lib.EVP_PKEY_generate(context, byref(key)))
        with self._held(key.value, lib.EVP_PKEY_free):
            return self._private_of(key), self._public_of(key)

    def public_of(self, private: bytes | bytearray) -> bytes:
        """The public key that belongs to a private one."""
        lib = self._lib
        with (
            self._wiped(_scalar(private)) as scalar,
            self._held(lib.BN_bin2bn(scalar, PRIVATE_BYTES, None), lib.BN_clear_free) as number,
            self._held(lib.EC_GROUP_new_by_curve_name(_NID_SM2), lib.EC_GROUP_free) as group,
            self._held(lib.EC_POINT_new(group), lib.EC_POINT_free) as point,
        ):
            self._must(lib.EC_POINT_mul(group, point, number, None, None, None))
            out = (c_ubyte * PUBLIC_BYTES)()
            size = lib.EC_POINT_point2oct(group, point, _UNCOMPRESSED, out, PUBLIC_BYTES, None)
            self._must(size == PUBLIC_BYTES)
        return bytes(out)

    def sign(self, private: bytes | bytearray, message: bytes) -> bytes:
        """DER of (r, s), over SM3 of the signer's identity and key and the message (GB/T 32918.2)."""
        lib, size = self._lib, c_size_t(_MAX_SIGNATURE_BYTES)
        out = (c_ubyte * _MAX_SIGNATURE_BYTES)()
        with self._pair(private, self.public_of(private)) as key, self._digest() as digest:
            inner = _P()
            self._must(lib.EVP_DigestSignInit_ex(digest, byref(inner), b"SM3", None, None, key, None))
            self._must(lib.EVP_PKEY_CTX_set1_id(inner, IDENTITY, len(IDENTITY)))
            self._must(lib.EVP_DigestSign(digest, out, byref(size), message, len(message)))
        return bytes(out[: size.value])

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the signature is good; SuiteError for what is no public key."""
        if not 0 < len(signature) <= _MAX_SIGNATURE_BYTES:
            return False
        lib, inner = self._lib, _P()
        with self._public(public) as key, self._digest() as digest:
            self._must(lib.EVP_DigestVerifyInit_ex(digest, byref(inner), b"SM3", None, None, key, None))
            self._must(lib.EVP_PKEY_CTX_set1_id(inner, IDENTITY, len(IDENTITY)))
            good: int = lib.EVP_DigestVerify(digest, signature, len(signature), message, len(message))
        if good != 1:
            self._drain()
        return good == 1

    def encrypt(self, public: bytes, plain: bytes | bytearray) -> bytes:
        """DER of C1, C3, C2 (GB/T 32918.4, GM/T 0009). `plain`: 1 byte to 1 MiB."""
        _bounded(plain)
        lib, size = self._lib, c_size_t()
        with (
            self._wiped(_octets(plain)) as given,
            self._public(public) as key,
            self._context(key) as context,
        ):
            self._must(lib.EVP_PKEY_encrypt_init(context))
            self._must(lib.EVP_PKEY_encrypt(context, None, byref(size), given, len(plain)))
            out = (c_ubyte * size.value)()
            self._must(lib.EVP_PKEY_encrypt(context, out, byref(size), given, len(plain)))
        return bytes(out[: size.value])

    def decrypt(self, private: bytes | bytearray, encrypted: bytes) -> bytes:
        """The inverse; SuiteError for what this key does not open."""
        _bounded(encrypted)
        if not _is_one_sequence(encrypted):
            raise SuiteError("SM2: not one DER sequence")  # OpenSSL would pass over what follows it
        lib, size = self._lib, c_size_t()
        with self._pair(private) as key, self._context(key) as context:
            self._must(lib.EVP_PKEY_decrypt_init(context))
            self._must(lib.EVP_PKEY_decrypt(context, None, byref(size), encrypted, len(encrypted)))
            # As long as the ciphertext at least: no length that a forged DER states is trusted with memory.
            size = c_size_t(max(size.value, len(encrypted)))
            with self._wiped((c_ubyte * size.value)()) as out:
                self._must(lib.EVP_PKEY_decrypt(context, out, byref(size), encrypted, len(encrypted)))
                return bytes(out[: size.value])

    def pkcs8(self, private: bytes | bytearray) -> bytes:
        """The DER that `openssl pkey` reads: PKCS#8 with the public key in it, 138 bytes."""
        return _PKCS8_HEAD + bytes(private) + _PKCS8_PUBLIC + self.public_of(private)

    def from_pkcs8(self, der: bytes) -> bytes:
        """The private key in a DER of PKCS#8 (or a bare ECPrivateKey); SuiteError for all else."""
        _bounded(der)
        lib = self._lib
        with self._wiped(_octets(der)) as given:
            start = ctypes.addressof(given)
            cursor = _P(start)
            read = lib.d2i_AutoPrivateKey(None, byref(cursor), len(der))
            with self._held(read, lib.EVP_PKEY_free) as key:
                self._drain()  # the readers of other forms that were tried first complained
                if cursor.value != start + len(der) or lib.EVP_PKEY_is_a(key, _ALGORITHM) != 1:
                    raise SuiteError("not an SM2 private key, or bytes after it")
                private = self._private_of(key)
        _scalar(private)
        return private

    def _private_of(self, key: Any) -> bytes:  # noqa: ANN401 - a pointer, as ctypes has it
        lib, number = self._lib, _P()
        self._must(lib.EVP_PKEY_get_bn_param(key, b"priv", byref(number)))
        with (
            self._held(number.value, lib.BN_clear_free),
            self._wiped((c_ubyte * PRIVATE_BYTES)()) as out,
        ):
            self._must(lib.BN_bn2binpad(number, out, PRIVATE_BYTES) == PRIVATE_BYTES)
            return bytes(out)

    def _public_of(self, key: Any) -> bytes:  # noqa: ANN401 - the same
        out, size = (c_ubyte * PUBLIC_BYTES)(), c_size_t()
        self._must(self._lib.EVP_PKEY_get_octet_string_param(key, b"pub", out, PUBLIC_BYTES, byref(size)))
        self._must(size.value == PUBLIC_BYTES and out[0] == _UNCOMPRESSED)
        return bytes(out)

    @contextmanager
    def _public(self, public: bytes) -> Iterator[int]:
        """EVP_PKEY of a public key, once OpenSSL has found it on the curve."""
        if len(public) != PUBLIC_BYTES or public[0] != _UNCOMPRESSED:
            raise SuiteError(f"an SM2 public key is {PUBLIC_BYTES} bytes that begin with 04")
        with self._key(_PUBLIC_KEY, (b"pub", _OCTETS, _octets(public))) as key:
            yield key

    @contextmanager
    def _pair(self, private: bytes | bytearray, public: bytes | None = None) -> Iterator[int]:
        """EVP_PKEY of a private key; `public` for signing, which hashes it."""
        with self._wiped(_scalar(private, byteorder)) as scalar:
            parts = [(b"priv", _UNSIGNED, scalar)]
            if public is not None:
                parts.append((b"pub", _OCTETS, _octets(public)))
            with self._key(_KEY_PAIR, *parts) as key:
                yield key

    @contextmanager
    def _key(self, selection: int, *parts: tuple[bytes, int, _Octets]) -> Iterator[int]:
        lib, key = self._lib, _P()
        named = ((b"group", _UTF8, _octets(_ALGORITHM)), *parts)
        params = (_Param * (len(named) + 1))(
            *(_Param(name, kind, ctypes.addressof(data), len(data), 0) for name, kind, data in named)
        )
        with self._held(
            lib.EVP_PKEY_CTX_new_from_name(None, _ALGORITHM, None), lib.EVP_PKEY_CTX_free
        ) as context:
            self._must(lib.EVP_PKEY_fromdata_init(context))
            self._must(lib.EVP_PKEY_fromdata(context, byref(key), selection, params))
        with self._held(key.value, lib.EVP_PKEY_free) as held:
            yield held

    @contextmanager
    def _digest(self) -> Iterator[int]:
        with self._held(self._lib.EVP_MD_CTX_new(), self._lib.EVP_MD_CTX_free) as digest:
            yield digest

    @contextmanager
    def _context(self, key: int) -> Iterator[int]:
        made = self._lib.EVP_PKEY_CTX_new_from_pkey(None, key, None)
        with self._held(made, self._lib.EVP_PKEY_CTX_free) as context:
            yield context

    @contextmanager
    def _held(self, pointer: int | None, free: Callable[[int], None]) -> Iterator[int]:
        if not pointer:
            raise self._failure()
        try:
            yield pointer
        finally:
            free(pointer)

    @contextmanager
    def _wiped(self, buffer: _Octets) -> Iterator[_Octets]:
        try:
            yield buffer
        finally:
            ctypes.memset(buffer, 0, len(buffer))

    def _must(self, result: int) -> None:
        if result != 1:
            raise self._failure()

    def _failure(self) -> SuiteError:
        return SuiteError(f"SM2: {self._drain() or 'refused'}")

    def _drain(self) -> str:
        """Empties this thread's queue; the reason of its first error."""
        first = ""
        while code := self._lib.ERR_get_error():
            first = first or (self._lib.ERR_reason_error_string(code) or b"").decode("ascii", "replace")
        return first


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_SONAME)
        for name, result, arguments in _PROTOTYPES:
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        raise SuiteError(
            f"suite 2 needs the system's OpenSSL 3 ({_SONAME}): on Debian and Ubuntu, apt install openssl"
        ) from None
    return library


def _octets(data: bytes | bytearray) -> _Octets:
    return (c_ubyte * len(data)).from_buffer_copy(data)


def _scalar(private: bytes | bytearray, order: Literal["big", "little"] = "big") -> _Octets:
    """A copy that can be wiped, made without another in between; SuiteError when out of 1 to n - 2."""
    if len(private) != PRIVATE_BYTES or not bytes(PRIVATE_BYTES) < private <= _GREATEST_PRIVATE:
        raise SuiteError(f"an SM2 private key is {PRIVATE_BYTES} bytes, a number from 1 to n - 2")
    return (c_ubyte * PRIVATE_BYTES)(*(private if order == "big" else reversed(private)))


def _bounded(data: bytes | bytearray) -> None:
    if not 0 < len(data) <= _MAX_BYTES:
        raise SuiteError(f"SM2: {len(data)} bytes, must be 1 to {_MAX_BYTES}")


def _is_one_sequence(der: bytes) -> bool:
    """Whether a SEQUENCE begins the bytes and ends where they do, its length in the shortest form."""
    heads = {size: _head(len(der) - size) for size in range(2, min(6, len(der) + 1))}
    return any(len(head) == size and der.startswith(head) for size, head in heads.items())


def _head(body: int) -> bytes:
    """Tag and length of a SEQUENCE of so many bytes."""
    if body < 0x80:
        return bytes([0x30, body])
    octets = (body.bit_length() + 7) // 8
    return bytes([0x30, 0x80 | octets]) + body.to_bytes(octets, "big")
