"""Which brokers a test session really met: written down as it happens, judged by CI afterwards.

    python -m tests.evidence FILE

exits 0 only if a real mosquitto ran, let a certified client in, and served tests beyond the broker's own.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from hil.broker import Broker

FILE = Path(__file__).parents[1] / "var" / "test-evidence.json"


class Evidence:
    """`starts`: program, as the kernel names what runs -> test file -> starts. `version`: mosquitto's own."""

    def __init__(self) -> None:
        self.starts: dict[str, Counter[str]] = {}
        self.version = ""

    def note(self, broker: Broker) -> None:
        """Takes down a broker that has just let its first client in, over TLS with a certificate."""
        # pytest sets it to the test's id and its phase.
        test_file = os.environ.get("PYTEST_CURRENT_TEST", "?").partition("::")[0]
        program = Path(f"/proc/{broker.pid}/exe").resolve()
        self.starts.setdefault(program.name, Counter())[test_file] += 1
        if program.name == "mosquitto" and not self.version:
            self.version = version(program)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_dict(), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Nothing where there is no file."""
        evidence = cls()
        if path.exists():
            evidence.add(json.loads(path.read_text()))
        return evidence

    def as_dict(self) -> dict[str, Any]:
        """For `add`, in another process."""
        return {"version": self.version, "starts": {name: dict(files) for name, files in self.starts.items()}}

    def add(self, found: Mapping[str, Any]) -> None:
        """What another process saw, too."""
        self.version = self.version or found["version"]
        for program, files in found["starts"].items():
            self.starts.setdefault(program, Counter()).update(files)


OWN_TESTS = ("tests/hil/", "tests/test_evidence.py")
"""Those of the broker and of this file: that they met one says nothing of the agent."""


def version(program: Path) -> str:
    """What a mosquitto calls itself, e.g. "mosquitto version 2.0.11"."""
    told = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout
    return told.partition("\n")[0]


def served(starts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """The test files, beyond `OWN_TESTS`, that a real mosquitto was started for."""
    return {file: n for file, n in starts.get("mosquitto", {}).items() if not file.startswith(OWN_TESTS)}


def main(words: list[str]) -> int:
    """Exit code; says what was found."""
    evidence = Evidence.read(Path(words[0]))
    files = served(evidence.starts)
    if not files:
        started = {program: dict(files) for program, files in evidence.starts.items()}
        sys.stderr.write(f"No test met a real mosquitto; brokers started: {started or 'none'}\n")
        return 1
    sys.stdout.write(f"{sum(files.values())} starts of a real mosquitto for {', '.join(sorted(files))}\n")
    sys.stdout.write(f"{evidence.version}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
