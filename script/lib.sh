# shellcheck shell=bash
# What the scripts share; sourced, not run. Afterwards the current folder is the project's, whatever it was before.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The tools that a machine lacks live here, not in the system: uv, and Node where there is none.
tools=$PWD/var/tools

# Node for whoever needs npm: the machine's own, or the one that script/setup put into var/tools.
if ! { command -v node && command -v npm; } >/dev/null 2>&1; then
  PATH=$PATH:$tools/node/bin
fi

say() { printf '%s: %s\n' "script/${0##*/}" "$*"; }

die() {
  say "$*" >&2
  exit 1
}

can_be_root() { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "needs root, or sudo, for: $*"
  fi
}
