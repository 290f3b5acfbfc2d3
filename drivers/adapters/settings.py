"""Settings of the robot adapters in the plan, and the arguments of their steps.

Imported only when a plan is checked.
"""

import ipaddress
import json
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)
_NO_CONTROL = r"^[^\x00-\x1f\x7f]+$"


def _normal(path: str) -> str:
    """An absolute path that says where it leads: no "..", no "//", nothing after the last name."""
    parts = path.split("/")[1:]
    if path != "/" and any(part in {"", ".", ".."} for part in parts):
        raise ValueError("not a plain path")
    return path


def _path_words(words: str) -> dict[str, Any]:
    return {"format": words}


AbsolutePath = Annotated[
    str,
    Field(min_length=2, max_length=255, pattern=r"^/[^\x00-\x1f\x7f]*$"),
    AfterValidator(_normal),
]
PATH_WORDS = "an absolute path of 2 to 255 characters without .."
OPTIONAL_PATH_WORDS = f"{PATH_WORDS}, or left out"


class _Settings(BaseModel):
    """What every kind has."""

    model_config = _STRICT

    grace_ms: int = Field(
        default=1000,
        ge=0,
        le=10_000,
        description="How long after its deadline a step may still end as late before it is failed, ms.",
    )


class NoArgs(BaseModel):
    """Steps of this kind take no arguments."""

    model_config = _STRICT


# ------------------------------------------------------------------------------------------------------- link


class LinkSettings(_Settings):
    """The robot link of this plan."""


class LinkArgs(BaseModel):
    """Whatever the robot's own software understands."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


# ---------------------------------------------------------------------------------------------------- process


class ProcessSettings(_Settings):
    """A program on this machine."""

    find: Literal["pid_file", "cgroup", "exe"] = Field(
        description="How its processes are found. Prefer cgroup: nothing that forks gets out of it.",
    )
    path: AbsolutePath = Field(
        description="The pid file, the control group's folder below /sys/fs/cgroup, or the program itself.",
        json_schema_extra=_path_words(f"{PATH_WORDS}; with find = cgroup, below /sys/fs/cgroup/"),
    )
    exe: AbsolutePath | None = Field(
        default=None,
        validate_default=True,
        description="With find = pid_file: the program that the process must run, as /proc/PID/exe shows it.",
        json_schema_extra=_path_words(f"{PATH_WORDS}; needed with find = pid_file, else left out"),
    )
    user: str | int | None = Field(
        default=None,
        validate_default=True,
        description="The real user that the processes must belong to.",
        json_schema_extra={
            "format": "a user's name or number; needed with find = pid_file or exe, else left out"
        },
    )
    newer_ok: bool = Field(
        default=False,
        description="Also take a process that started after its pid file was written: for machines whose"
        " clock is set late. A pid reused for the same program of the same user is then taken too.",
        json_schema_extra={"format": "true or false"},
    )

    @field_validator("path")
    @classmethod
    def _path_is_below(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("find") == "cgroup" and not value.startswith("/sys/fs/cgroup/"):
            raise ValueError("not a control group")
        return value

    @field_validator("exe")
    @classmethod
    def _exe_belongs(cls, value: str | None, info: ValidationInfo) -> str | None:
        if (value is not None) is not (info.data.get("find") == "pid_file"):
            raise ValueError("needed with a pid file, and only there")
        return value

    @field_validator("user")
    @classmethod
    def _user_belongs(cls, value: str | int | None, info: ValidationInfo) -> str | int | None:
        if (value is not None) is not (info.data.get("find") in {"pid_file", "exe"}):
            raise ValueError("needed where the user is checked, and only there")
        text = "" if value is None else str(value)
        if value is not None and (not 1 <= len(text) <= 64 or not text.isprintable() or text.startswith("-")):
            raise ValueError("no user")
        return value


class ProcessArgs(BaseModel):
    """What to do with it."""

    model_config = _STRICT

    action: Literal["freeze", "thaw", "stop", "kill"] = Field(
        description="SIGSTOP; SIGCONT; SIGTERM and at the deadline SIGKILL; SIGKILL.",
    )


# ---------------------------------------------------------------------------------------------------- systemd

_OURS = ("warden-", "robot-warden", "init.", "-.", "system.", "user.", "dbus", "systemd-")
"""Units that hold the agent, or everything: stopping one of them would stop whoever orders it."""


class SystemdSettings(_Settings):
    """A unit of this machine's systemd."""

    unit: str = Field(
        max_length=255,
        pattern=r"^[A-Za-z0-9:_.\\@-]+\.(service|scope|slice)$",
        description="The unit that holds the robot's software.",
        json_schema_extra={
            "format": "the name of a service, scope or slice, of at most 255 characters, and none of"
            " the agent's or the system's own"
        },
    )
    bus: AbsolutePath = Field(
        default="/run/dbus/system_bus_socket",
        description="The socket of the message bus on which systemd is.",
        json_schema_extra=_path_words(PATH_WORDS),
    )

    @field_validator("unit")
    @classmethod
    def _not_ours(cls, value: str) -> str:
        if value.startswith(_OURS):
            raise ValueError("a unit of the agent or the system")
        return value


class SystemdArgs(BaseModel):
    """What to do with it."""

    model_config = _STRICT

    action: Literal["freeze", "thaw", "stop", "kill", "cut_network"] = Field(
        description="What to do with the unit; cut_network is IPAddressDeny=any until the next boot.",
    )


# ------------------------------------------------------------------------------------------------------- http


class HttpSettings(_Settings):
    """One call to one server."""

    url: str = Field(
        max_length=2000,
        pattern=r"^https?://[\x21-\x7e]+$",
        description="What is called. An address works without a resolver; a name does not.",
        json_schema_extra={
            "format": "http:// or https://, a host, a path; no user, no fragment, at most 2000 characters"
        },
    )
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field(
        default="POST", description="The call's method."
    )
    body: str = Field(
        default="",
        max_length=4096,
        validate_default=True,
        description="Sent as application/json; nothing is sent when it is empty.",
        json_schema_extra={"format": "JSON as text of at most 4096 characters, or empty"},
    )
    status: int = Field(default=200, ge=200, le=599, description="The status of a right answer.")
    field: str | None = Field(
        default=None,
        max_length=200,
        pattern=_NO_CONTROL,
        description="Dotted path of a field in a JSON answer that must hold `value`.",
        json_schema_extra={"format": "text of 1 to 200 characters, or left out"},
    )
    value: str | int | float | bool | None = Field(
        default=None,
        validate_default=True,
        description="What `field` must hold, of the same type.",
        json_schema_extra={"format": "text, a finite number, true or false; with field, and only with it"},
    )
    answer_limit: int = Field(
        default=65_536, ge=0, le=262_144, description="A longer answer is a failure. Bytes of its body."
    )
    secret_file: AbsolutePath | None = Field(
        default=None,
        description="A file of mode 0600 with one line, sent with the call over https or to this machine.",
        json_schema_extra=_path_words(f"{OPTIONAL_PATH_WORDS}; with http://, only to a loopback address"),
    )
    secret_header: str = Field(
        default="Authorization",
        max_length=64,
        pattern=r"^[A-Za-z0-9-]+$",
        description="The header that holds it: after `Bearer` in Authorization, alone in any other.",
        json_schema_extra={"format": "a header's name of 1 to 64 characters"},
    )
    tls_verify: bool = Field(
        default=True,
        description="Check the server's certificate. Without it anybody on the way can answer `stopped`.",
        json_schema_extra={"format": "true or false; true with a secret_file"},
    )
    ca_file: AbsolutePath | None = Field(
        default=None,
        description="The authorities to trust (PEM); left out: the system's.",
        json_schema_extra=_path_words(OPTIONAL_PATH_WORDS),
    )
    server_name: str | None = Field(
        default=None,
        max_length=253,
        pattern=r"^[A-Za-z0-9.-]+$",
        description="The name in the server's certificate, when the url holds an address.",
        json_schema_extra={"format": "a host's name, or left out"},
    )

    @field_validator("url")
    @classmethod
    def _has_a_host(cls, value: str) -> str:
        url = urlsplit(value)
        if not url.hostname or url.port == 0 or "@" in url.netloc or "#" in value or "\\" in value:
            raise ValueError("no host, or more than one is asked to send")
        return value

    @field_validator("body")
    @classmethod
    def _is_json(cls, value: str) -> str:
        try:
            json.loads(value or "null")
        except RecursionError:
            raise ValueError("nested too deeply") from None
        return value

    @field_validator("value")
    @classmethod
    def _is_finite(cls, value: str | float | bool | None, info: ValidationInfo) -> str | float | bool | None:
        if isinstance(value, float) and value - value != 0:
            raise ValueError("not finite")
        if (value is None) is not (info.data.get("field") is None):
            raise ValueError("one without the other")
        return value

    @field_validator("secret_file")
    @classmethod
    def _stays_secret(cls, value: str | None, info: ValidationInfo) -> str | None:
        url = urlsplit(str(info.data.get("url", "")))
        if value is not None and url.scheme == "http" and not _is_loopback(url.hostname or ""):
            raise ValueError("it would cross a network in the clear")
        return value

    @field_validator("tls_verify")
    @classmethod
    def _keeps_the_secret(cls, value: bool, info: ValidationInfo) -> bool:
        if not value and info.data.get("secret_file") is not None:
            raise ValueError("whoever answers would get the secret")
        return value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# ---------------------------------------------------------------------------------------------------- command


class CommandSettings(_Settings):
    """One program of this machine, never a shell."""

    program: AbsolutePath = Field(
        description="The program. It and every folder on its path must belong to root or to the agent's user,"
        " and be writable by nobody else.",
        json_schema_extra=_path_words(PATH_WORDS),
    )
    args: list[Annotated[str, Field(max_length=1024, pattern=r"^[^\x00]*$")]] = Field(
        default=[],
        max_length=32,
        description="Its arguments, handed over as they are.",
        json_schema_extra={"format": "a list of at most 32 texts of at most 1024 characters"},
    )
