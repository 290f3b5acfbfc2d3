#!/bin/sh
# lock.sh [--upgrade]: writes requirements/*.txt from pyproject.toml, with hashes, for every Python from
# 3.11 on and every platform, whatever this machine's own package sources are called.
set -eu

# Extras stay in the lines: pip before 23.3 reads `coverage[toml]` and `coverage` as two packages, and takes the
# newest of the first, which then has no hash here (Debian 12's pip is such a one).
compile() {
  UV_CUSTOM_COMPILE_COMMAND='make lock' .venv-tools/bin/uv pip compile --quiet --no-config \
    --universal --python-version 3.11 --generate-hashes \
    --no-annotate --no-strip-extras --no-emit-index-url --no-emit-find-links "$@"
}

# dev is held to run's versions: what is tested is what is shipped.
compile "$@" pyproject.toml --extra demo --group build --output-file requirements/run.txt
compile "$@" pyproject.toml --extra demo --group dev --constraint requirements/run.txt \
  --output-file requirements/dev.txt
compile "$@" pyproject.toml --extra demo --group fuzz --constraint requirements/dev.txt \
  --output-file requirements/fuzz.txt
compile "$@" --group pyproject.toml:lock --output-file requirements/lock.txt
