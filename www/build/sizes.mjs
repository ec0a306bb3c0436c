// What a page downloads, against its budget: a table, and dist/sizes.json.
//
//   node build/sizes.mjs      prints the table of what was built last

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { dist } from "./common.mjs";

const CORE = ["index.js", "maplibre.js", "worker.js"];

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
  // index.js with its parts, the map adapter, and worker.js (which has both builds' glue in it).
  { name: "scripts", files: (lib) => scriptsOf(lib, CORE), budget: 60e3, most: 60e3 },
  // Fetched when an area is first segmented; without the libraries that a page installs for its sources.
  {
    name: "areas and sources",
    files: (lib) => {
      const core = scriptsOf(lib, CORE);
      return readdirSync(lib).filter((file) => file.endsWith(".js") && !core.includes(file));
    },
    budget: 24e3,
    most: 24e3,
  },
];

/** The scripts that `entries` cannot do without: what they import at once, and what that imports. */
function scriptsOf(lib, entries) {
  const found = new Set();
  const add = (file) => {
    if (found.has(file)) return;
    found.add(file);
    for (const [, part] of readFileSync(join(lib, file), "utf8").matchAll(/(?:from|import)"\.\/([\w-]+\.js)"/g))
      add(part);
  };
  entries.forEach(add);
  return [...found];
}

/** Measures dist/lib; the wasm of a quick build is not optimised and has no budget. */
export function measure({ quick }) {
  const lib = join(dist, "lib");
  const sizes = PARTS.map(({ name, files, budget, most }) => {
    const contents = (Array.isArray(files) ? files : files(lib)).map((file) => readFileSync(join(lib, file)));
    const bytes = contents.reduce((sum, part) => sum + part.length, 0);
    const gzipBytes = contents.reduce((sum, part) => sum + gzipSync(part, { level: 9 }).length, 0);
    return { name, bytes, gzipBytes, budget, most, optimised: !quick || !/cpu|gpu/.test(name) };
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
