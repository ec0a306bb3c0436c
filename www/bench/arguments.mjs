// The command's options.

import { existsSync } from "node:fs";
import { availableParallelism, homedir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { dist, root } from "../build/common.mjs";
import { findChromium } from "./browser.mjs";

const HELP = `This package beside onnxruntime-web on the same weights, in one browser and one page load

Usage: node www/bench/run.mjs [OPTIONS]

  --backbone NAMES  vit_b, slimsam_77, slimsam_50, mobile_sam, lite0 or tiny; several, with commas between them,
                    take turns in the same page [default: vit_b]
  --size PIXELS     side of the input, a multiple of 16, of lite0 of 32 [default: 256]
  --threads N       also onnxruntime-web with N threads beside N workers of this package; 1 leaves both out
                    [default: this machine's cores]
  --rounds N        warm runs of each contender, which take turns [default: 5]
  --webgpu          also both on WebGPU
  --software-gpu    the same on Chromium's software GPU: shows that it works, not how fast it is
  --json FILE       write the report there as well
  --lib DIR         the built package [default: www/dist/lib]
  --samlora FILE    the native program [default: SAMLORA_BIN, else cargo's]
  --chromium FILE   [default: CHROMIUM, else the one on the path]
  --work DIR        folder of weights, Python and onnxruntime-web [default: target/peers]
  --help            print this
`;

const BACKBONES = ["vit_b", "slimsam_77", "slimsam_50", "mobile_sam", "lite0", "tiny"];

const fail = (message) => {
  console.error(`${message}\nTry --help.`);
  process.exit(2);
};

/** What the command line asks for; ends the program for help and for what cannot be. */
export function parse(args) {
  const text = (value) => ({ type: "string", ...(value && { default: value }) });
  const options = {
    backbone: text("vit_b"),
    size: text("256"),
    threads: text(String(availableParallelism())),
    rounds: text("5"),
    webgpu: { type: "boolean" },
    "software-gpu": { type: "boolean" },
    json: text(),
    lib: text(join(dist, "lib")),
    samlora: text(),
    chromium: text(),
    work: text(join(root, "target/peers")),
    help: { type: "boolean", short: "h" },
  };
  let given;
  try {
    given = parseArgs({ args, options, strict: true }).values;
  } catch (error) {
    fail(error.message);
  }
  if (given.help) {
    console.log(HELP);
    process.exit(0);
  }
  const backbones = [...new Set(given.backbone.split(","))];
  const unknown = backbones.find((name) => !BACKBONES.includes(name));
  if (unknown !== undefined) fail(`--backbone has "${unknown}": use ${BACKBONES.join(", ")}`);
  const whole = (name, step) => {
    const value = Number(given[name]);
    if (!Number.isInteger(value) || value < step || value % step !== 0) {
      fail(`--${name} is ${given[name]}: give a whole number${step > 1 ? `, a multiple of ${step}` : " from 1"}`);
    }
    return value;
  };
  const software = given["software-gpu"] ?? false;
  const result = {
    backbones,
    size: whole("size", backbones.includes("lite0") ? 32 : 16),
    threads: whole("threads", 1),
    rounds: whole("rounds", 1),
    webgpu: software ? "software" : given.webgpu ? "hardware" : undefined,
    json: given.json && resolve(given.json),
    lib: resolve(given.lib),
    work: resolve(given.work),
    samlora: given.samlora ?? process.env.SAMLORA_BIN ?? cargoBinary(),
    chromium: given.chromium ?? findChromium(),
  };
  if (!existsSync(join(result.lib, "index.js")))
    fail(`${result.lib} has no index.js: run "node www/build.mjs" first, or give --lib`);
  if (!existsSync(result.samlora)) fail(`${result.samlora} is missing: run "cargo build" first, or give --samlora`);
  if (!result.chromium) fail("no Chromium was found: install it, or give --chromium");
  return result;
}

function cargoBinary() {
  return join(process.env.CARGO_TARGET_DIR ?? join(homedir(), ".samlora-target"), "debug/samlora");
}
