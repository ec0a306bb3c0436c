#!/usr/bin/env bash
# Trains the demonstration model from the folder of real data that SAMLORA_DATA names: vit_t from random weights on buildings of
# three places. OUT gets the work folder; no sample of philippines is used, and Dubai's scene t7 and a fifth of zanzibar validate.
set -euo pipefail
: "${SAMLORA:?names the program}" "${SAMLORA_DATA:?names the folder of real data}" "${OUT:?names a folder to work in}"
data=$(realpath "$SAMLORA_DATA")
mkdir -p "$OUT"
folder() { # NAME SOURCE MASKS PATTERN: a folder of links to the samples of SOURCE that match
  mkdir -p "$OUT/data/$1/images" "$OUT/data/$1/masks"
  for image in "$data/$2/images/"$4; do
    stem=$(basename "${image%.*}")
    ln -sf "$image" "$OUT/data/$1/images/"
    ln -sf "$data/$2/$3/$stem".* "$OUT/data/$1/masks/"
  done
}
folder zanzibar oam-buildings/zanzibar/mosaic1024 masks '*'
folder banepa oam-buildings/banepa/mosaic1024 masks '*'
folder banepa-512 oam-buildings/banepa-512-train masks '*'
folder dubai dubai-landcover labels 't[1-57]_*'
folder philippines oam-buildings/philippines/mosaic1024 masks '*'
# Every fifth column of zanzibar's tiles, and scene t7.
: >"$OUT/valid.txt"
for image in "$OUT/data/zanzibar/images/"*; do
  stem=$(basename "${image%.*}"); x=$(cut -d- -f2 <<<"$stem")
  if [ $((x % 5)) = 0 ]; then echo "zanzibar/$stem"; fi
done >>"$OUT/valid.txt"
for image in "$OUT/data/dubai/images/"t7_*; do basename "${image%.*}" | sed 's|^|dubai/|'; done >>"$OUT/valid.txt"
"$SAMLORA" train --data "$OUT/data/zanzibar" --data "$OUT/data/banepa" --data "$OUT/data/banepa-512" --data "$OUT/data/dubai" \
  --class 1=building --unlisted background --valid-list "$OUT/valid.txt" \
  --backbone vit_t --size 256 --batch-size 8 --epochs "${EPOCHS:-12}" --lr 5e-4 --schedule cosine --weight-decay 0.05 --scale 0.5,1.25 \
  --validate-every 3 --out "$OUT/buildings" "$@"
