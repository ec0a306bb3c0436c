#!/usr/bin/env bash
# Adds tiles of real imagery to the page's pictures, from the folder that SAMLORA_DATA names: places that no model was trained on.
# Without it the page has its drawn scenes.
set -euo pipefail
out=${1:?names the folder of pictures}
[ -d "${SAMLORA_DATA:-}" ] || exit 0
shopt -s nullglob
tiles=("$SAMLORA_DATA"/oam-buildings/philippines/mosaic1024/images/*)
scenes=("$SAMLORA_DATA"/dubai-landcover/images/t7_00[1-3].*)
for file in "${tiles[@]}"; do cp "$file" "$out/philippines-$(basename "$file")"; done
for file in "${scenes[@]}"; do cp "$file" "$out/dubai-$(basename "$file")"; done
cd "$out"
names=(philippines-* dubai-* scene-*)
( IFS=,; printf '[%s]\n' "${names[*]/#/}" ) | sed -E 's/([^][,]+)/"\1"/g' >index.json
