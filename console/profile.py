"""The guardian's profile: who one is, where the broker is, whom to believe. One TOML file, checked whole."""

import re
import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)

from agent.core.trust import NAME
from agent.tokens import read_private
from console.errors import ProfileError

DEFAULT_PROFILE = Path("~/.config/robot-warden/guardian.toml")
ENVIRONMENT = "GUARDIAN_PROFILE"
DEFAULT_PORT = 8883
MAX_PROFILE_BYTES = 65536


def _path(value: object, info: ValidationInfo) -> Path:
    """Relative to the profile's folder, which comes as the validation's context."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be the path of a file")
    return Path(str(info.context or "")) / Path(value).expanduser()


def _broker(value: str) -> str:
    _address(value)
    return value


def _address(broker: str) -> tuple[str, int]:
    url = urlsplit(broker)
    port = url.port  # raises ValueError out of range
    if url.scheme != "mqtts" or not url.hostname or url.path not in ("", "/") or "@" in url.netloc:
        raise ValueError("must be mqtts://host:port")
    return url.hostname, port or DEFAULT_PORT


File = Annotated[Path, BeforeValidator(_path)]


class Profile(BaseModel):
    """Everything `guardian` needs to know; each path is relative to the profile's folder."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    kid: Annotated[str, Field(pattern=f"^{NAME.pattern}$", description="the person's kid")]
    signing_key: Annotated[File, Field(description="Ed25519 private key, PKCS#8 PEM, 0600")]
    broker: Annotated[str, AfterValidator(_broker), Field(description="mqtts://host:port")]
    protocol: Annotated[Literal["5", "3.1.1"], Field(description="MQTT version")] = "5"
    ca: Annotated[File, Field(description="certificate that signed the broker's, PEM")]
    cert: Annotated[File, Field(description="the person's client certificate, PEM")]
    key: Annotated[File, Field(description="its private key, PEM, 0600")]
    trust: Annotated[File, Field(description="the department's trust file, to believe the robots by")]
    root_keys: Annotated[
        list[File], Field(min_length=1, description="JWK files of the keys that may sign trust")
    ]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the broker."""
        return _address(self.broker)

    def tls(self) -> ssl.SSLContext:
        """The context to meet the broker with; ProfileError names the key whose file cannot be used."""
        read_private(self.key)
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
        except OSError as error:
            raise ProfileError(
                str(self.ca), "ca", f"must hold a certificate in PEM ({_why(error)})"
            ) from None
        try:
            # A password would otherwise be asked for at the terminal, in the middle of a stop.
            context.load_cert_chain(self.cert, self.key, password="")
        except OSError as error:
            source = f"{self.cert}, {self.key}"
            raise ProfileError(source, "cert, key", f"must be a pair in PEM ({_why(error)})") from None
        return context


def _why(error: OSError) -> str:
    return without_source(error.strerror or str(error) or type(error).__name__)


def without_source(text: str) -> str:
    """What OpenSSL says, without its line of source."""
    return re.sub(r" \(_ssl\.c:\d+\)$", "", text)


def load_profile(path: Path | None, overrides: Mapping[str, object]) -> Profile:
    """The profile in a file, with some keys replaced by options; ProfileError names file, key and bound.

    `path`: None for DEFAULT_PROFILE, which need not be there when the options say everything. `overrides`: by
    key of the profile; their paths are relative to the working folder.
    """
    file = (path or DEFAULT_PROFILE).expanduser()
    data = {**_read(file, needed=path is not None or not overrides), **_absolute(overrides)}
    try:
        return Profile.model_validate(data, context=file.absolute().parent)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        option = str(first["loc"][0])
        source = f"--{option.replace('_', '-').removesuffix('s')}" if option in overrides else str(file)
        raise ProfileError(source, key, _bound(first["type"], first["msg"])) from None


def _bound(kind: str, message: str) -> str:
    known = {"missing": "is missing", "extra_forbidden": "is not known here"}
    return known.get(kind, message.removeprefix("Value error, "))


def _absolute(overrides: Mapping[str, object]) -> dict[str, object]:
    """Paths of the command line are relative to the working folder, not to the profile's."""
    plain = {"kid", "broker", "protocol"}
    return {key: value if key in plain else _from_here(value) for key, value in overrides.items()}


def _from_here(value: object) -> object:
    if isinstance(value, list):
        return [_from_here(item) for item in value]
    return str(Path(str(value)).absolute())


def _read(file: Path, *, needed: bool) -> dict[str, object]:
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_PROFILE_BYTES + 1)
    except FileNotFoundError:
        if needed:
            raise ProfileError(
                str(file), "", f"is not there: make it, or give --profile or {ENVIRONMENT}"
            ) from None
        return {}
    except OSError as error:
        raise ProfileError(str(file), "", f"cannot be read: {error.strerror}") from None
    if len(text) > MAX_PROFILE_BYTES:
        raise ProfileError(str(file), "", f"is larger than {MAX_PROFILE_BYTES} bytes")
    try:
        return tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(str(file), "", f"must be TOML in UTF-8: {error}") from None
