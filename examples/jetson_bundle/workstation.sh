#!/bin/sh
# On the workstation: everything that a board needs to prove the network, in one file.
#   sh workstation.sh CHECKPOINT CALIB EVAL BUNDLE.edz
# From the environment: TARGET (jetson-orin-nano), PREPROCESS (imagenet), MACS (a share such as 0.7; not
# pruned without it), IMAGES (for the verdict, 2000), MAX_DROP (1 point), KEY (a secret key to sign with).
set -eu
checkpoint=$1 calib=$2 eval=$3 bundle=$4
made=${bundle%.edz}.made
mkdir -p "$made"

edgedense import "$checkpoint" -o "$made/net" --preprocess "${PREPROCESS:-imagenet}"
net=$made/net
if [ -n "${MACS:-}" ]; then
    edgedense prune "$made/net" -o "$made/pruned" --calib "$calib" --macs "$MACS" \
        --target "${TARGET:-jetson-orin-nano}"
    net=$made/pruned
fi
edgedense quantize "$net" -o "$made/int8" --calib "$calib" --eval "$eval" --reference "$made/net" \
    --placement block
edgedense pack "$made/int8" -o "$bundle" --eval "$eval" --eval-images "${IMAGES:-2000}" \
    --target "${TARGET:-jetson-orin-nano}" --max-drop "${MAX_DROP:-1}" --against fp16 \
    ${KEY:+--sign "$KEY"}
