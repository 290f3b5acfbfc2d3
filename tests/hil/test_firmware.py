"""Building the reference firmware, for this machine and as for a microcontroller; and its process."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hil import firmware
from hil.firmware import LOGIC, SOURCES, FirmwareError, FirmwareProcess, build, compile_c, main
from tests.hil.line_end import LineEnd

FREESTANDING = ("-c", "-ffreestanding", "-fno-stack-protector", "-fno-pic", "-Wstack-usage=256")
COMPILERS_OWN = {"memcpy", "memset", "memmove", "memcmp"}
"""What gcc may call without being told to: even a freestanding environment has these four."""


def machine() -> str:
    return subprocess.run(["gcc", "-dumpmachine"], capture_output=True, text=True, check=True).stdout


def targets() -> list[tuple[str, ...]]:
    """Flags for the kinds of code that this gcc can make: no floating-point registers, small, 32 bits."""
    narrow = [("-m32", "-Os")] if machine().startswith("x86_64") else []
    return [("-O2", "-mgeneral-regs-only"), ("-Os",), ("-O0",), *narrow]


# The logic, as for a microcontroller ------------------------------------------------------------------------


@pytest.mark.parametrize("flags", targets(), ids=" ".join)
def test_the_logic_compiles_without_an_operating_system(tmp_path: Path, flags: tuple[str, ...]) -> None:
    made = compile_c(tmp_path / "node.o", [LOGIC], *FREESTANDING, *flags)
    undefined = subprocess.run(["nm", "-u", made], capture_output=True, text=True, check=True).stdout.split()
    assert set(undefined) - {"U"} <= COMPILERS_OWN
    writable = subprocess.run(["size", "-A", made], capture_output=True, text=True, check=True).stdout
    sizes = dict(re.findall(r"^\.(data|bss|text)\s+(\d+)", writable, re.MULTILINE))
    assert (sizes["data"], sizes["bss"]) == ("0", "0"), "its state is the caller's"
    assert int(sizes["text"]) < 16_384


def test_the_logic_includes_what_every_c99_compiler_has_and_nothing_else() -> None:
    text = LOGIC.read_text("utf-8") + (SOURCES / "node.h").read_text("utf-8")
    found = set(re.findall(r"#\s*include\s*(\S+)", text))
    assert found == {'"node.h"', "<stdbool.h>", "<stddef.h>", "<stdint.h>"}
    assert not re.search(
        r"\b(float|double|malloc|free|goto|asm)\b", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    )


# The program ------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sources, where a test may change them."""
    sources = tmp_path / "sources"
    shutil.copytree(SOURCES, sources)
    monkeypatch.setattr(firmware, "SOURCES", sources)
    return sources


def test_it_is_built_once_and_again_when_a_source_is_newer(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def compile_quickly(made: Path, sources: list[Path], *flags: str) -> Path:
        built.append(("-fsanitize=address,undefined" in flags, sources))
        made.touch()
        return made

    monkeypatch.setattr(firmware, "compile_c", compile_quickly)
    sources = [*copy.glob("*.c"), *copy.glob("rig/*.c")]
    for _ in range(2):
        build(tmp_path)
        build(tmp_path, sanitize=True)
    assert [(sanitized, set(given)) for sanitized, given in built] == [
        (False, set(sources)),
        (True, set(sources)),
    ]
    newer_ns = (tmp_path / "node").stat().st_mtime_ns + 1
    os.utime(copy / "rig" / "text.h", ns=(newer_ns, newer_ns))
    build(tmp_path)
    assert len(built) == 3


@pytest.mark.parametrize(
    "spoilt", ["int unused(void) { int x; return 0; }", "int narrow(long x) { return x; }", "("]
)
def test_a_warning_is_an_error_with_the_compilers_words(tmp_path: Path, spoilt: str) -> None:
    source, made = tmp_path / "spoilt.c", tmp_path / "spoilt.o"
    source.write_text(spoilt)
    with pytest.raises(FirmwareError, match=r"spoilt\.c:1") as caught:
        compile_c(made, [source], "-c")
    assert caught.value.made == made
    assert not made.exists()


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FirmwareError, match="gcc: No such file"):
        build(tmp_path)


def test_the_command_line_builds_and_prints_the_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, bool]] = []

    def build_nothing(folder: Path, *, sanitize: bool) -> Path:
        assert folder.is_dir()
        asked.append((folder, sanitize))
        return folder / "made"

    monkeypatch.setattr(firmware, "build", build_nothing)
    folder = tmp_path / "new" / "folder"
    assert (main([str(folder)]), main([str(folder), "--sanitize"])) == (0, 0)
    assert asked == [(folder, False), (folder, True)]
    assert capsys.readouterr().out.splitlines() == [str(folder / "made")] * 2


def test_the_command_line_says_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main([str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.startswith("firmware: ")


# The process ------------------------------------------------------------------------------------------------


def test_a_process_builds_its_own_program_and_can_be_started_again(run_dir: Path) -> None:
    node = FirmwareProcess(run_dir, link=run_dir / "port")
    for _ in range(2):
        with node, LineEnd(run_dir / "port") as line:
            assert line.run().a == 0b11
        assert node.process.ended == 0
    assert (run_dir / "node").exists()
