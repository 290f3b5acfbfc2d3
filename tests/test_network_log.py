from collections.abc import Mapping
from typing import Any

from agent.network_log import MAX_TOPIC, MAX_TOPICS, OTHER, PERIOD_NS, NetworkLog


class Rig:
    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.peer = "127.0.0.1:8883"
        self.log = NetworkLog(self._emit, lambda: self.peer)

    def _emit(self, kind: str, body: Mapping[str, object], *, stream: str = "safety") -> None:
        assert stream == "net"
        self.records.append((kind, dict(body)))


def test_packets_are_summed_per_topic_and_way_and_told_once_a_period() -> None:
    rig = Rig()
    rig.log.tick(0)
    for size in (10, 20):
        rig.log.received("a/cmd", size)
    rig.log.sent("a/state", 300)
    rig.log.tick(PERIOD_NS - 1)
    assert not rig.records
    rig.log.tick(PERIOD_NS)
    traffic = {"peer": rig.peer, "in": {"a/cmd": [2, 30]}, "out": {"a/state": [1, 300]}}
    assert rig.records == [("mqtt_traffic", traffic)]


def test_silence_is_not_recorded() -> None:
    rig = Rig()
    for second in range(10):
        rig.log.tick(second * PERIOD_NS)
    assert not rig.records


def test_a_connection_is_told_at_once_and_after_what_went_before_it() -> None:
    rig = Rig()
    rig.log.sent("a/link", 16)
    rig.log.link(up=False, why="closed", about={"peer": rig.peer, "tls": "TLSv1.3"})
    assert [kind for kind, _ in rig.records] == ["mqtt_traffic", "mqtt_link"]
    assert rig.records[1][1] == {"up": False, "why": "closed", "peer": rig.peer, "tls": "TLSv1.3"}


def test_a_flood_of_topics_makes_the_numbers_larger_and_the_record_no_longer() -> None:
    rig = Rig()
    for number in range(10_000):
        rig.log.received(f"{number}/" + "x" * 1000, 1)
    rig.log.tick(PERIOD_NS)
    (_, body), topics = rig.records[0], rig.records[0][1]["in"]
    assert len(topics) == MAX_TOPICS + 1
    assert all(len(topic) <= MAX_TOPIC for topic in topics)
    assert topics[OTHER] == [10_000 - MAX_TOPICS, 10_000 - MAX_TOPICS]
    assert sum(count for count, _ in body["in"].values()) == 10_000
