// A whole archive through `segmentArea` in a browser: node www/bench/area.mjs PACKAGE ARCHIVE.pmtiles [--workers N]
//
// Prints pixels, windows and time on the CPU device, the share of the time in which no window is computed, and the most memory that the
// page's process takes (resident, with the archive in it and all workers).

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import * as esbuild from "esbuild";
import { chromium } from "playwright-core";
import { dist, www } from "../build/common.mjs";
import { browserOf } from "./browser.mjs";
import { serve } from "./server.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { workers: { type: "string", default: "1" } },
});
const [folder, archive] = positionals;
if (!archive) {
  console.error("Usage: node www/bench/area.mjs PACKAGE ARCHIVE.pmtiles [--workers N]");
  process.exit(2);
}

const made = mkdtempSync(join(tmpdir(), "samlora-area-"));
await esbuild.build({
  stdin: { contents: 'export * from "pmtiles";', resolveDir: www },
  bundle: true,
  format: "esm",
  outfile: join(made, "pmtiles.js"),
});
const server = await serve({ "/lib": join(dist, "lib"), "/package": folder, "/archive": archive, "/peers": made });
const browser = await chromium.launch(browserOf());

/** Kilobytes of the largest renderer among the processes that this browser started. */
function largest() {
  const rows = execFileSync("ps", ["-eo", "pid,ppid,rss,args"])
    .toString()
    .split("\n")
    .map((line) => line.trim().split(/\s+/));
  const ours = new Set([String(process.pid)]);
  for (let before = 0; before !== ours.size; ) {
    before = ours.size;
    for (const [pid, parent] of rows) if (ours.has(parent)) ours.add(pid);
  }
  return Math.max(
    0,
    ...rows.filter((row) => ours.has(row[0]) && row.includes("--type=renderer")).map((row) => Number(row[2])),
  );
}

let peak = 0;
const timer = setInterval(() => (peak = Math.max(peak, largest())), 500);
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(0);
  await page.goto(server.url);
  const found = await page.evaluate(async (workers) => {
    const { Segmenter } = await import("/lib/index.js");
    const { pmtiles } = await import("/lib/sources.js");
    const library = await import("/peers/pmtiles.js");
    const model = await Segmenter.load("/package/", { device: "cpu", workers, store: false });
    const source = await pmtiles(await (await fetch("/archive")).blob(), { library });
    // Time in which at least one window is in the network.
    let [running, since, busy] = [0, 0, 0];
    const { logits } = Segmenter.prototype;
    model.logits = async (...given) => {
      if (running++ === 0) since = performance.now();
      try {
        return await logits.apply(model, given);
      } finally {
        if (--running === 0) busy += performance.now() - since;
      }
    };
    const start = performance.now();
    let progress;
    const job = model.segmentArea({ source, onProgress: (now) => (progress = now) });
    for await (const _ of job);
    const time = performance.now() - start;
    const stats = await job.stats();
    const { name, scheme } = model.info;
    return { name, scheme, time, busy, progress, stats, workers, estimate: await model.estimateArea({ source }) };
  }, Number(values.workers));
  const { name, scheme, time, busy, progress, stats, workers, estimate } = found;
  const pixels = stats.reduce((sum, { pixels }) => sum + pixels, 0);
  const hectares = stats.reduce((sum, { hectares }) => sum + hectares, 0);
  console.log("| model | area | pixels with data | windows | time | outside the network | peak memory |");
  console.log("|---|---|---|---|---|---|---|");
  console.log(
    `| ${name} ${scheme}, ${workers} worker${workers > 1 ? "s" : ""} | ${estimate.width} x ${estimate.height} px, ${hectares.toFixed(1)} ha with data | ${(pixels / 1e6).toFixed(1)} M | ${progress.windows} | ${(time / 1000).toFixed(0)} s | ${(100 * (1 - busy / time)).toFixed(1)} % | ${(peak / 1024).toFixed(0)} MiB |`,
  );
  console.log(JSON.stringify({ ...found, peak }));
} finally {
  clearInterval(timer);
  await browser.close();
  server.close();
  rmSync(made, { recursive: true, force: true });
}
