#!/bin/sh
# lock.sh [--upgrade]: writes requirements/*.txt from pyproject.toml, with hashes, for every Python from
# 3.11 on and every platform, whatever this machine's own package sources are called.
set -eu

compile() {
  UV_CUSTOM_COMPILE_COMMAND='make lock' .venv-tools/bin/uv pip compile --quiet --no-config \
    --universal --python-version 3.11 --generate-hashes \
    --no-annotate --no-emit-index-url --no-emit-find-links "$@"
}

# dev is held to run's versions: what is tested is what is shipped.
compile "$@" pyproject.toml --extra demo --group build --output-file requirements/run.txt
compile "$@" pyproject.toml --extra demo --group dev --constraint requirements/run.txt \
  --output-file requirements/dev.txt
compile "$@" pyproject.toml --extra demo --group fuzz --constraint requirements/dev.txt \
  --output-file requirements/fuzz.txt
compile "$@" --group pyproject.toml:lock --output-file requirements/lock.txt
