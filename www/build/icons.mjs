// The page's icons as PNG, for systems that take no SVG: two overlapping squares, drawn here.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodePng } from "./png.mjs";

const GROUND = [246, 247, 246];
/** From, to (in 64ths of the side) and colour; the same as in icon.svg. */
const SQUARES = [
  { from: 12, to: 36, colour: [15, 118, 110] },
  { from: 28, to: 52, colour: [217, 119, 6] },
];

export function writeIcons(folder) {
  for (const side of [192, 512]) writeFileSync(join(folder, `icon-${side}.png`), draw(side));
}

function draw(side) {
  const rows = Buffer.alloc(side * (1 + 3 * side)); // Every row starts with its filter: 0, none.
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const within = ({ from, to }) => [x, y].every((at) => at >= (from * side) / 64 && at < (to * side) / 64);
      rows.set(SQUARES.findLast(within)?.colour ?? GROUND, y * (1 + 3 * side) + 1 + 3 * x);
    }
  }
  return encodePng(rows, side, side);
}
