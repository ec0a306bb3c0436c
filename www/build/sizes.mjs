// What a page downloads, against its budget: a table, and dist/sizes.json.
//
//   node build/sizes.mjs      prints the table of what was built last

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { dist } from "./common.mjs";

// Bytes, gzip: the aim (onnxruntime-web has 6.6 MB and 3.7 MB), and the most that a build may have without failing.
const PARTS = [
  {
    name: "gpu: wasm and glue",
    files: ["wasm/gpu/samlora_bg.wasm", "wasm/gpu/samlora.js"],
    budget: 1.0e6,
    most: 1.0e6,
  },
  {
    name: "cpu: wasm and glue",
    files: ["wasm/cpu/samlora_bg.wasm", "wasm/cpu/samlora.js"],
    budget: 1.0e6,
    most: 1.0e6,
  },
  {
    name: "cpu, relaxed SIMD",
    files: ["wasm/cpu-relaxed/samlora_bg.wasm", "wasm/cpu-relaxed/samlora.js"],
    budget: 1.0e6,
    most: 1.0e6,
  },
  // index.js with its parts, worker.js (which has both builds' glue in it) and the map adapter.
  { name: "scripts", files: /^[^/]+\.js$/, budget: 60e3, most: 60e3 },
];

/** Measures dist/lib; the wasm of a quick build is not optimised and has no budget. */
export function measure({ quick }) {
  const lib = join(dist, "lib");
  const sizes = PARTS.map(({ name, files, budget, most }) => {
    const contents = (Array.isArray(files) ? files : readdirSync(lib).filter((file) => files.test(file))).map((file) =>
      readFileSync(join(lib, file)),
    );
    const bytes = contents.reduce((sum, part) => sum + part.length, 0);
    const gzipBytes = contents.reduce((sum, part) => sum + gzipSync(part, { level: 9 }).length, 0);
    return { name, bytes, gzipBytes, budget, most, optimised: !quick || name === "scripts" };
  });
  writeFileSync(join(dist, "sizes.json"), `${JSON.stringify(sizes, null, 2)}\n`);
  return sizes;
}

/** Prints the table, and fails the process where a part has grown beyond its ceiling. */
export function report(sizes) {
  const kilobytes = (bytes) => `${(bytes / 1000).toFixed(0).padStart(6)} kB`;
  console.log(`${"".padEnd(22)}      raw       gzip`);
  for (const { name, bytes, gzipBytes, budget, most, optimised } of sizes) {
    const verdict = !optimised ? "not optimised" : gzipBytes <= budget ? "within" : "over";
    const note = `${verdict} (budget ${kilobytes(budget).trim()} gzip)`;
    console.log(`${name.padEnd(22)}${kilobytes(bytes)}  ${kilobytes(gzipBytes)}  ${note}`);
    if (optimised && gzipBytes > most) {
      console.error(`${name} has grown beyond ${kilobytes(most).trim()} gzip`);
      process.exitCode = 1;
    }
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  report(JSON.parse(readFileSync(join(dist, "sizes.json"), "utf8")));
}
