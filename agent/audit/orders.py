"""Tokens that the ledger holds: orders to delete or release, and witnesses' acknowledgements.

Each check yields (kind of finding, detail) or None. Without keys only what a token claims is compared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.audit import forms
from agent.audit.errors import FormatError
from agent.core.trust import Role, Trust
from agent.logformat.layout import ORDER_TYP, WITNESS_TYP

Trouble = tuple[str, str]


@dataclass(frozen=True, slots=True)
class OrderKeys:
    """Who may sign an order: `roots`, kid → 32 bytes of Ed25519, and the department's people of `trust`."""

    roots: Mapping[str, bytes] = field(default_factory=dict)
    trust: Trust | None = None

    def key(self, kid: str) -> bytes | None:
        """The key of a kid that may order; None for everyone else's."""
        if kid in self.roots:
            return self.roots[kid]
        person = self.trust.people.get(kid) if self.trust else None
        return person.key if person is not None and person.role is Role.DEPARTMENT else None

    def revoked(self, kid: str) -> bool:
        """True for a person whose right was taken back; when, the trust file does not say."""
        person = self.trust.people.get(kid) if self.trust else None
        return kid not in self.roots and person is not None and person.revoked


def check_deletion(body: Mapping[str, Any], robot: str, keys: OrderKeys | None) -> Trouble | None:
    """A `delete` entry's order, and that it names each of the entry's segments."""

    def fits(claims: Mapping[str, Any]) -> bool:
        named = claims.get("segments")
        return isinstance(named, list) and all(row in named for row in body["segments"])

    return _check_order(body["order"], "delete", robot, keys, fits)


def check_release(body: Mapping[str, Any], robot: str, keys: OrderKeys | None) -> Trouble | None:
    """The order in a `hold` entry that releases."""
    return _check_order(
        body["release"], "release", robot, keys, lambda claims: claims.get("hold") == body["id"]
    )


def _check_order(
    token: str,
    order: str,
    robot: str,
    keys: OrderKeys | None,
    fits: Callable[[Mapping[str, Any]], bool],
) -> Trouble | None:
    try:
        kid, claims = _open(token, ORDER_TYP, keys.key if keys else None)
    except FormatError as error:
        return "order_bad", error.reason
    if claims.get("iss") != kid or claims.get("aud") != robot or claims.get("order") != order:
        return "order_bad", "by, for or of something else"
    if not fits(claims):
        return "order_bad", "does not name what was done"
    if keys is None:
        return "order_unchecked", f"said to be by {kid}"
    return ("order_revoked", f"by {kid}") if keys.revoked(kid) else None


def check_ack(body: Mapping[str, Any], robot: str, keys: Mapping[str, bytes] | None) -> str:
    """What is wrong with a `witness.ack` beside the hash; "" for nothing."""
    try:
        kid, claims = _open(body["token"], WITNESS_TYP, None if keys is None else keys.get)
    except FormatError as error:
        return error.reason
    if claims.get("iss") != kid or kid != body["kid"] or claims.get("aud") != robot:
        return "by or for someone else"
    if any(claims.get(name) != body[name] for name in ("n", "hash", "witness_time")):
        return "the token says something else than the entry"
    return ""


def _verified(data: bytes, typ: str, key_of: Callable[[str], bytes | None]) -> tuple[str, Mapping[str, Any]]:
    # PyJWT takes half as long to import as all else here, and the processes of a pool have no use for it.
    from agent.tokens import TokenError, verify

    try:
        verified = verify(data, typ=typ, key_of=key_of)
    except TokenError as error:
        raise FormatError(error.reason) from None
    return verified.kid, verified.claims


def _open(
    token: str, typ: str, key_of: Callable[[str], bytes | None] | None
) -> tuple[str, Mapping[str, Any]]:
    """The kid and the claims; verified where there are keys."""
    data = token.encode("utf-8", "surrogatepass")
    if key_of is not None:
        return _verified(data, typ, key_of)
    parts = [forms.as_bytes(part) for part in token.split(".")]
    if len(parts) != 3 or not all(parts):
        raise FormatError("not a token")
    header, claims, _ = parts
    found = forms.read_object(header or b"")
    if found.get("typ") != typ or not isinstance(found.get("kid"), str):
        raise FormatError(f"not a token of typ {typ}")
    return found["kid"], forms.read_object(claims or b"", floats=True)
