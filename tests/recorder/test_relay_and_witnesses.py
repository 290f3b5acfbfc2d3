"""The relay and real witnesses, joined by a network that loses, repeats, delays and reorders (seeded)."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from agent.recorder.relay import RECORD_EVERY_S, REPEAT_S
from console.witness.notices import Kind, Notice
from console.witness.receipts import token
from console.witness.record import Receipt, Witness
from console.witness.store import Store
from tests.console.witness.ledgers import Chain
from tests.recorder.relays import KEYS, WITNESSES, Remote, Scene

Packet = TypeVar("Packet")
FOLLOWS = (Kind.TAKEN, Kind.FIRST_USE, Kind.SILENT, Kind.BACK)


class Site:
    """One ledger with its relay, two witnesses, and what is on its way between them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.scene = Scene(Chain(), WITNESSES, recording=True)
        self.folder = folder
        self.notices: list[Notice] = []
        self.stores: dict[str, Store] = {}
        self.witnesses: dict[str, Witness] = {}
        self.lines: list[tuple[str, bytes]] = []
        self.tokens: list[str] = []
        self.loss = 0.0
        for kid in WITNESSES:
            self.begin(kid)
        self.scene.relay.opened(self.scene.connection())

    def begin(self, kid: str) -> None:
        """A witness begins, or begins again after a kill, and says where it is."""
        if kid in self.stores:
            self.stores[kid].close()
        self.stores[kid] = Store(self.folder / kid)

        def now_s() -> float:
            return self.scene.now_s

        self.witnesses[kid] = Witness(self.stores[kid], clock=now_s, wall=now_s)
        self.notices += self.witnesses[kid].begin()
        for receipt in self.witnesses[kid].announce():
            self.answer(kid, receipt)

    def answer(self, kid: str, receipt: Receipt) -> None:
        self.tokens.append(token(receipt, kid=kid, key=KEYS[kid], now_s=self.scene.now_s))

    def step(self) -> None:
        """A tenth of a second: everybody speaks, and some of what is on its way arrives."""
        self.scene.now_s += 0.1
        self.scene.relay.tick()
        for message in self.scene.remote.taken():
            self.lines += [(kid, message["line"].encode()) for kid in WITNESSES]
        for kid, line in self.arriving(self.lines):
            outcome = self.witnesses[kid].take("R1", line)
            self.notices += outcome.notices
            if outcome.receipt is not None:
                self.answer(kid, outcome.receipt)
        for signed in self.arriving(self.tokens):
            self.scene.hear(signed)

    def arriving(self, on_its_way: list[Packet]) -> Iterator[Packet]:
        """Lossless: all, in order. Else some are lost, some come twice, some wait and are overtaken."""
        waiting, on_its_way[:] = list(on_its_way), []
        for packet in waiting:
            if self.random.random() < self.loss:
                fate = self.random.random()
                if fate > 0.7:
                    on_its_way.append(packet)
                elif fate > 0.4:
                    yield packet
                    yield packet
            else:
                yield packet

    def fault(self) -> None:
        match self.random.randrange(4):
            case 0:
                self.begin(self.random.choice(WITNESSES))
            case 1:
                self.scene.remote = Remote()  # remote died, with all that it held
                self.lines.clear()
                self.scene.relay.opened(self.scene.connection())
            case 2:
                self.tokens.clear()
            case 3:
                (self.folder / "w2" / "R1.jsonl").unlink(missing_ok=True)  # its disk was replaced
                self.begin("w2")

    def kept(self, kid: str) -> list[bytes]:
        return (self.folder / kid / "R1.jsonl").read_bytes().splitlines()

    def close(self) -> None:
        for store in self.stores.values():
            store.close()


@pytest.mark.parametrize("seed", range(12))
def test_all_witnesses_get_the_whole_ledger_in_the_end(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    site = Site(tmp_path, seed)
    site.loss = 0.4
    for _ in range(1500):
        if site.random.random() < 0.2:
            site.scene.chain.grow(1)
        if site.random.random() < 0.01:
            site.fault()
        site.step()
    site.loss = 0.0
    settled = 0
    for _ in range(int(10 * 4 * REPEAT_S)):
        site.step()
        settled = settled + 1 if site.scene.relay.witnessed_by_all == len(site.scene.chain.lines) - 1 else 0
    assert settled > 10 * REPEAT_S, "and nothing moves any more"
    assert [kind for kind in (notice.kind for notice in site.notices) if kind not in FOLLOWS] == []
    assert site.scene.notes == []
    for kid in WITNESSES:
        assert site.kept(kid) == site.scene.chain.lines
    site.close()


def test_a_witness_that_comes_later_is_brought_up_to_date_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    site = Site(tmp_path, 1)
    site.scene.chain.grow(2000)
    for _ in range(2 * 300):
        site.step()
    assert site.scene.relay.witnessed_by_all >= 2000
    site.close()


def test_a_quiet_ledger_is_not_filled_with_receipts(tmp_path: Path) -> None:
    site = Site(tmp_path, 1)
    for _ in range(20):
        site.scene.now_s += RECORD_EVERY_S
        site.step()
        site.step()
    assert [kid for kid, _ in site.scene.recorded()] == list(WITNESSES)
    site.close()
