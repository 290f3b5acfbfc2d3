"""`monitor` as a process: the plan's address, every module's socket, the certificates' ends."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from agent.core.plan import DeviceSpec, InputSpec, OutputSpec, Plan
from agent.metrics import Presets
from agent.monitor.access import Tls
from agent.monitor.service import Monitor
from agent.processes import BY_NAME, PROCESSES, allowed_uids
from agent.shell import TICK_NS, Shell, Ticker
from drivers.registry import device_names

NAME = "monitor"


class MonitorModule:
    """The module."""

    def __init__(self, plan: Plan, loop: asyncio.AbstractEventLoop) -> None:
        self.shell = Shell(plan, NAME, loop)
        self.shell.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        settings = plan.monitor
        certificates = _certificates(plan)
        self.monitor = Monitor(
            loop,
            sockets={
                row.name: self.shell.folder / row.socket
                for row in PROCESSES
                if row.socket is not None and row.name != NAME
            },
            listen=settings.listen,
            presets=Presets(
                robot_id=plan.robot.id,
                version=plan.agent_version,
                digest=plan.agent_digest,
                inputs=tuple(plan.inputs),
                causes={row.id: row.response.label for row in plan.rows.values()},
                certificates=tuple(certificates),
                sources=device_names({**_specs(plan.inputs), **_specs(plan.outputs)}),
            ),
            boot=self.shell.boot,
            allowed_uids=allowed_uids(BY_NAME),
            folders={
                "run": Path(plan.run_dir),
                "state": Path(plan.state_dir),
                "log": Path(plan.recorder.dir),
            },
            tls=Tls(Path(settings.tls_cert), Path(settings.tls_key)) if settings.tls_cert else None,
            password_file=Path(settings.password_file) if settings.password_file else None,
        )
        self.shell.meter = self.monitor.meter
        self.shell.status = self.monitor.status
        for name, expiry_s in certificates.items():
            self.shell.meter.set("certificate_expiry_timestamp_seconds", expiry_s, name)
        self._loop = loop
        self.ticker: Ticker | None = None

    def start(self) -> None:
        """Listens; raises MonitorError for an address that cannot be had."""
        self._loop.run_until_complete(self.monitor.start())
        address = self.shell.folder / "monitor.address"
        address.write_text(f"{self.monitor.status()['listen']}\n", encoding="ascii")
        # Last: whoever gets an answer on the module's socket finds the address.
        self.shell.start()
        self.ticker = Ticker(self.shell, lambda _: None, period_ns=10 * TICK_NS)

    def close(self) -> None:
        """Idempotent."""
        if self.ticker is not None:
            self.ticker.close()
        self._loop.run_until_complete(self.monitor.close())
        self.shell.close()


def _specs(entries: Mapping[str, InputSpec] | Mapping[str, OutputSpec]) -> dict[str, DeviceSpec]:
    return {name: entry.device for name, entry in entries.items()}


def _certificates(plan: Plan) -> dict[str, float]:
    """Name -> end of validity, seconds since 1970; 0 for one that cannot be read."""
    paths = {"monitor": plan.monitor.tls_cert}
    if plan.remote is not None:
        paths |= {"remote_ca": plan.remote.ca, "remote": plan.remote.cert}
    return {name: _expiry_s(Path(path)) for name, path in paths.items() if path}


def _expiry_s(path: Path) -> float:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return 0.0
