// Builds the browser package and the page into dist/:
//
//   dist/lib/      the npm package: index.js, worker.js, types, wasm/{gpu,cpu}/
//   dist/          index.html and demo/, which use dist/lib as any page would
//
// Each step is skipped where its result is up to date.
//
//   node build.mjs [--quick] [--no-wasm]
//
// --quick leaves out wasm-opt (minutes) and the size budget; --no-wasm takes the wasm that is there.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

const www = fileURLToPath(new URL(".", import.meta.url));
const root = join(www, "..");
const dist = join(www, "dist");
const quick = process.argv.includes("--quick");

// Wasm and glue together, gzip, in bytes: the aim (onnxruntime-web has 6.6 MB and 3.7 MB), and the most that a build may
// have without failing. The GPU build misses its aim: burn's shader compiler and matrix-product expanders are 80 % of it.
const BUILDS = [
  { device: "gpu", budget: 1.5e6, most: 2.45e6 },
  { device: "cpu", budget: 1.0e6, most: 1.0e6 },
];

// What rustc's wasm32 target and +simd128 let LLVM emit; every browser with WebGPU or wasm SIMD has them.
const WASM_OPT = [
  "-Oz",
  "--enable-simd",
  "--enable-bulk-memory",
  "--enable-bulk-memory-opt",
  "--enable-nontrapping-float-to-int",
  "--enable-sign-ext",
  "--enable-mutable-globals",
  "--enable-reference-types",
  "--enable-multivalue",
  "--enable-call-indirect-overlong",
];

/** Runs a program to its end; its standard output, or an error that names it. */
function run(command, args, { capture = false } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", capture ? "pipe" : "inherit", "inherit"] });
    let output = "";
    child.stdout?.on("data", (chunk) => (output += chunk));
    child.on("error", (error) => reject(new Error(`${command} could not be started: ${error.message}`)));
    child.on("close", (code) => (code === 0 ? resolve(output) : reject(new Error(`${command} ended with code ${code}`))));
  });
}

const kilobytes = (bytes) => `${(bytes / 1000).toFixed(0).padStart(6)} kB`;

async function targetDirectory() {
  const metadata = await run("cargo", ["metadata", "--format-version=1", "--no-deps", "--locked"], { capture: true });
  return JSON.parse(metadata).target_directory;
}

/** wasm-bindgen's program must be of exactly the version that the crate was built against. */
async function findBindgen(target) {
  const lock = readFileSync(join(root, "Cargo.lock"), "utf8");
  const version = /name = "wasm-bindgen"\nversion = "([^"]+)"/.exec(lock)?.[1];
  if (!version) throw new Error("Cargo.lock names no wasm-bindgen");
  for (const program of [join(target, "tools/bin/wasm-bindgen"), "wasm-bindgen"]) {
    const found = await run(program, ["--version"], { capture: true }).catch(() => "");
    if (found.trim() === `wasm-bindgen ${version}`) return { program, version };
  }
  console.log(`installing wasm-bindgen-cli ${version} into ${join(target, "tools")} (some minutes, once)`);
  const install = ["install", "wasm-bindgen-cli", "--bin", "wasm-bindgen", "--version", version, "--root", join(target, "tools")];
  // A mirror of the registry may lack a version that the program's own lock file names.
  await run("cargo", [...install, "--locked"]).catch(() => run("cargo", install));
  return { program: join(target, "tools/bin/wasm-bindgen"), version };
}

async function buildWasm() {
  const target = await targetDirectory();
  const finishing = [];
  for (const { device } of BUILDS) {
    console.log(`wasm for ${device}`);
    // As a cdylib alone: beside an rlib, cargo leaves link-time optimisation out.
    await run("cargo", [
      "rustc", "--lib", "--crate-type=cdylib", "--profile=wasm", "--target=wasm32-unknown-unknown", "--locked",
      "--no-default-features", `--features=${device}`,
    ]);
    const artefact = readFileSync(join(target, "wasm32-unknown-unknown/wasm/samlora.wasm"));
    const bindgen = await findBindgen(target);
    finishing.push(finishWasm(device, artefact, bindgen));
  }
  await Promise.all(finishing);
}

/** wasm-bindgen, wasm-opt and a minified glue script, unless they were made from this very artefact. */
async function finishWasm(device, artefact, bindgen) {
  const folder = join(www, "wasm", device);
  const stamp = join(folder, ".stamp");
  const made = createHash("sha256").update(artefact).update(JSON.stringify([bindgen.version, quick || WASM_OPT])).digest("hex");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === made) return;

  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const raw = join(folder, "samlora.wasm");
  writeFileSync(raw, artefact);
  await run(bindgen.program, ["--target=web", "--out-name=samlora", `--out-dir=${folder}`, "--remove-producers-section", raw]);
  rmSync(raw);
  const wasm = join(folder, "samlora_bg.wasm");
  if (!quick) await run(process.execPath, [join(www, "node_modules/binaryen/bin/wasm-opt"), ...WASM_OPT, wasm, "-o", wasm]);
  const glue = join(folder, "samlora.js");
  const { code } = await esbuild.transform(readFileSync(glue, "utf8"), { minify: true, format: "esm", target: "es2022" });
  writeFileSync(glue, code);
  writeFileSync(stamp, made);
}

/** Imports of the wasm glue, and of the package from the page, stay imports: only their paths change. */
function external(filter, path) {
  return {
    name: "external",
    setup: (build) => build.onResolve({ filter }, (args) => ({ path: path(args.path), external: true })),
  };
}

async function buildScripts() {
  const common = { bundle: true, format: "esm", target: "es2022", minify: true, sourcemap: true, logLevel: "warning" };
  rmSync(join(dist, "lib"), { recursive: true, force: true });
  await esbuild.build({
    ...common,
    entryPoints: [join(www, "src/index.ts"), join(www, "src/worker.ts")],
    outdir: join(dist, "lib"),
    splitting: true,
    chunkNames: "[name]-[hash]",
    plugins: [external(/^\.\.\/wasm\//, (path) => path.slice(1))],
  });
  await run(process.execPath, [
    join(www, "node_modules/typescript/bin/tsc"), "-p", join(www, "tsconfig.build.json"),
  ]);
  await esbuild.build({
    ...common,
    entryPoints: [join(www, "demo/main.ts"), join(www, "demo/style.css")],
    outdir: join(dist, "demo"),
    plugins: [external(/^samlora$/, () => "../lib/index.js")],
  });
  cpSync(join(www, "index.html"), join(dist, "index.html"));
}

function copyWasm() {
  for (const { device } of BUILDS) {
    for (const file of ["samlora.js", "samlora_bg.wasm"]) {
      const from = join(www, "wasm", device, file);
      if (!existsSync(from)) throw new Error(`${from} is missing: run this without --no-wasm`);
      cpSync(from, join(dist, "lib/wasm", device, file));
    }
  }
}

function printSizes() {
  const row = (name, sizes, note = "") =>
    console.log(`${name.padEnd(22)}${kilobytes(sizes.raw)}  ${kilobytes(sizes.gzip)}  ${note}`);
  const size = (...files) => {
    const contents = files.map((file) => readFileSync(join(dist, "lib", file)));
    return {
      raw: contents.reduce((sum, bytes) => sum + bytes.length, 0),
      gzip: contents.reduce((sum, bytes) => sum + gzipSync(bytes, { level: 9 }).length, 0),
    };
  };
  console.log(`${"".padEnd(22)}      raw       gzip`);
  for (const { device, budget, most } of BUILDS) {
    const sizes = size(`wasm/${device}/samlora_bg.wasm`, `wasm/${device}/samlora.js`);
    const verdict = quick ? "not optimised" : sizes.gzip <= budget ? "within" : "over";
    row(`${device}: wasm and glue`, sizes, `${verdict} (budget ${kilobytes(budget).trim()} gzip)`);
    if (!quick && sizes.gzip > most) {
      console.error(`the ${device} build has grown beyond ${kilobytes(most).trim()} gzip`);
      process.exitCode = 1;
    }
  }
  row("scripts", size(...readdirSync(join(dist, "lib")).filter((file) => file.endsWith(".js"))));
}

if (!process.argv.includes("--no-wasm")) await buildWasm();
await buildScripts();
copyWasm();
printSizes();
