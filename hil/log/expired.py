"""A log past its time: what is ordered deleted of it, copies to do that in, and what is heard of them."""

import json
import os
import shutil
import time
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.logformat.layout import HEADER_PREFIX, LEDGER_FILE, STREAMS, gone_name, segment_name
from agent.recorder.sealed.ledger import Entry
from agent.recorder.sealed.orders import Named
from hil.log.deleter import Deleter, Ruling
from hil.log.judge import Case, Key, read
from hil.log.life import Fault
from hil.log.nursery import NurseryError
from hil.log.office import Department, Witness
from hil.log.owner import batch
from hil.log.reading import Unsynced
from hil.log.trial import SMALL_SEGMENT, Ground, Modules
from hil.log.writer import Writer

S = 1_000_000_000
AGE_S = 200 * 86_400
"""More than anything is kept."""
LIVES, BATCHES = {"service": 3, "retired": 2}, 5
"""Of the recorder when all that is old was written; each life leaves a segment of each stream at least."""
YOUNG = 4
"""Batches that are not past their time."""
BATCHES_OF_A_LIFE = 4
"""Of one that deletes."""
AFTER = 2
"""Batches before the first order of a robot in service: its streams have segments open then."""


@dataclass(slots=True)
class Scene:
    """`folder`: the log before any order; `lines`: what the witness has of its ledger.

    `ordered`: segments to be deleted; `wraps`: offset and bytes of their wrapped keys; `where`: event ->
    (stream, segno) in `folder`. `after`: batches before the first order.
    """

    ground: Ground
    name: str
    folder: Path
    modules: Modules
    after: int
    department: Department
    witness: Witness
    lines: list[bytes] = field(default_factory=list)
    ordered: tuple[Named, ...] = ()
    wraps: dict[Named, tuple[int, bytes]] = field(default_factory=dict)
    where: Mapping[Key, tuple[str, int]] = field(default_factory=dict)

    def ruling(self, witnessed: int = -1, orders: Sequence[str] = ()) -> Ruling:
        """As the robot has it when all that is old is past its time."""
        roots = {kid: key.hex() for kid, key in self.department.office.roots.items()}
        witnesses = {kid: key.hex() for kid, key in self.witness.keys.items()}
        return Ruling(
            self.ground.owner.robot, roots, witnesses, (AGE_S + 1) * S, witnessed, tuple(orders), self.after
        )

    def together(self) -> list[str]:
        """One order for everything."""
        return [self.department.order(self.ordered)]

    def singly(self) -> list[str]:
        """An order for each segment."""
        return [self.department.order([named]) for named in self.ordered]

    def copy(self, name: str = "log") -> "Course":
        """A fresh copy."""
        return Course(self, self.folder, self.modules, self.lines).copy(name)


def scenes(ground: Ground) -> list[Scene]:
    """A robot in service, at work, which keeps some of what might go; and one at the end of its service.

    Of the second all streams go whole, the segments that the next must follow included.
    """
    return [_made(ground, "service", AFTER), _made(ground, "retired", 0)]


def _made(ground: Ground, name: str, after: int) -> Scene:
    robot = ground.owner.robot
    modules = Modules(_spread_seed(ground, LIVES[name]))
    made = Scene(ground, name, ground.fresh(name), modules, after, Department(robot), Witness(robot))
    for _ in range(LIVES[name]):
        with _writer(made, 0) as writer:
            modules.hear(["genesis", writer.ledger.genesis_line.hex()])
            writer.boot()
            _send(made, writer, BATCHES)
    with _writer(made, 0) as writer:
        if name == "retired":
            writer.ledger.append("service.end", {"reason": "retired"})
    with _writer(made, AGE_S * S) as writer:
        writer.boot()
        _send(made, writer, 0 if name == "retired" else YOUNG)
        writer.ledger.append("witness.ack", made.witness.receipt(writer.ledger.head, time.time() + AGE_S))
    _choose(made)
    return made


def _writer(scene: Scene, added_ns: int) -> Writer:
    def took(entry: Entry) -> None:
        scene.lines.append(entry.line)

    clocks = Deleter(Ruling("", {}, {}, added_ns), scene.folder, lambda _: None).clocks
    owner = scene.ground.owner
    return Writer(
        scene.folder, owner, segment_bytes=SMALL_SEGMENT, clocks=clocks, disk=Unsynced(), on_entry=took
    )


def _send(scene: Scene, writer: Writer, count: int) -> None:
    modules = scene.modules
    for number in range(modules.next, modules.next + count):
        writer.log.append(batch(modules.seed, number))
        modules.hear(["ack", str(number)])


def _spread_seed(ground: Ground, count: int) -> int:
    """Of batches of which each of so many lives has every stream."""
    while True:
        seed = ground.dice.randrange(1 << 30)
        lives = [range(life * BATCHES, (life + 1) * BATCHES) for life in range(count)]
        streams = [{record.stream for n in life for record in batch(seed, n)} for life in lives]
        if all(found == set(STREAMS) for found in streams):
            return seed


def _choose(scene: Scene) -> None:
    """Everything that may go, but in service not the newest of each stream."""
    deleter = Deleter(scene.ruling(), scene.folder, lambda _: None)
    owner, size = scene.ground.owner, SMALL_SEGMENT
    with Writer(scene.folder, owner, segment_bytes=size, clocks=deleter.clocks, between=deleter.begin):
        due = deleter.retention.deletable()
    newest = {named.stream: named for named in due} if scene.after else {}
    scene.ordered = tuple(named for named in due if newest.get(named.stream) != named)
    for named in scene.ordered:
        data = (scene.folder / named.stream / segment_name(named.segno)).read_bytes()
        _, _, _, _, fields, wraps = HEADER_PREFIX.unpack_from(data)
        start = HEADER_PREFIX.size + fields
        scene.wraps[named] = start, data[start : start + wraps]
    rows = read(scene.ground.case(scene.folder, scene.modules))
    scene.where = {key: (row["stream"], row["segno"]) for key, row in rows.items()}


@dataclass(slots=True)
class Course:
    """A copy of a scene, and what was heard of it, which may go on over several lives.

    `links`: a second name, outside of the log, of each ordered segment's file: its bytes can still be
    read when its name is gone. `unburied`: deletions of which the ledger knew, and that the next start left.
    Of the last life: `marks`, word -> (order, calls); `heard_s`, word -> when, `deleting` the first time, all
    others the last; `last`, word; `deleted`, orders that were told to be carried out.
    """

    scene: Scene
    folder: Path
    modules: Modules
    lines: list[bytes]
    links: dict[Named, Path] = field(default_factory=dict)
    marks: dict[str, list[int]] = field(default_factory=dict)
    heard_s: dict[str, float] = field(default_factory=dict)
    last: str = ""
    deleted: set[int] = field(default_factory=set)
    unburied: list[Named] = field(default_factory=list)

    def copy(self, name: str = "log") -> "Course":
        """A fresh copy of how it stands."""
        folder = self.scene.ground.fresh(name)
        shutil.copytree(self.folder, folder)
        made = Course(self.scene, folder, self.modules.copy(), list(self.lines))
        links = self.scene.ground.fresh(f"{name}-links")
        links.mkdir()
        for number, named in enumerate(self.scene.ordered):
            if made.there(named):
                made.links[named] = links / str(number)
                os.link(made.segment(named), made.links[named])
        return made

    def live(self, fault: Fault, orders: Sequence[str]) -> bool:
        """One life in a process of its own; whether its fault came."""
        modules, ground = self.modules, self.scene.ground
        modules.ended, modules.failures = False, 0
        ruling = self._begun(orders)
        end = modules.next + BATCHES_OF_A_LIFE
        for words in ground.tell(self.folder, modules, end, fault, SMALL_SEGMENT, ruling):
            self.hear(words)
        return modules.failures > 0 or not modules.ended

    def deleter(self, orders: Sequence[str]) -> Deleter:
        """For a life in this process."""
        return Deleter(self._begun(orders), self.folder, lambda words: self.hear(words.split()))

    def _begun(self, orders: Sequence[str]) -> Ruling:
        self.marks, self.heard_s, self.last, self.deleted, self.unburied = {}, {}, "", set(), []
        return self.scene.ruling(len(self.lines) - 1, orders)

    def hear(self, words: Sequence[str]) -> None:
        """One line of a life that deletes."""
        if words[0] == "entry":
            self._witness(b64decode(words[1]))
        elif words[0] in ("finishing", "finished", "deleting", "deleted", "undeleted"):
            self._mark(words[0], [int(word) for word in words[1:]])

    def _mark(self, word: str, numbers: list[int]) -> None:
        self.last, self.marks[word] = word, numbers
        if word != "deleting" or word not in self.heard_s:
            self.heard_s[word] = time.monotonic()
        if word == "deleted":
            self.deleted.add(numbers[0])
        elif word == "finished":
            self.unburied = [named for named in self.entered() if self.there(named)]

    @property
    def deleting(self) -> bool:
        """Whether the last life ended in the middle of a deletion."""
        resuming = self.last == "finishing" and any(map(self.there, self.entered()))
        return resuming or self.last == "deleting"

    def _witness(self, line: bytes) -> None:
        n = json.loads(line)["n"]
        if n > len(self.lines):
            raise NurseryError(f"entry {n} is told, {len(self.lines)} is not")
        if n == len(self.lines):
            self.lines.append(line)

    @property
    def case(self) -> Case:
        """With all that is known outside: genesis, the witness's lines, and the keys of those who sign."""
        scene, witness = self.scene, self.folder.with_suffix(".witness")
        witness.write_bytes(b"".join(line + b"\n" for line in self.lines))
        owner, genesis = scene.ground.owner, self.modules.genesis
        return Case(self.folder, owner, genesis, witness, scene.department.keys, scene.witness.keys)

    def segment(self, named: Named) -> Path:
        """Its file."""
        return self.folder / named.stream / segment_name(named.segno)

    def there(self, named: Named) -> bool:
        """Whether its file is."""
        return self.segment(named).exists()

    def gone(self, named: Named) -> bool:
        """Whether its tombstone is there."""
        return (self.folder / named.stream / gone_name(named.segno)).exists()

    def keys(self, named: Named) -> bytes:
        """What now stands where its wrapped keys were, also when the file has lost its name."""
        start, wraps = self.scene.wraps[named]
        with self.links[named].open("rb") as file:
            return os.pread(file.fileno(), len(wraps), start)

    def entered(self) -> list[Named]:
        """What the ledger, as it is found, says is deleted, by whole lines alone."""
        *lines, _ = (self.folder / LEDGER_FILE).read_bytes().split(b"\n")
        bodies = [json.loads(line)["body"] for line in lines if b'"kind":"delete"' in line]
        return [Named(**row) for body in bodies for row in body["segments"]]
