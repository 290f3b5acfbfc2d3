"""Guardian's signed stop published (QoS 1, TLS) -> permit withdrawn."""

import random
import time
from contextlib import ExitStack, closing
from functools import partial

from agent.tokens import COMMAND, load_private_key, new_jti, sign
from hil.bench.figures import Figure
from hil.bench.publisher import Publisher
from hil.bench.rig import GUARDIAN, REMOTE_PRIORITY, Rig, sharp, wait_until
from hil.bench.samples import OURS, REFERENCE, SEED, TICK_S, Bound, Leg, Samples, Watch

LIFETIME_S = 120
LOOK_US = 20
"""A few hundredths of what is measured."""
LEGS = (
    Leg(
        "withdrawn",
        "许可撤回",
        "permit withdrawn",
        Figure(ratio={"p50": 4.0, "p99": 4.0}),
        loaded=Figure(at_most_ns={"p99.9": 5_000_000}),
    ),
)
REFERENCE_TOPIC = "warden/v1/group/bench/cmd"
"""People may write there, and the robot is in no such group."""


def measure(rig: Rig, bound: Bound, samples: Samples) -> None:
    """One publisher for both. The reference takes the same bytes and verifies nothing."""
    chance = random.Random(SEED)
    topics = {OURS: f"warden/v1/{rig.site.robot_id}/cmd", REFERENCE: REFERENCE_TOPIC}
    with ExitStack() as stack:
        stops = stack.enter_context(closing(Stops(rig)))
        permits = {OURS: rig.site.permits[1]}
        if start_reference(rig, stack):
            permits[REFERENCE] = rig.permit("mqtt_ref")
        watch = Watch(stack.enter_context(rig.program("watch", REMOTE_PRIORITY, *permits.values())))
        stack.enter_context(sharp(REMOTE_PRIORITY - 1))
        for _ in bound.turns():
            for number, who in enumerate(permits):
                rig.bring_up()
                wait_until(partial(rig.permits_motion, permits[who]), who)
                time.sleep(chance.uniform(0, TICK_S))
                token = stops.make()
                watch.arm(number, look_us=LOOK_US)
                sent_ns = stops.publish(topics[who], token)
                samples.add_seen("withdrawn", who, sent_ns, watch.seen_ns())
            samples.on_sample()


def start_reference(rig: Rig, stack: ExitStack) -> bool:
    """False where it could not be built. It has the robot's certificate, so it reads what a robot may."""
    if "mqtt_ref" not in rig.programs:
        return False
    pki, broker = rig.site.pki, rig.site.broker
    tls = (pki.ca, pki.robot.cert, pki.robot.key)
    where = ("127.0.0.1", broker.port, *tls, REFERENCE_TOPIC, broker.protocol)
    stack.enter_context(rig.program("mqtt_ref", *where, rig.permit("mqtt_ref"), REMOTE_PRIORITY))
    return True


class Stops:
    """Signed stops, each with a jti of its own."""

    def __init__(self, rig: Rig) -> None:
        person = rig.site.pki.person(GUARDIAN)
        self._publisher = Publisher(rig.site.broker.port, rig.site.pki.client_tls(person), "bench")
        self._robot_id = rig.site.robot_id
        self._key = load_private_key(person.signing_key)

    def make(self) -> bytes:
        """The next one."""
        now_s = int(time.time())
        claims = {
            "iss": GUARDIAN,
            "aud": self._robot_id,
            "iat": now_s,
            "exp": now_s + LIFETIME_S,
            "jti": new_jti(),
            "cmd": "stop",
            "args": {"response": "emergency_stop", "reason": "bench"},
        }
        return sign(claims, key=self._key, kid=GUARDIAN, typ=COMMAND).encode()

    def publish(self, topic: str, token: bytes) -> int:
        """When it was sent."""
        self._publisher.settle()
        return self._publisher.publish(topic, token)

    def close(self) -> None:
        """Idempotent."""
        self._publisher.close()
