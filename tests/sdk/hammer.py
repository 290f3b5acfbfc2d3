"""The other side of permit_hammer.c, which says what step `i` is: writes one permit without pause.

It does so until it is killed or its standard input ends.

    python -m tests.sdk.hammer PATH
"""

import select
import sys
from pathlib import Path

from agent.permit import Permit, PermitWriter


def hammer(writer: PermitWriter, step: int) -> None:
    """Step `step` of the writer."""
    if step % 64 < 60:
        motion_ns = step << 20
        writer.write(
            motion_until_ns=motion_ns,
            power_until_ns=motion_ns + 1,
            epoch=step // 64,
            speed_permille=step % 1000,
            response=step % 3,
        )
        return
    if step // 64 % 2:
        # Both ways into a stop: withdrawn first, as a module does, and by the write alone.
        writer.withdraw(power_until_ns=step << 20)
    writer.write(
        motion_until_ns=0, power_until_ns=0, epoch=step // 64 + 1, speed_permille=0, response=5 + step % 3
    )


def granted(seen: Permit) -> bool:
    """What permit_hammer.c checks, for the readers in Python."""
    step = seen.motion_until_ns >> 20
    if seen.motion_until_ns == 0:
        return True
    near = [step, step + 1] if (step + 1) % 64 < 60 else [step]
    return (
        step << 20 == seen.motion_until_ns
        and step % 64 < 60
        and seen.epoch == step // 64
        and seen.power_until_ns in [(n << 20) + 1 for n in near]
        and (seen.speed_permille, seen.response) in [(n % 1000, n % 3) for n in near]
    )


def main(path: Path) -> None:
    writer = PermitWriter(path)
    # After a restart: the epoch goes on from what was found, as a module's does.
    step = 64 * (writer.found.epoch + 1) if writer.found else 64
    sys.stdout.write("started\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], 0)[0]:
        for _ in range(1024):
            hammer(writer, step)
            step += 1
    writer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
