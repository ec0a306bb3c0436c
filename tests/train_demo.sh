#!/usr/bin/env bash
# Trains the demonstration models from the folder of real data that SAMLORA_DATA names: EfficientNet-Lite0 of ImageNet under SAM's
# neck and decoder on buildings of three places, then a LoRA adapter on it for land cover. ENCODER names the encoder's file
# (docs/src/train.md says where it is from). OUT gets the work folder; no sample of philippines is used, and Dubai's scene t7 and a
# fifth of zanzibar validate. PARTS chooses (buildings landcover baselines baselines-buildings places); EPOCHS and EPOCHS_LANDCOVER change how long they take. The part `baselines`
# trains two others on the land cover's split with as many crops, the same network without buildings before and a U-Net in PyTorch
# (tests/peers), and prints all three in one table. TEACHER may name weights of tests/peers/teacher.py: its soft masks then teach beside
# the labels, and on images of other places that nobody has labelled.
set -euo pipefail
: "${ENCODER:?names the file of EfficientNet-Lite0, which docs/src/train.md tells how to get}"
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
folder dubai-landcover dubai-landcover labels 't[1-57]_*'
cp "$data/dubai-landcover/classes.json" "$OUT/data/dubai-landcover/"
folder philippines oam-buildings/philippines/mosaic1024 masks '*'
# Every fifth column of zanzibar's tiles, and scene t7.
: >"$OUT/valid.txt"
for image in "$OUT/data/zanzibar/images/"*; do
  stem=$(basename "${image%.*}"); x=$(cut -d- -f2 <<<"$stem")
  if [ $((x % 5)) = 0 ]; then echo "zanzibar/$stem"; fi
done >>"$OUT/valid.txt"
for image in "$OUT/data/dubai/images/"t7_*; do basename "${image%.*}" | sed 's|^|dubai/|'; done >>"$OUT/valid.txt"
grep ^dubai/ "$OUT/valid.txt" | sed 's|^dubai/|dubai-landcover/|' >"$OUT/valid-landcover.txt"
common=(--size 224 --batch-size 8 --schedule cosine --weight-decay 0.05 --ema 0.998 --validate-every "${VALIDATE_EVERY:-2}")
everything=(--base "$ENCODER" --unfreeze --encoder-rate 0.4 --lr 1e-3)
parts=${PARTS:-buildings landcover}
teaching=()
if [ -n "${TEACHER:-}" ]; then
  soft=$OUT/soft
  if [ ! -e "$soft/complete" ]; then
    rm -rf "$soft"
    masks() { python3 "$(dirname "${BASH_SOURCE[0]}")/peers/teacher.py" --bf16 soft-masks "$TEACHER" --out "$soft" "$@"; }
    part() { # NAME SOURCE N: a folder of links to every Nth image of SOURCE
      mkdir -p "$OUT/data/$1/images"
      ls "$data/more/$2/images" | awk -v n="$3" 'NR % n == 0' | while read -r image; do
        ln -sf "$data/more/$2/images/$image" "$OUT/data/$1/images/"
      done
    }
    part unlabelled-banepa unlabelled-banepa-oam 2
    part california california-vegetation 6
    masks --resolution 0.105 --flips "$OUT/data/zanzibar=0.0742" "$OUT/data/banepa=0.066" "$OUT/data/banepa-512=0.13"
    masks --resolution 0.15 "$OUT/data/dubai=0.2"
    masks --resolution 0.13 "$OUT/data/unlabelled-banepa=0.13:resample"
    masks --resolution 0.105 "$data/more/trees-oam-tcd=0.10:resample" "$data/more/nungwi-zanzibar=0.077:resample"
    masks --resolution 0.15 "$data/more/unlabelled-usgs-suburbs=0.3:resample" "$data/more/unlabelled-wellington-linz=0.2:resample" \
      "$data/more/geneva-roofs=0.25:resample"
    masks --resolution 0.2 "$OUT/data/california=0.6:resample"
    touch "$soft/complete"
  fi
  teaching=(--teacher "$soft/masks" --teacher-weight 0.5 --unlabelled-share 0.35)
  for folder in unlabelled-banepa trees-oam-tcd nungwi-zanzibar unlabelled-usgs-suburbs unlabelled-wellington-linz geneva-roofs california; do
    teaching+=(--unlabelled "$soft/$folder")
  done
fi
if [[ " $parts " = *" buildings "* ]]; then # in two rounds of a falling learning rate, the second from what the first has learnt
  round() { # OUT SEED OPTIONS
    local out=$1 seed=$2
    shift 2
    "$SAMLORA" train --data "$OUT/data/zanzibar" --data "$OUT/data/banepa" --data "$OUT/data/banepa-512" --data "$OUT/data/dubai" \
      --class 1=building --unlisted background --valid-list "$OUT/valid.txt" --unfreeze --encoder-rate 0.4 "${teaching[@]}" \
      --epochs "${EPOCHS:-5}" --seed "$seed" --strong-augment --resolution 0.06,0.25 --scale 0.7,2 "${common[@]}" "$@" --out "$out"
  }
  round "$OUT/buildings-first" 7 --base "$ENCODER" --lr 1e-3
  round "$OUT/buildings" 8 --base "$OUT/buildings-first" --lr 7e-4
fi
base=$OUT/buildings
if [[ " $parts " = *" landcover "* ]]; then
  "$SAMLORA" train --data "$OUT/data/dubai-landcover" --ignore 0 --valid-list "$OUT/valid-landcover.txt" --base "$base" \
    --rank 8 --decoder lora --epochs "${EPOCHS_LANDCOVER:-4}" --lr 1e-3 "${common[@]}" --out "$OUT/landcover"
fi
if [[ " $parts " = *" baselines "* ]]; then
  "$SAMLORA" train --data "$OUT/data/dubai-landcover" --ignore 0 --valid-list "$OUT/valid-landcover.txt" "${everything[@]}" \
    --epochs "${EPOCHS_LANDCOVER:-4}" "${common[@]}" --out "$OUT/landcover-scratch"
  for run in landcover landcover-scratch; do
    rm -rf "$OUT/$run-q8"
    "$SAMLORA" export --run "$OUT/$run" --scheme q8 --out "$OUT/$run-q8"
  done
  python3 "$(dirname "${BASH_SOURCE[0]}")/peers/baselines.py" "$OUT/landcover" --samlora "$SAMLORA" \
    --package "lite0 LoRA on buildings=$OUT/landcover-q8" "lite0 from ImageNet=$OUT/landcover-scratch-q8" --out "$OUT/baselines"
fi
if [[ " $parts " = *" baselines-buildings "* ]]; then # a U-Net on the buildings' split; by default as many crops as the package, which takes long (BF16=1: mixed precision)
  rm -rf "$OUT/buildings-q8"
  "$SAMLORA" export --run "$base" --scheme q8 --out "$OUT/buildings-q8"
  python3 "$(dirname "${BASH_SOURCE[0]}")/peers/baselines.py" "$base" --samlora "$SAMLORA" --images "${IMAGES:-7104}" ${BF16:+--bf16} \
    --test-data "$OUT/data/philippines" --package "lite0=$OUT/buildings-q8" --out "$OUT/baselines-buildings"
fi
if [[ " $parts " = *" places "* ]]; then # each place left out in turn, without the teacher, which has seen them all; a U-Net with as many crops beside it
  peers=$(dirname "${BASH_SOURCE[0]}")/peers
  for place in zanzibar banepa dubai; do
    folders=() tests=()
    for folder in zanzibar banepa banepa-512 dubai; do
      case $folder in $place*) tests+=("$OUT/data/$folder") ;; *) folders+=(--data "$OUT/data/$folder") ;; esac
    done
    grep -v "^$place" "$OUT/valid.txt" >"$OUT/valid-without-$place.txt"
    "$SAMLORA" train "${folders[@]}" --class 1=building --unlisted background --valid-list "$OUT/valid-without-$place.txt" \
      "${everything[@]}" --epochs "${EPOCHS_PLACES:-2}" --seed 7 --strong-augment --resolution 0.06,0.25 --scale 0.7,2 "${common[@]}" \
      --out "$OUT/without-$place"
    rm -rf "$OUT/without-$place-q8"
    "$SAMLORA" export --run "$OUT/without-$place" --scheme q8 --out "$OUT/without-$place-q8"
    python3 "$peers/baselines.py" "$OUT/without-$place" --samlora "$SAMLORA" ${BF16:+--bf16} ${WORK:+--work "$WORK"} \
      --test-data "${tests[@]}" "$OUT/data/philippines" --package "lite0=$OUT/without-$place-q8" --out "$OUT/places/$place"
  done
fi
