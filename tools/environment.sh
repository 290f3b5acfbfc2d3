#!/bin/sh
# environment.sh PYTHON FOLDER LOCK: makes the virtual environment FOLDER hold what requirements/LOCK.txt
# locks, hash by hash and without a compiler, and this tree itself; then touches its stamp.
set -eu
python=$1 folder=$2 lock=$3

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

command -v "$python" >/dev/null || fail "$python is not on the PATH: install Python 3.11 or newer, or say make ... PYTHON=<path>."
recent "$python" || fail \
  "$python is $("$python" -V 2>&1); robot-warden needs Python 3.11 or newer: make ... PYTHON=<path to it>."

# A folder left by an interrupted run, or by an interpreter that has since gone, is made anew.
if ! recent "$folder/bin/python" || ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
  "$python" -m venv --clear "$folder" || fail \
    "$python could not make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv."
fi

# Twice quiet: errors only. Warnings about this machine's own package sources are nobody's business here.
pip() { "$folder/bin/python" -m pip -q -q --disable-pip-version-check --no-input "$@"; }

echo "Installing requirements/$lock.txt into $folder ..."
pip install --require-hashes --only-binary :all: --requirement "requirements/$lock.txt"
case $lock in
  lock) touch "$folder/stamp" ;;
  *)
    # The build backend came with the lock: nothing more is fetched.
    pip install --no-index --no-deps --no-build-isolation --editable .
    touch "$folder/$lock.stamp"
    ;;
esac
