"""The physical rig: real nodes and relays, and an injector board that does what hands and accidents do.

Wiring, the injector's protocol and the settings: README.md beside this file.
"""

import json
import os
import signal
import tomllib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import serial

from agent.config import load_plan
from hil.person import Person
from hil.rig import Contact, Node, Relay, RigError
from hil.site import ask_module, faults_of

ANSWER_S = 2.0
MAX_ANSWER = 4096


class Injector:
    """The board's serial port: one order, one answer."""

    def __init__(self, port: str) -> None:
        """Raises RigError where the port cannot be opened."""
        try:
            self._serial = serial.Serial(
                port, 115_200, timeout=ANSWER_S, write_timeout=ANSWER_S, exclusive=True
            )
        except serial.SerialException as error:
            raise RigError("injector", f"{port}: {error}") from error

    def order(self, name: str, **arguments: object) -> dict[str, Any]:
        """Raises RigError when it refuses, answers nonsense, or not within two seconds."""
        self._serial.reset_input_buffer()
        self._serial.write(json.dumps({"order": name, **arguments}).encode() + b"\n")
        line = self._serial.read_until(b"\n", MAX_ANSWER)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or answer.get("ok") is not True:
            raise RigError("injector", f"{name}: answered {line[:200]!r}")
        return answer

    def at_ns(self, name: str, **arguments: object) -> int:
        """An order, and when it took effect by the injector's clock."""
        return int(self.order(name, **arguments)["at_us"]) * 1000

    def close(self) -> None:
        """Idempotent."""
        self._serial.close()


class PhysicalRig:
    """As a context manager the injector is healed when entered and when left."""

    def __init__(self, settings: Path) -> None:
        """Raises RigError for settings that cannot be used, ConfigError for the plan."""
        try:
            given = tomllib.loads(settings.read_text(encoding="utf-8"))
            port, plan, profile = given["port"], given["plan"], given["profile"]
        except (OSError, ValueError, KeyError) as error:
            raise RigError("physical", f"{settings}: {error}") from error
        checked = load_plan(Path(plan), offline=True)
        self.name = f"physical ({port})"
        self.guardian = Person.with_profile(Path(profile), checked.robot.id)
        self._run_folder = Path(checked.run_dir) / checked.robot.id
        self._injector = Injector(port)
        self._frozen: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.heal()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for module in tuple(self._frozen):
            self.thaw(module)
        self.heal()
        self._injector.close()

    def press(self, name: str) -> int:
        return self._injector.at_ns("press", input=name)

    def release(self, name: str) -> int:
        return self._injector.at_ns("release", input=name)

    def cut(self, name: str, contact: Contact) -> int:
        return self._injector.at_ns("cut", input=name, channel=contact)

    def weld(self, name: str, contact: Contact) -> int:
        return self._injector.at_ns("weld", input=name, channel=contact)

    def heal(self) -> None:
        self._injector.order("heal")

    def vary(self, name: str, value: float) -> int:
        return self._injector.at_ns("vary", input=name, value=value)

    def power(self, node: Node, *, on: bool) -> int:
        return self._injector.at_ns("power", node=node, on=on)

    def relay(self, node: Node) -> Relay:
        state = self._injector.order("state")
        return Relay(state[f"relay_{node}"] is True, int(state[f"relay_{node}_us"]) * 1000)

    def moving(self) -> bool:
        return self._injector.order("state")["moving"] is True

    def kill(self, module: str) -> int:
        pid = self._pid(module)
        at_ns = self._injector.at_ns("now")
        os.kill(pid, signal.SIGKILL)
        return at_ns

    def freeze(self, module: str) -> int:
        self._frozen[module] = self._pid(module)
        at_ns = self._injector.at_ns("now")
        os.kill(self._frozen[module], signal.SIGSTOP)
        return at_ns

    def thaw(self, module: str) -> None:
        os.kill(self._frozen.pop(module), signal.SIGCONT)

    def ask(self, module: str) -> dict[str, Any]:
        return ask_module(self._run_folder, module)

    def faults(self) -> list[str]:
        return faults_of(self.ask)

    def _pid(self, module: str) -> int:
        answer = self.ask(module)
        if not answer:
            raise RigError(self.name, f"{module} does not answer")
        return int(answer["module"]["pid"])
