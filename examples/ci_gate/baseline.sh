#!/bin/sh
# Accept the engine as it is: what comes later is held against it. Commit baselines/engine.json.
set -eu
mkdir -p baselines
edgedense validate engine --data images/test --max-drop "${MAX_DROP:-1}" --no-latency \
    --write-baseline baselines/engine.json
