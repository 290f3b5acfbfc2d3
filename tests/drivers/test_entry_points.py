"""A third party's package adds a driver by an entry point; it cannot take the place of one of ours."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.base import DriverError, SettingsError
from drivers.registry import check_settings, describe, row_of

MODULE = """
from pydantic import BaseModel, ConfigDict, Field
from drivers.registry import DriverKind, RoleEntry

class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    port: str = Field(description="Where.", json_schema_extra={"format": "a path"})
    line: int = Field(ge=0, le=7, description="Which.")

KIND = DriverKind(
    kind="acme_relay",
    summary="A relay of somebody else's",
    roles={"output": RoleEntry("acme_driver:Settings", "line {line}")},
    path_key="port",
    shared_keys=(),
    factory=None,
)
NOTHING = object()
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """As pip would install it: a module and its metadata on the path."""
    (tmp_path / "acme_driver.py").write_text(MODULE)
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[robot_warden.drivers]\n"
        "acme_relay = acme_driver:KIND\n"
        "acme_nothing = acme_driver:NOTHING\n"
        "serial_node = acme_driver:KIND\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield info
    sys.modules.pop("acme_driver", None)


def test_its_settings_are_checked_as_ours_are(package: Path) -> None:
    assert row_of("acme_relay").summary == "A relay of somebody else's"
    assert check_settings("acme_relay", "output", {"port": "/dev/x", "line": 7})["line"] == 7
    with pytest.raises(SettingsError) as caught:
        check_settings("acme_relay", "output", {"port": "/dev/x", "line": 8})
    assert caught.value.key == "line"


def test_it_cannot_replace_one_of_ours(package: Path) -> None:
    assert row_of("serial_node").summary.startswith("Safety node")


def test_what_is_no_driver_is_refused_by_name(package: Path) -> None:
    with pytest.raises(DriverError, match="acme_nothing"):
        row_of("acme_nothing")


def test_it_is_listed_and_an_unknown_kind_names_it(package: Path) -> None:
    (package / "entry_points.txt").write_text("[robot_warden.drivers]\nacme_relay = acme_driver:KIND\n")
    assert "acme_relay" in {row["kind"] for row in describe()}
    with pytest.raises(SettingsError, match="acme_relay"):
        row_of("nothing_of_the_kind")
