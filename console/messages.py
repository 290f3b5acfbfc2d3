"""What robots say, read from verified claims (PROTOCOL 3). More fields may follow: robots may be newer."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

MAX_TEXT = 500


def clean(text: str) -> str:
    """A robot's text without anything a terminal would obey: an escape sequence could rewrite the screen."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


Words = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(clean)]
"""Whatever of a message people get to see. What was signed is kept as it came in `claims`."""


class MessageError(ValueError):
    """Claims that are not what their `typ` promises; the text names the field."""


class Message(BaseModel):
    """What every robot's message has."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    iss: str
    aud: str
    iat: Annotated[float, Field(ge=0)]
    jti: Annotated[str, Field(min_length=1, max_length=64)]

    @classmethod
    def read(cls, claims: Mapping[str, Any]) -> Self:
        """Raises MessageError for the first field that is missing or of the wrong kind."""
        try:
            return cls.model_validate(claims)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise MessageError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


class Reply(Message):
    """One stage of one command."""

    re: str
    stage: Literal["accepted", "actuated", "verified", "refused", "failed"]
    reason: Words = ""
    after_us: Annotated[int, Field(ge=0)]


class CauseText(BaseModel):
    """A cause in words."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    zh: Words = ""
    en: Words = ""


class Cause(BaseModel):
    """One reason for a response."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    id: Words
    response: Words
    active: bool
    clear: Words
    text: CauseText = CauseText()


class Channel(BaseModel):
    """One module's part of the state."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    response: Words
    motion: bool
    alive: bool


class State(Message):
    """A robot's state. `claims`: all that was signed, also what this version does not know."""

    name: Words = ""
    seq: int = 0
    response: Words
    epoch: Annotated[int, Field(ge=0)]
    challenge: str
    causes: list[Cause] = []
    blockers: list[Words] = []
    channels: dict[Words, Channel] = {}
    claims: Mapping[str, Any] = Field(default={}, exclude=True, repr=False)

    @classmethod
    def read(cls, claims: Mapping[str, Any]) -> Self:
        """As for every message; the claims are kept whole beside what is read of them."""
        return super().read({**claims, "claims": claims})


class Event(Message):
    """Something that happened at a robot."""

    kind: Words
    claims: Mapping[str, Any] = Field(default={}, exclude=True, repr=False)

    @property
    def words(self) -> str:
        """The kind, and whatever else the robot says of it, in at most 300 characters."""
        known = {"iss", "aud", "iat", "jti", "robot_id", "kind"}
        rest = {name: value for name, value in self.claims.items() if name not in known}
        return clean(f"{self.kind}  {json.dumps(rest, ensure_ascii=False) if rest else ''}".rstrip()[:300])

    @classmethod
    def read(cls, claims: Mapping[str, Any]) -> Self:
        """As for every message; the claims are kept whole beside what is read of them."""
        return super().read({**claims, "claims": claims})
