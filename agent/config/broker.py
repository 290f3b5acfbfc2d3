"""The broker's address in a plan or a profile."""


def broker_address(url: str) -> tuple[str, int, bool]:
    """(host, port, TLS?) of `mqtts://host[:8883]` or `mqtt://host[:1883]`; ValueError says what is wrong.

    Plain `mqtt://` is for loopback only (clause 6.3: encrypted in transmission).
    """
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in ("mqtt", "mqtts"):
        raise ValueError("must be mqtts://host:port (mqtt:// only for loopback)")
    host, _, digits = rest.rpartition(":") if rest.count(":") == 1 or rest.startswith("[") else (rest, "", "")
    host = (host or rest).strip("[]")
    port = int(digits) if digits.isdigit() else 8883 if scheme == "mqtts" else 1883
    if not host or "/" in rest or "@" in rest or not 1 <= port <= 65535 or (digits and not digits.isdigit()):
        raise ValueError("must be mqtts://host:port with a port from 1 to 65535")
    if scheme == "mqtt" and host not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError("mqtt:// without TLS is only for loopback: use mqtts://")
    return host, port, scheme == "mqtts"
