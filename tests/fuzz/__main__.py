"""`make fuzz`: coverage-guided fuzzing of every row of `targets.py`, one process a row, each for a while.

    python -m tests.fuzz [--seconds 30] [TARGET ...]

A finding ends with exit code 1, the bytes in `var/fuzz/<target>/` and the traceback on standard error.
"""

import argparse
import subprocess
import sys
from importlib import import_module
from pathlib import Path

CORPUS = Path("var/fuzz")


def one(name: str, seconds: int) -> None:
    """Fuzzes one row in this process; does not return."""
    atheris = import_module("atheris")  # only in the environment of `make fuzz`, and untyped
    with atheris.instrument_imports(include=["agent", "console", "drivers"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (folder / f"seed-{number}").write_bytes(seed)

    def check(data: bytes) -> None:
        try:
            target.decode(data)
        except target.errors:
            return

    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
        "-rss_limit_mb=1024",
    ]
    atheris.Setup([sys.argv[0], *options, str(folder)], check)
    atheris.Fuzz()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Every row that was asked for, one after the other; 1 when any of them found something."""
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = given.targets or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    if given.here:
        one(names[0], given.seconds)
    found = []
    for number, name in enumerate(names, 1):
        _say(f"[{number}/{len(names)}] {name}: {given.seconds} s")
        command = [sys.executable, "-m", "tests.fuzz", "--here", "--seconds", str(given.seconds), name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        runs = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        _say(f"    {runs[0].split()[-1] if runs else '?'} inputs, exit {done.returncode}")
        if done.returncode != 0:
            found.append(name)
            sys.stderr.write(done.stderr[-4000:])
    _say(f"found something in: {', '.join(found)}" if found else "nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
