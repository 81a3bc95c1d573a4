#!/bin/sh
# A trained FC-DenseNet (Tiramisu) becomes an INT8 engine, judged by mean IoU:
#   sh run.sh CHECKPOINT CALIB EVAL RUN
# From the environment: PREPROCESS (camvid), TARGET (cpu), PLACEMENT (block), MAX_DROP (1 point of mean
# IoU) and MACS (a share such as 0.7; not pruned without it).
set -eu
checkpoint=$1 calib=$2 eval=$3 run=$4

code=0
edgedense deploy "$checkpoint" --calib "$calib" --eval "$eval" --preprocess "${PREPROCESS:-camvid}" \
    ${MACS:+--macs "$MACS"} --placement "${PLACEMENT:-block}" --max-drop "${MAX_DROP:-1}" --batch 1:1:2 \
    --target "${TARGET:-cpu}" -o "$run" || code=$?
case $code in
0 | 1 | 3) edgedense report "$run" ;;
esac
exit "$code"
