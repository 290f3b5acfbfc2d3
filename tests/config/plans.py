"""Plan files for tests: PROTOCOL 8's as it stands, and one whose every file and port is there."""

import json
from pathlib import Path
from textwrap import dedent

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.config import ConfigError, load_plan
from agent.core.plan import Plan
from agent.core.trust import encode_base64url
from agent.tokens import public_jwk, raw_public_key

PROTOCOL_PLAN = Path(__file__).with_name("protocol_plan.toml")

GOOD = dedent(
    """\
    schema = 1

    [robot]
    id = "FT-1"
    name = "福小安"
    run_dir = "run"
    state_dir = "state"

    [times]
    ttl_ms = 100

    [inputs.estop]
    driver = "serial_node"
    port = "tty0"
    bit = 0

    [outputs.relay_a]
    channel = "reflex"
    driver = "serial_node"
    port = "tty0"

    [outputs.relay_b]
    channel = "remote"
    driver = "serial_node"
    port = "tty1"

    [[condition]]
    id = "estop_pressed"
    input = "estop"
    is = "open"
    response = "emergency_stop"

    [envelope]
    max_speed_mps = 1.0

    [remote]
    broker = "mqtts://broker:8883"
    ca = "ca.crt"
    cert = "robot.crt"
    key = "robot.key"
    signing_key = "robot.pem"
    root_keys = ["root.jwk"]
    trust = "trust.jwt"

    [recorder]
    recipients = ["department.jwk"]

    [monitor]
    listen = "127.0.0.1:0"
    """
)
SECRET = ("robot.key", "robot.pem")
OPEN_TO_ALL = ("tty0", "tty1", "ca.crt", "robot.crt", "root.jwk", "trust.jwt")


def recipient_jwk(kid: str) -> str:
    """The public key of one who can open the log: another for each kid."""
    private = X25519PrivateKey.from_private_bytes(kid.encode().ljust(32, b"."))
    raw = private.public_key().public_bytes_raw()
    return json.dumps({"kty": "OKP", "crv": "X25519", "x": encode_base64url(raw), "kid": kid})


def witness_jwk(kid: str) -> str:
    """The public key of a witness: another for each kid."""
    key = Ed25519PrivateKey.from_private_bytes(kid.encode().ljust(32, b"."))
    return json.dumps(public_jwk(kid, raw_public_key(key)))


class Folder:
    """A folder with a plan and all that it names."""

    def __init__(self, folder: Path, text: str = GOOD) -> None:
        self.folder = folder
        self.path = folder / "plan.toml"
        self.text = text
        for name in OPEN_TO_ALL:
            (folder / name).write_text(name)
        for name in SECRET:
            (folder / name).write_text(name)
            (folder / name).chmod(0o600)
        self.holding("department.jwk", recipient_jwk("department"))

    def holding(self, name: str, content: str) -> "Folder":
        """With one more file, or another in its place."""
        (self.folder / name).write_text(content)
        return self

    def replaced(self, old: str, new: str) -> "Folder":
        """The plan with one passage changed."""
        assert self.text.count(old) == 1, f"{old!r} is there {self.text.count(old)} times"
        self.text = self.text.replace(old, new)
        return self

    def with_more(self, more: str) -> "Folder":
        self.text += more
        return self

    def load(self, *, offline: bool = False, module: str = "") -> Plan:
        self.path.write_text(self.text, encoding="utf-8")
        return load_plan(self.path, offline=offline, module=module)

    def refused(self, *, offline: bool = True, module: str = "") -> ConfigError:
        """The error; it is one line that begins with the file."""
        try:
            self.load(offline=offline, module=module)
        except ConfigError as error:
            return hold_to_form(error, self.path)
        raise AssertionError(f"not refused:\n{self.text}")

    def problem(self, *, offline: bool = True, module: str = "") -> tuple[str, str]:
        """(key, bound) of the only problem."""
        error = self.refused(offline=offline, module=module)
        assert len(error.problems) == 1, error.lines()
        return error.problems[0].key, error.problems[0].bound


def hold_to_form(error: ConfigError, path: Path) -> ConfigError:
    """One printable line for each problem, with file, key and bound; the error's text is the first."""
    lines = error.lines()
    assert str(error) == lines[0]
    assert error.file == str(path)
    assert len(lines) == len(error.problems) > 0
    for line, problem in zip(lines, error.problems, strict=True):
        assert line.isprintable()
        assert line.startswith(f"{path}: ")
        assert problem.bound
    return error
