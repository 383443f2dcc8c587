#!/bin/sh
# Configures and builds the native library, the addon and the C++ tests, incrementally.
#   native/build.sh [--clean] [--sanitize] [--no-tests]
# --sanitize builds core and tests (no addon) with ASan and UBSan in native/build-sanitize.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
build="$here/build"
options="-DGUILDHALL_SANITIZE=OFF -DGUILDHALL_ADDON=ON"
clean=no
targets=all
for argument in "$@"; do
  case "$argument" in
    --clean) clean=yes ;;
    --sanitize)
      build="$here/build-sanitize"
      options="-DGUILDHALL_SANITIZE=ON -DGUILDHALL_ADDON=OFF"
      ;;
    --no-tests) targets=guildhall_addon ;;
    *)
      echo "usage: native/build.sh [--clean] [--sanitize] [--no-tests]" >&2
      exit 2
      ;;
  esac
done

[ "$clean" = no ] || rm -rf "$build"
jobs=$(nproc 2>/dev/null || echo 1)
[ "$jobs" -le 2 ] || jobs=2

if [ ! -f "$build/build.ninja" ]; then
  # shellcheck disable=SC2086 # options are separate words
  cmake -G Ninja -S "$here" -B "$build" $options >"${TMPDIR:-/tmp}/guildhall-cmake.$$" 2>&1 || {
    cat "${TMPDIR:-/tmp}/guildhall-cmake.$$" >&2
    rm -f "${TMPDIR:-/tmp}/guildhall-cmake.$$"
    exit 1
  }
  rm -f "${TMPDIR:-/tmp}/guildhall-cmake.$$"
fi
exec nice -n 5 ninja -C "$build" -j "$jobs" "$targets"
