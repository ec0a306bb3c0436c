// How well masks of a map meet at the tiles' borders, and what it costs: node www/bench/seams.mjs [OPTIONS]
//
//   --place NAME      a place of www/demo/places [default: kampala]
//   --zoom Z          [default: 20]
//   --tiles X,Y,W,H   the view: first column and row within the place, columns and rows [default: 1,0,4,3]
//   --model PACKAGE   [default: www/demo/models/buildings]
//   --halo PIXELS     [default: the package's]
//   --lib DIR         the built package, also an older one [default: www/dist/lib]
//   --samlora FILE    the native program [default: SAMLORA_BIN]; without it, its row is left out
//
// All tiles of a view are asked for at once, on the CPU device. Counted are pairs of neighbouring pixels of two classes: those across
// a tile's border, and all others; and the windows that the network ran in.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { dist, www } from "../build/common.mjs";
import { browserOf } from "./browser.mjs";
import { serve } from "./server.mjs";

const text = (value) => ({ type: "string", ...(value && { default: value }) });
const { values } = parseArgs({
  options: {
    place: text("kampala"),
    zoom: text("20"),
    tiles: text("1,0,4,3"),
    model: text(join(www, "demo/models/buildings")),
    halo: text(),
    lib: text(join(dist, "lib")),
    samlora: text(),
  },
});
const [zoom, [left, top, across, down]] = [Number(values.zoom), values.tiles.split(",").map(Number)];
const folder = join(www, "demo/places", values.place);
const sorted = (path) => readdirSync(path).sort((a, b) => parseInt(a, 10) - parseInt(b, 10));
const columns = sorted(join(folder, String(zoom)));
const rows = sorted(join(folder, String(zoom), columns[0]));
const first = { x: Number(columns[0]), y: parseInt(rows[0], 10) };
const extension = rows[0].split(".").pop();

const { url, close } = await serve({ "/lib": resolve(values.lib), "/model": resolve(values.model), "/place": folder });
const browser = await chromium.launch(browserOf());
try {
  const page = await browser.newPage();
  await page.goto(url);
  const view = { zoom, first, left, top, across, down, size: [columns.length, rows.length], extension };
  const halo = values.halo === undefined ? {} : { halo: Number(values.halo) };
  const found = await page.evaluate(segment, { ...view, options: halo });
  const rowsOf = [[`page, ${found.windows} windows, ${(found.time / 1000).toFixed(1)} s`, measure(found.mask)]];
  const program = values.samlora ?? process.env.SAMLORA_BIN;
  if (program) {
    const mask = await native(page, program, view);
    rowsOf.push(["command, the whole place at once", measure(mask)]);
    const equal = found.mask.filter((value, i) => value === mask[i]).length / mask.length;
    rowsOf.push([`equal pixels of both: ${(100 * equal).toFixed(2)} %`]);
  }
  console.log(`${values.place}, zoom ${zoom}, ${across} x ${down} tiles; class changes at`);
  for (const [name, shares] of rowsOf) console.log(`  ${name.padEnd(40)}${shares ?? ""}`);
} finally {
  await browser.close();
  close();
}

/** Runs in the page: one byte a pixel of the view. */
async function segment({ zoom, first, left, top, across, down, size, extension, options }) {
  const { Segmenter } = await import("/lib/index.js");
  const { TileMasks, TileSource, tileBounds } = await import("/lib/maplibre.js");
  const model = await Segmenter.load("/model/", { device: "cpu", workers: 1, store: false });
  const bounds = [first, { x: first.x + size[0] - 1, y: first.y + size[1] - 1 }].map((t) =>
    tileBounds({ z: zoom, ...t }),
  );
  const source = new TileSource({
    tiles: `${location.origin}/place/{z}/{x}/{y}.${extension}`,
    minzoom: zoom,
    maxzoom: zoom,
    bounds: [bounds[0][0], bounds[1][1], bounds[1][2], bounds[0][3]],
  });
  const masks = new TileMasks(model, source, options);
  const start = performance.now();
  const places = Array.from({ length: across * down }, (_, i) => [i % across, Math.floor(i / across)]);
  const tile = ([x, y]) => ({ z: zoom, x: first.x + left + x, y: first.y + top + y });
  const made = await Promise.all(places.map((place) => masks.get(tile(place), new AbortController().signal)));
  const time = performance.now() - start;
  const mask = new Array(across * down * 256 * 256);
  for (const place of places) {
    const { classMask } = await masks.peek(tile(place)).refine();
    for (let at = 0; at < classMask.length; at++)
      mask[(place[1] * 256 + Math.floor(at / 256)) * across * 256 + place[0] * 256 + (at % 256)] = classMask[at];
  }
  const windows = masks.counts().windows ?? made.reduce((sum, { timings }) => sum + timings.windows, 0);
  return { mask, windows, time };
}

/** The same of the command's mask of the whole place: its palette's index is the class. */
async function native(page, program, { zoom, left, top, across, down }) {
  const out = mkdtempSync(join(tmpdir(), "samlora-seams-"));
  try {
    const args = ["segment", "--model", values.model, folder, "--zoom", String(zoom), "--out", out];
    execFileSync(program, [...args, "--format", "png", "--device", "cpu"], { stdio: ["ignore", "ignore", "inherit"] });
    const png = readFileSync(join(out, `${values.place}.mask.png`)).toString("base64");
    return await page.evaluate(
      async ({ png, left, top, across, down }) => {
        const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
        const [width, height] = [across * 256, down * 256];
        const context = new OffscreenCanvas(width, height).getContext("2d");
        context.drawImage(bitmap, -left * 256, -top * 256);
        const { data } = context.getImageData(0, 0, width, height);
        const { classes } = await (await fetch("/model/samlora.json")).json();
        const indices = new Map(classes.map(({ color, index }) => [color.join(), index]));
        return Array.from(
          { length: width * height },
          (_, i) => indices.get(data.slice(4 * i, 4 * i + 3).join()) ?? 255,
        );
      },
      { png, left, top, across, down },
    );
  } finally {
    rmSync(out, { recursive: true });
  }
}

/** Shares of pairs of neighbouring pixels that have two classes, in words. */
function measure(mask) {
  const [width, height] = [across * 256, down * 256];
  const pairs = { border: [0, 0], inside: [0, 0] };
  const count = (a, b, isBorder) => {
    const pair = pairs[isBorder ? "border" : "inside"];
    pair[0]++;
    if (mask[a] !== mask[b]) pair[1]++;
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      if (x) count(at - 1, at, x % 256 === 0);
      if (y) count(at - width, at, y % 256 === 0);
    }
  }
  const share = ([all, changes]) => `${((100 * changes) / all).toFixed(2)} %`;
  return `${share(pairs.border).padStart(8)} of pairs across tiles' borders, ${share(pairs.inside).padStart(7)} within`;
}
