#!/bin/sh
# Regenerates everything but the vectors of the trained model: checkpoints, block vectors, model vectors.
# PYTHON names an interpreter with requirements.txt installed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
export OMP_NUM_THREADS=1
"$python" "$here/checkpoints.py"
"$python" "$here/block_vectors.py" --out "$here/../blocks"
"$python" "$here/mtp_vectors.py" --model "$here/../checkpoints/q35-base" --out "$here/../mtp"
for model in "$here"/../checkpoints/*/; do
  name=$(basename "$model")
  "$python" "$here/model_vectors.py" --model "$here/../checkpoints/$name" --out "$here/../models/$name"
done
