"""The broker's address in a plan or a profile."""

import re

_ADDRESS = re.compile(r"(mqtts?)://(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+))(?::([0-9]{1,5}))?")


def broker_address(url: str) -> tuple[str, int, bool]:
    """(host, port, TLS?) of `mqtts://host[:8883]` or `mqtt://host[:1883]`; ValueError says what is wrong.

    Plain `mqtt://` is for loopback only (clause 6.3: encrypted in transmission).
    """
    found = _ADDRESS.fullmatch(url)
    if found is None:
        raise ValueError("must be mqtts://host:port (mqtt:// only for loopback)")
    scheme, address, name, digits = found.groups()
    host, tls = address or name, scheme == "mqtts"
    port = int(digits) if digits else 8883 if tls else 1883
    if not 1 <= port <= 65535:
        raise ValueError("must be mqtts://host:port with a port from 1 to 65535")
    if not tls and host not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError("mqtt:// without TLS is only for loopback: use mqtts://")
    return host, port, tls
