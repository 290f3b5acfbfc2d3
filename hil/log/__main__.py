"""`python -m hil.log faults|bench|years`: measures, shows, and leaves nothing behind."""

import argparse
import signal
import sys
from collections.abc import Sequence

from agent.errors import WardenError
from hil.log import bench, faults, years

FAILED, INTERRUPTED = 1, 130


def main(words: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 a fault was not met or it could not be run, 2 wrong usage, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m hil.log", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for part in (faults, bench, years):
        part.add(commands)
    arguments = parser.parse_args(words)
    try:
        code: int = arguments.run(arguments)
    except (WardenError, OSError) as error:
        print(f"log: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends everything in order, as Ctrl-C does
    sys.exit(main())
