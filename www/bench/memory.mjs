// What packages take of a GPU in a browser: node www/bench/memory.mjs PACKAGE...
//
// Loads each package on WebGPU, segments one picture of the model's input size, and prints the most bytes of buffers at once,
// the largest part of one that a kernel was given (WebGPU grants 128 MiB everywhere), pipelines, and the time of the first
// image. With --hardware on the machine's GPU, else on Chromium's software GPU, whose times say nothing of a GPU.

import { join } from "node:path";
import { chromium } from "playwright-core";
import { parseArgs } from "node:util";
import { dist, www } from "../build/common.mjs";
import { browserOf, GPU } from "./browser.mjs";
import { manifestOf } from "./models.mjs";
import { serve } from "./server.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { hardware: { type: "boolean" }, lib: { type: "string", default: join(dist, "lib") } },
});
if (!positionals.length) {
  console.error("Usage: node www/bench/memory.mjs [--hardware] [--lib DIR] PACKAGE...");
  process.exit(2);
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const rows = [];
for (const folder of positionals) {
  const { backbone, scheme, input_size: size } = manifestOf(folder);
  const server = await serve({ "/lib": values.lib, "/page.js": join(www, "bench/page.js"), "/package": folder });
  const browser = await chromium.launch(browserOf(GPU[values.hardware ? "hardware" : "software"]));
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(0);
    page.on("console", (message) => console.error(message.text()));
    await page.goto(server.url);
    const found = await page.evaluate(async (size) => (await import("/page.js")).memory({ size }), size);
    rows.push({ backbone, scheme, size, ...found });
  } finally {
    await browser.close();
    server.close();
  }
}
console.log(
  "| model | input | after loading | peak | largest binding | pipelines | first image |\n|---|---|---|---|---|---|---|",
);
for (const { backbone, scheme, size, loaded, peak, binding, pipelines, milliseconds } of rows) {
  const mebibytes = `${(binding / 2 ** 20).toFixed(1)} MiB`;
  console.log(
    `| ${backbone} ${scheme} | ${size} px | ${megabytes(loaded)} | ${megabytes(peak)} | ${mebibytes} | ${pipelines} | ${Math.round(milliseconds)} ms |`,
  );
}
console.log(JSON.stringify(rows));
if (rows.some(({ binding }) => binding > 2 ** 27)) {
  console.error("a kernel was given more than 128 MiB");
  process.exitCode = 1;
}
