#!/bin/sh
# Regenerates test/vectors/tiny from models/tiny; run it after every export of that checkpoint.
# PYTHON names an interpreter with requirements.txt installed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../../..
export OMP_NUM_THREADS=1
exec "${PYTHON:-python3}" "$here/model_vectors.py" --model "$root/models/tiny" --eval "$root/models/tiny/eval" \
  --out "$root/test/vectors/tiny" --greedy 6
