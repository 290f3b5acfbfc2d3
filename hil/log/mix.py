"""What a robot at work records in one second: 10 events, nearly all of the network, and one of telemetry.

The bodies are those that the modules send: `agent/network_log.py`, `agent/desk.py`, `agent/channel.py`,
`agent/reflex.py`, `agent/keeping.py`. Numbers and names vary as they do in service; a constant body would
compress to nothing.
"""

import random
from collections.abc import Mapping

from agent.recorder.log import Record

BOOTS = {"remote": "7e" * 16, "reflex": "4f" * 16}
S = 1_000_000_000
EVENTS_PER_S = 10
RECORDS_PER_S = EVENTS_PER_S + 1
SAFETY_EVERY = 10
"""One second in so many has an event of `safety` among its ten; the rest is `net`, sums over a tenth of a
second, so of few topics each. Each of `safety` brings a checkpoint, at most one a second: were there one in
every second, the ledger would be as large as the segments."""
POOL = 4_096
"""Bodies made of each sort. No frame holds that many records, so repetition helps no compressor."""
PEER = "192.168.31.20:8883"
CAUSES = ("estop_pressed", "guardian_stop", "fence_left", "remote_lost", "battery_low", "task_refused")
COMMANDS = ("stop", "resume", "ping", "task", "suspend")
TASKS = ("patrol", "deliver", "charge", "dock")
TOPICS = ("state", "telemetry", "events", "reply", "link", "cmd", "ledger", "ledger/ack")


Row = tuple[str, str, str, Mapping[str, object]]
"""Source, stream, kind, body."""


class Mix:
    """One robot's seconds; the same for the same seed."""

    def __init__(self, seed: int, wall_ns: int) -> None:
        """`wall_ns`: of second 0; CLOCK_BOOTTIME is then at one minute."""
        self._dice = random.Random(seed)
        self._wall_ns = wall_ns
        self._seqs = dict.fromkeys(BOOTS, 0)
        self._epoch = 1
        self._seconds = 0
        self._net = [self._traffic_row() for _ in range(POOL)]
        self._safe = [self._safety_row() for _ in range(POOL)]
        self._tele: list[Row] = [("reflex", "tele", "telemetry", self._telemetry()) for _ in range(POOL)]

    def second(self, number: int) -> list[Record]:
        """The eleven records of that second: `net`, then `safety`, then telemetry."""
        begun_ns, choices = number * S, self._dice.choices
        safety = int(self._seconds % SAFETY_EVERY == 0)
        self._seconds += 1
        rows = choices(self._net, k=EVENTS_PER_S - safety)
        rows += choices(self._safe, k=safety)
        rows += choices(self._tele, k=1)
        return [self._record(begun_ns + index * S // RECORDS_PER_S, row) for index, row in enumerate(rows)]

    def safety(self, count: int) -> list[Record]:
        """So many of `safety` alone, for the benchmark."""
        return [self._record(index, row) for index, row in enumerate(self._dice.choices(self._safe, k=count))]

    def _record(self, at_ns: int, row: Row) -> Record:
        source, stream, kind, body = row
        seq = self._seqs[source] = self._seqs[source] + 1
        at_ns += seq * 7_919 % 90_000_000  # no two events are a round time apart
        return Record(
            source, BOOTS[source], seq, stream, kind, self._wall_ns + at_ns, 60 * S + at_ns, body, "s"
        )

    # ---- bodies

    def _traffic_row(self) -> Row:
        return "remote", "net", "mqtt_traffic", self._traffic()

    def _traffic(self) -> dict[str, object]:
        dice = self._dice
        ways = {}
        for way in ("in", "out"):
            topics = dice.sample(TOPICS, dice.randint(1, 2))
            ways[way] = {
                f"warden/v1/rw-0001/{t}": [dice.randint(1, 9), dice.randint(90, 4_000)] for t in topics
            }
        return {"peer": PEER, **ways}

    def _safety_row(self) -> Row:
        dice = self._dice
        chosen = dice.randrange(4)
        if chosen == 0:
            return "remote", "safety", "command_stage", self._stage()
        if chosen == 1:
            return "reflex", "safety", "command_judged", {**self._command(), "reason": None}
        channel = dice.choice(("reflex", "remote"))
        if chosen == 2:
            about = {"id": dice.choice(CAUSES), "detail": "", "response": "protective_stop"}
            return channel, "safety", "cause_raised", {"channel": channel, **about, "clear": "reset"}
        self._epoch += 1
        turn = {"from": "none", "to": "protective_stop", "epoch": self._epoch}
        return channel, "safety", "response", {"channel": channel, **turn, "causes": [dice.choice(CAUSES)]}

    def _command(self) -> dict[str, object]:
        dice = self._dice
        return {"kid": "guardian-7", "jti": f"{dice.getrandbits(96):024x}", "cmd": dice.choice(COMMANDS)}

    def _stage(self) -> dict[str, object]:
        dice = self._dice
        stage = dice.choice(("accepted", "started", "done"))
        return {**self._command(), "stage": stage, "reason": None, "after_us": dice.randint(90, 40_000)}

    def _telemetry(self) -> dict[str, object]:
        dice = self._dice
        return {
            "speed_mps": round(dice.uniform(0, 1.6), 3),
            "x_m": round(dice.uniform(-80, 80), 3),
            "y_m": round(dice.uniform(-80, 80), 3),
            "heading_rad": round(dice.uniform(-3.14, 3.14), 4),
            "battery_pct": dice.randint(15, 100),
            "task": dice.choice(TASKS),
            "still": dice.random() < 0.2,
        }
