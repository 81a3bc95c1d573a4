#!/bin/sh
# A CIFAR DenseNet is pruned, trained on for a little, quantized, and judged against what it was:
#   sh run.sh CHECKPOINT TRAIN TEST OUT
# From the environment: MACS (share that stays, 0.57), EPOCHS (of fine-tuning, 1; 0: none), MAX_DROP
# (1 point) and PREPROCESS (cifar10).
set -eu
checkpoint=$1 train=$2 test=$3 out=$4
macs=${MACS:-0.57} epochs=${EPOCHS:-1}

mkdir -p "$out"
edgedense import "$checkpoint" -o "$out/net" --preprocess "${PREPROCESS:-cifar10}"
edgedense prune "$out/net" -o "$out/pruned" --calib "$train" --macs "$macs"
small=$out/pruned
if [ "$epochs" != 0 ]; then
    edgedense finetune "$out/pruned" -o "$out/tuned" --data "$train" --epochs "$epochs" --teacher "$out/net"
    small=$out/tuned
fi
# the reference stays the network before pruning: the verdict is about everything that was done
edgedense quantize "$small" -o "$out/int8" --calib "$train" --eval "$test" --reference "$out/net" \
    --placement block
edgedense build-engine "$out/int8" -o "$out/engine" --target cpu
edgedense validate "$out/engine" --data "$test" --max-drop "${MAX_DROP:-1}" -o "$out/validation"
