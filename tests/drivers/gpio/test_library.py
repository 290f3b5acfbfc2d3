"""The driver through the real library, without a chip: libgpiod's C code over a stand-in for the kernel.

`kernel.c` is preloaded into a process of its own, in which the rules of all drivers run (`library_rules.py`).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
WARNINGS = ("-Wall", "-Wextra", "-Werror")


def test_the_rules_hold_through_the_real_library(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", *WARNINGS, "-o", kernel, HERE / "kernel.c", "-ldl"], check=True
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / "library_rules.py"],
        cwd=ROOT,
        env=os.environ | {"LD_PRELOAD": str(kernel)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    summary = re.search(r"^(\d+) passed in ", run.stdout, re.MULTILINE)
    assert summary is not None, run.stdout
    assert int(summary[1]) > 100, "the rules are four kinds of contact and four of relay"
