#!/bin/sh
# A trained DenseNet of torchvision becomes an INT8 engine with its evidence:
#   sh run.sh CHECKPOINT CALIB EVAL RUN
# From the environment: PREPROCESS (imagenet), TARGET (cpu), PLACEMENT (block), MAX_DROP (1 point) and
# MACS (a share such as 0.7; not pruned without it).
set -eu
checkpoint=$1 calib=$2 eval=$3 run=$4
preprocess=${PREPROCESS:-imagenet}

edgedense inspect "$checkpoint" --preprocess "$preprocess"

# Exit 3: the engine of a Jetson is built on that board; all else is there. Exit 1: not proved.
code=0
edgedense deploy "$checkpoint" --calib "$calib" --eval "$eval" --preprocess "$preprocess" \
    ${MACS:+--macs "$MACS"} --placement "${PLACEMENT:-block}" --max-drop "${MAX_DROP:-1}" \
    --target "${TARGET:-cpu}" -o "$run" || code=$?
case $code in
0 | 1 | 3) edgedense report "$run" --model-card ;;
esac
exit "$code"
