"""Keys, certificates and rights of a checked plan: they open, they fit together, the robot is trusted."""

import ssl
from pathlib import Path

from cryptography import x509

from agent import tokens
from agent.core.plan import Plan
from agent.errors import WardenError


class RightsError(WardenError):
    """A key, certificate or trust file that does not fit. `path`: the file; `bound`: what it must be."""

    def __init__(self, path: str, bound: str) -> None:
        super().__init__(f"{path}: {bound}")
        self.path = path
        self.bound = bound


def check_rights(plan: Plan) -> None:
    """Raises WardenError for the first file that cannot serve."""
    remote = plan.remote
    if remote is None:
        return
    trust = tokens.load_trust(Path(remote.trust), tokens.load_roots(Path(path) for path in remote.root_keys))
    signing = tokens.raw_public_key(tokens.load_private_key(Path(remote.signing_key)))
    robot = trust.robots.get(plan.robot.id)
    if robot is None:
        raise RightsError(
            remote.trust, f"names no robot {plan.robot.id!r}: ask the department for a trust file that does"
        )
    if robot.key != signing:
        raise RightsError(remote.signing_key, f"is not the key the trust file names for {plan.robot.id!r}")
    if remote.tls:
        _check_tls(remote.ca, remote.cert, remote.key)


def _check_tls(ca: str, cert: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise RightsError(ca, f"must be a certificate in PEM: {error}") from None
    if not cert:
        return
    try:
        # With a password, though an empty one: without one OpenSSL asks whoever sits at the terminal.
        context.load_cert_chain(cert, key, password="")
        x509.load_pem_x509_certificate(Path(cert).read_bytes())
    except (ssl.SSLError, OSError, ValueError) as error:
        raise RightsError(
            cert, f"must be a certificate in PEM that belongs to {key} (unencrypted): {error}"
        ) from None
