// Builds the browser package and the page into dist/:
//
//   dist/lib/      the npm package: index.js, maplibre.js, worker.js, types, wasm/{gpu,cpu}/, notices
//   dist/          index.html and demo/, which use dist/lib as any page would
//
// Each step is a module of build/, skipped where its result is up to date.
//
//   node build.mjs [--quick] [--no-wasm]
//
// --quick leaves out wasm-opt (minutes) and the wasm's size budget; --no-wasm takes the wasm that is there.

import { writeNotices } from "./build/notices.mjs";
import { buildPage } from "./build/page.mjs";
import { writeProvenance } from "./build/provenance.mjs";
import { buildLibrary } from "./build/scripts.mjs";
import { measure, report } from "./build/sizes.mjs";
import { buildWasm } from "./build/wasm.mjs";

const quick = process.argv.includes("--quick");

if (!process.argv.includes("--no-wasm")) await buildWasm({ quick });
const bundledPackages = await buildLibrary();
await writeNotices(bundledPackages);
await writeProvenance();
await buildPage();
report(measure({ quick }));
