"""The ledger on its way to its witnesses, by way of `remote`: the recorder itself uses no network.

Wire, on `recorder.sock`: to remote `{"type":"ledger","n","line","hash","head":{"n","hash"}}`, a line as it
stands, its hash, and how far the ledger goes; from remote `{"type":"witness_ack","token"}`, whatever came as
a receipt, unjudged. Every new entry is handed over once, for whoever listens. For each witness whose key is
pinned, entries go on from the last one that it acknowledged, at most WINDOW ahead, and what is not
acknowledged in REPEAT_S is said again. Nothing here waits; what remote does not take goes out later.
"""

import json
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agent.link import MAX_MODULE_PACKET, Connection, Message, PacketError, encode_packet
from agent.recorder.log import LogError
from agent.recorder.receipts import Receipt, is_hash_of, read_receipt
from agent.tokens import TokenError

ROLE: Final = "remote"
WINDOW: Final = 32
"""Entries ahead of a witness's last acknowledgement."""
REPEAT_S: Final = 30.0
RECORD_EVERY_S: Final = 300.0
"""A receipt is written down at most so often for each witness: as often as a checkpoint (LOG, "Ledger")."""
IDLE_S: Final = 0.25
"""A witness that has not got on for so long and says its last entry again does not have what followed. Many
round trips; less than a witness takes to be started again."""
RETRY_S: Final = 10.0
"""Until a receipt is written again that the disk did not take."""
SENDS_PER_TICK: Final = 32
REMEMBERED: Final = 1_024
"""Entries whose hash and kind are remembered; an older one is read again."""

Entry = tuple[int, bytes, str]
"""n, the line without its newline, its hash in hexadecimal."""


class Ledger(Protocol):
    """The ledger, as far as its witnesses need it. Methods raise LogError."""

    @property
    def head(self) -> tuple[int, str] | None:
        """Number and hash of the last entry; None without any."""
        ...

    def entries_after(self, n: int, limit: int) -> Sequence[Entry]:
        """Entries n + 1 and on (-1: from the genesis), at most so many."""
        ...

    def append(self, kind: str, body: Mapping[str, object]) -> None:
        """Adds an entry, durable on return."""
        ...


@dataclass(slots=True)
class Peer:
    """One witness. `acked`: the last entry it has, None while it has not been heard since our start."""

    acked: int | None = None
    sent: int = -1
    """The last entry handed over for it, in order."""
    since_s: float = 0.0
    """When it last got on, or was asked again."""
    heard_s: float = float("-inf")
    """When a receipt last changed something."""
    asked: bool = False
    """The entry after `acked` was said again: whatever else was on its way may be lost as well."""
    iat: int = 0
    witness_time: int = 0
    newest: Receipt | None = None
    recorded: int | None = None
    """The last entry whose receipt is in the ledger, of those since our start."""
    record_at_s: float = float("-inf")
    """When a receipt may be recorded next."""


class LedgerRelay:
    """Of one ledger. `disagreements`: good signatures over another entry than ours; each is evidence."""

    def __init__(
        self,
        robot_id: str,
        ledger: Ledger,
        witnesses: Mapping[str, bytes],
        *,
        note: Callable[[str, Mapping[str, object]], None],
        refuse: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`witnesses`: kid -> Ed25519 public key, 32 bytes. `note(kind, body)` records an event in `safety`.

        `refuse(reason)`: a receipt that is none. `clock`: seconds, only forward.
        """
        self.disagreements = 0
        self._robot_id = robot_id
        self._ledger = ledger
        self._keys = dict(witnesses)
        self._peers = {kid: Peer() for kid in witnesses}
        self._note = note
        self._refuse = refuse
        self._clock = clock
        self._remote: Connection | None = None
        self._published = -1
        self._begun = False
        self._seen_from = -1
        """Entries from the one after this on were looked at: whether they are receipts is known."""
        self._hashes: OrderedDict[int, str] = OrderedDict()
        self._news: deque[int] = deque(maxlen=REMEMBERED)
        self._told: deque[tuple[str, int, str]] = deque(maxlen=64)

    # ---- what others see

    @property
    def witnessed(self) -> int:
        """The last entry that at least one witness has acknowledged since our start; -1 for none."""
        return max(self._acked(), default=-1)

    @property
    def witnessed_by_all(self) -> int:
        """The last entry that every witness has acknowledged since our start; -1 for none."""
        return min(self._acked(), default=-1)

    @property
    def witness_time_s(self) -> int:
        """The latest time that a witness has stated since our start, seconds since 1970; 0 for none."""
        return max((peer.witness_time for peer in self._peers.values()), default=0)

    def _acked(self) -> list[int]:
        return [-1 if peer.acked is None else peer.acked for peer in self._peers.values()]

    # ---- what the recorder's socket tells

    def opened(self, connection: Connection) -> None:
        """A module said hello. What remote was given before may be lost: it begins anew, with the head."""
        if connection.role != ROLE:
            return
        self._remote = connection
        head = self._ledger.head
        if head is not None and self._begun:
            self._published = min(self._published, head[0] - 1)
            for peer in self._peers.values():
                peer.sent, peer.since_s = self._before(peer, head), self._clock()
        self.tick()

    def ended(self, connection: Connection) -> None:
        """A module's connection is gone."""
        if connection is self._remote:
            self._remote = None

    def heard(self, connection: Connection, message: Message) -> None:
        """`witness_ack`, from remote."""
        token = message.get("token")
        if connection is not self._remote or not isinstance(token, str):
            self._refuse("witness_ack: no token, or not from remote")
            return
        try:
            receipt = read_receipt(token, robot_id=self._robot_id, keys=self._keys)
            same = self._is_ours(receipt)
        except TokenError as error:
            self._refuse(f"witness_ack: {error}")
        except LogError:
            return  # it is said again
        else:
            if same:
                self._get_on(self._peers[receipt.kid], receipt)
            else:
                self._disagree(receipt)

    def _is_ours(self, receipt: Receipt) -> bool:
        if receipt.n < 0:
            return True
        head = self._ledger.head
        if head is None or receipt.n > head[0]:
            return False
        known = self._hashes.get(receipt.n)
        if known == receipt.hash:
            return True
        entries = self._ledger.entries_after(receipt.n - 1, 1)
        return bool(entries) and (entries[0][2] == receipt.hash or is_hash_of(entries[0][1], receipt.hash))

    def _disagree(self, receipt: Receipt) -> None:
        """It signed an entry that we do not have: one of the two ledgers was cut, rewritten or copied."""
        what = (receipt.kid, receipt.n, receipt.hash)
        if what in self._told:
            return
        self._told.append(what)
        self.disagreements += 1
        head = self._ledger.head
        body = {"kid": receipt.kid, "n": receipt.n, "hash": receipt.hash, "token": receipt.token}
        self._note("witness_disagrees", {**body, "head": -1 if head is None else head[0]})

    def _get_on(self, peer: Peer, receipt: Receipt) -> None:
        peer.witness_time = max(peer.witness_time, receipt.witness_time)
        forward = peer.acked is None or receipt.n > peer.acked
        if not forward and not self._lacks(peer, receipt):
            return
        if peer.acked is None or peer.asked or not forward:
            peer.sent = receipt.n
        peer.acked, peer.sent = receipt.n, max(peer.sent, receipt.n)
        peer.since_s = peer.heard_s = self._clock()
        peer.asked, peer.iat = False, max(peer.iat, receipt.iat)
        if receipt.n >= 0 and (peer.newest is None or receipt.n > peer.newest.n):
            peer.newest = receipt

    def _lacks(self, peer: Peer, receipt: Receipt) -> bool:
        """Whether a number that is not higher means that the witness lacks what it was given or had.

        As a rule it is the answer to an entry that was meant for another witness, or to one that came twice;
        or an old receipt that somebody kept.
        """
        if receipt.iat < peer.iat:
            return False
        if receipt.n == peer.acked:
            return peer.sent > receipt.n and self._clock() - peer.heard_s >= IDLE_S
        return receipt.n < 0 or peer.asked

    # ---- what goes out

    def tick(self) -> None:
        """Every 100 ms or so, and at once when an entry was added."""
        try:
            self._send()
            self._record()
        except LogError:
            return  # the log's own trouble is told elsewhere; the next tick tries again

    def _send(self) -> None:
        head = self._ledger.head
        if self._remote is None or head is None:
            return
        if not self._begun:
            self._begun = True
            self._seen_from = self._published = head[0] - 1
            for peer in self._peers.values():
                peer.sent, peer.since_s = self._before(peer, head), self._clock()
        left = self._publish(SENDS_PER_TICK, head)
        now_s = self._clock()
        for peer in self._peers.values():
            if peer.acked is not None:
                left = self._catch_up(peer, peer.acked, left, head)
            if (peer.acked is None or peer.acked < head[0]) and now_s - peer.since_s >= REPEAT_S:
                self._ask_again(peer, head)

    def _publish(self, left: int, head: tuple[int, str]) -> int:
        """Every new entry, once; how many more may go out."""
        for n, line, digest in self._ledger.entries_after(self._published, left):
            if not self._put(n, line, digest, head):
                return 0
            left -= 1
            self._published = n
            self._look_at(n, line)
            for peer in self._peers.values():
                if peer.sent == n - 1:
                    self._handed(peer, n)
        return left

    def _catch_up(self, peer: Peer, acked: int, left: int, head: tuple[int, str]) -> int:
        room = min(left, min(self._published, acked + WINDOW) - peer.sent)
        if room <= 0:
            return left
        for n, line, digest in self._ledger.entries_after(peer.sent, room):
            if not self._put(n, line, digest, head):
                return 0
            left -= 1
            self._handed(peer, n)
        return left

    def _handed(self, peer: Peer, n: int) -> None:
        if peer.sent == peer.acked:  # nothing was on its way: the wait for an answer begins
            peer.since_s = self._clock()
        peer.sent = n

    def _ask_again(self, peer: Peer, head: tuple[int, str]) -> None:
        """One entry is enough: its answer says where to go on."""
        wanted = head[0] if peer.acked is None else peer.acked + 1
        for n, line, digest in self._ledger.entries_after(wanted - 1, 1):
            if self._put(n, line, digest, head):
                peer.since_s, peer.asked = self._clock(), peer.acked is not None

    def _put(self, n: int, line: bytes, digest: str, head: tuple[int, str]) -> bool:
        """False: remote takes no more now."""
        if self._remote is None:
            return False
        self._hashes[n] = digest
        if len(self._hashes) > REMEMBERED:
            self._hashes.popitem(last=False)
        message = {"type": "ledger", "n": n, "line": line.decode("utf-8", "replace"), "hash": digest}
        try:
            packet = encode_packet({**message, "head": {"n": head[0], "hash": head[1]}}, MAX_MODULE_PACKET)
        except PacketError:
            return True  # longer than any packet may be: it would stand before all that follow
        return self._remote.send_packet(packet)

    # ---- receipts into the ledger

    def _look_at(self, n: int, line: bytes) -> None:
        if _kind(line) != "witness.ack":
            if len(self._news) == REMEMBERED:
                self._seen_from = self._news[0]
            self._news.append(n)

    def _record(self) -> None:
        now_s = self._clock()
        for peer in self._peers.values():
            receipt = peer.newest
            if receipt is None or now_s < peer.record_at_s or not self._is_news(peer.recorded, receipt.n):
                continue
            peer.record_at_s = now_s + RETRY_S
            self._ledger.append("witness.ack", receipt.body())
            peer.recorded, peer.record_at_s = receipt.n, now_s + RECORD_EVERY_S

    def _is_news(self, recorded: int | None, n: int) -> bool:
        """Whether it covers more than receipts since the last one recorded: else each would make the next."""
        if recorded is None:
            return True
        return n > recorded and (recorded < self._seen_from or any(recorded < m <= n for m in self._news))

    @staticmethod
    def _before(peer: Peer, head: tuple[int, str]) -> int:
        """After which entry to begin: one not heard yet gets the head, and says what it lacks."""
        return head[0] - 1 if peer.acked is None else min(peer.acked, head[0])


def _kind(line: bytes) -> str:
    try:
        return str(json.loads(line).get("kind"))
    except (ValueError, AttributeError, RecursionError):
        return ""
