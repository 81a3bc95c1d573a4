#!/bin/sh
# On the board: verify the bundle, build, time INT8 against FP16, validate, report.
#   sh board.sh BUNDLE.edz RUN
# From the environment: TARGET (the bundle's; cpu rehearses anywhere), VERIFY_KEY (a public key).
set -eu
bundle=$1 run=$2

edgedense doctor
code=0
edgedense run-bundle "$bundle" -o "$run" ${TARGET:+--target "$TARGET"} \
    ${VERIFY_KEY:+--verify-key "$VERIFY_KEY"} || code=$?
# in which precision the layers of a TensorRT engine really run; it has its own exit code
for engine in "$run"/engine-*; do
    if [ -f "$engine/inspector.json" ]; then
        edgedense layers "$engine" || true
    fi
done
exit "$code"
