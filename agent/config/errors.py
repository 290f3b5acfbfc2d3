"""The error of a plan that is refused."""

from dataclasses import dataclass

from agent.errors import WardenError


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason: the key it is about (`inputs.estop.bit`) and the bound that was broken."""

    key: str
    bound: str


class ConfigError(WardenError):
    """A plan that is refused, with every reason found. Its text is one line about the first."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self.file = file
        self.problems = problems
        super().__init__(self.lines()[0])

    def lines(self) -> list[str]:
        """One line per problem: file, key, bound; what is not printable is escaped."""
        return [
            _one_line(f"{self.file}: {p.key[:_KEY]}: {p.bound}" if p.key else f"{self.file}: {p.bound}")
            for p in self.problems
        ]


_KEY = 200
"""Characters of a key that a line repeats: no real one comes near."""


def _one_line(text: str) -> str:
    """A key in quotes may hold anything: line ends, and what a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
