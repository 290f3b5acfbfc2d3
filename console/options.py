"""The options every command of `guardian` shares: the profile, what replaces parts of it, and `--json`."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from console.profile import ENVIRONMENT, Profile, load_profile

PANEL = "Profile 配置"
Params = ParamSpec("Params")


class Protocol(StrEnum):
    """MQTT versions."""

    V5 = "5"
    V311 = "3.1.1"


AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")]


def _option(
    name: str, help_text: str, kind: object = Path | None, env: str | None = None
) -> inspect.Parameter:
    info = typer.Option(
        f"--{name.replace('_', '-')}", envvar=env, help=help_text, rich_help_panel=PANEL, show_default=False
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info]
    )


_PROFILE = _option("profile", "TOML file; default ~/.config/robot-warden/guardian.toml.", env=ENVIRONMENT)
_OVERRIDES = (
    _option("kid", "Who you are.", str | None),
    _option("signing_key", "Your Ed25519 private key (PEM, 0600)."),
    _option("broker", "mqtts://host:port.", str | None),
    _option("protocol", "MQTT version.", Protocol | None),
    _option("ca", "Certificate that signed the broker's (PEM)."),
    _option("cert", "Your client certificate (PEM)."),
    _option("key", "Its private key (PEM, 0600)."),
    _option("trust", "The department's trust file."),
    _option(
        "root_key", "Key that may sign the trust file (JWK); may be given several times.", list[Path] | None
    ),
)
_AS_JSON = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)


@dataclass(frozen=True, slots=True)
class Setup:
    """What the shared options said."""

    path: Path | None
    overrides: dict[str, object]
    as_json: bool

    def profile(self) -> Profile:
        """The profile they amount to; ProfileError when it cannot be used."""
        return load_profile(self.path, self.overrides)


def with_setup(command: Callable[Concatenate[Setup, Params], None]) -> Callable[..., None]:
    """Gives a command the shared options, in the shape of a Setup in the first place."""
    shared = (_PROFILE, *_OVERRIDES, _AS_JSON)

    @functools.wraps(command)
    def run(**given: Any) -> None:  # noqa: ANN401 - typer calls with whatever the command's own options are
        overrides = {option.name: given.pop(option.name) for option in _OVERRIDES}
        setup = Setup(given.pop("profile"), _said(overrides), given.pop("as_json"))
        command(setup, **given)  # type: ignore[call-arg]  # by name, which no type can say

    own = list(inspect.signature(command).parameters.values())[1:]
    named = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    run.__signature__ = inspect.Signature([*named, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*named, *shared)}
    return run


def _said(overrides: dict[str, Any]) -> dict[str, object]:
    """Only what was given, under the profile's names and in TOML's types."""
    said = {name: value for name, value in overrides.items() if value}
    if "root_key" in said:
        said["root_keys"] = [str(path) for path in said.pop("root_key")]
    return {name: value if isinstance(value, list) else str(value) for name, value in said.items()}
