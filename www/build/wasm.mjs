// The crate to wasm/{gpu,cpu,cpu-relaxed}: cargo, wasm-bindgen, for the GPU `prune`, wasm-opt, and a record of what made it (build.json
// beside it).

import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as esbuild from "esbuild";
import { ask, DEVICES, features, filesBelow, root, run, sha256, TARGET, www } from "./common.mjs";
import { revision } from "./provenance.mjs";
import { prune } from "./prune.mjs";

const PROFILE = "wasm";

// What rustc's wasm32 target and +simd128 let LLVM emit; every browser with WebGPU or wasm SIMD has them.
const WASM_OPT = [
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

/** Cargo's settings beside the profile: the CPU build's loops are worth more than their size. */
const settings = (device) => (device !== "gpu" ? ["--config", `profile.${PROFILE}.package.samlora.opt-level=3`] : []);

/** rustc's own, beside cargo's: functions are pruned by their names, which the profile would leave out. */
const rustc = (device) => (device === "gpu" ? ["--", "-C", "strip=debuginfo"] : []);

/** wasm-opt's arguments: of the GPU build the size counts, since the GPU computes; the CPU build computes. */
const optimisation = (device) => [
  device === "gpu" ? "-Oz" : "-O3",
  ...WASM_OPT,
  ...(device === "cpu-relaxed" ? ["--enable-relaxed-simd"] : []),
];

/** The glue says where its module is, so that who loads it sees what comes of it. Bundlers look for exactly these words. */
const ADDRESS = 'export const address=()=>new URL("samlora_bg.wasm",import.meta.url);';

const wasmOpt = join(www, "node_modules/binaryen/bin/wasm-opt");

const pruning = readFileSync(join(www, "build/prune.mjs"), "utf8");

/** Builds the wasm modules; `quick` leaves wasm-opt out. */
export async function buildWasm({ quick }) {
  const target = await targetDirectory();
  const finishing = [];
  for (const device of DEVICES) {
    // Cargo names both artefacts alike, so that to it each build makes the other stale.
    const sources = sha256(
      ...sourceFiles().map((file) => readFileSync(file)),
      JSON.stringify([optimisation(device), settings(device), rustc(device), quick, ADDRESS, pruning]),
    );
    if (recordOf(device).sources === sources) {
      console.log(`wasm for ${device}: is up to date`);
      continue;
    }
    console.log(`wasm for ${device}`);
    // As a cdylib alone: beside an rlib, cargo leaves link-time optimisation out.
    await run("cargo", [
      "rustc",
      "--lib",
      "--crate-type=cdylib",
      `--profile=${PROFILE}`,
      `--target=${TARGET}`,
      "--locked",
      ...features(device),
      ...settings(device),
      ...rustc(device),
    ]);
    const artefact = readFileSync(join(target, TARGET, PROFILE, "samlora.wasm"));
    finishing.push(finishWasm(device, artefact, await findBindgen(target), { quick, sources }));
  }
  await Promise.all(finishing);
}

/** All that wasm is made of; training and the command are not in it. */
function sourceFiles() {
  const inSource = filesBelow(join(root, "src")).filter((file) => !/[\\/]src[\\/](bin|train)[\\/]/.test(file));
  const beside = ["Cargo.toml", "Cargo.lock", "build.rs", ".cargo/config.toml"].map((file) => join(root, file));
  return [...beside, ...inSource];
}

/** What made the wasm that is there. */
function recordOf(device) {
  const record = join(www, "wasm", device, "build.json");
  return existsSync(record) ? JSON.parse(readFileSync(record, "utf8")) : {};
}

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
    const found = await ask(program, "--version").catch(() => "");
    if (found === `wasm-bindgen ${version}`) return { program, version };
  }
  console.log(`installing wasm-bindgen-cli ${version} into ${join(target, "tools")} (some minutes, once)`);
  const install = [
    "install",
    "wasm-bindgen-cli",
    "--bin",
    "wasm-bindgen",
    "--version",
    version,
    "--root",
    join(target, "tools"),
  ];
  // A mirror of the registry may lack a version that the program's own lock file names.
  await run("cargo", [...install, "--locked"]).catch(() => run("cargo", install));
  return { program: join(target, "tools/bin/wasm-bindgen"), version };
}

/** wasm-bindgen, wasm-opt and a minified glue script, unless they were made from this very artefact. */
async function finishWasm(device, artefact, bindgen, { quick, sources }) {
  const folder = join(www, "wasm", device);
  const made = sha256(artefact, JSON.stringify([bindgen.version, quick || optimisation(device), ADDRESS, pruning]));
  if (recordOf(device).made !== made) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const raw = join(folder, "samlora.wasm");
    writeFileSync(raw, artefact);
    await run(bindgen.program, [
      "--target=web",
      "--out-name=samlora",
      `--out-dir=${folder}`,
      "--remove-producers-section",
      raw,
    ]);
    rmSync(raw);
    const wasm = join(folder, "samlora_bg.wasm");
    if (device === "gpu") writeFileSync(wasm, prune(readFileSync(wasm)));
    if (!quick) await run(process.execPath, [wasmOpt, ...optimisation(device), wasm, "-o", wasm]);
    const glue = join(folder, "samlora.js");
    const { code } = await esbuild.transform(readFileSync(glue, "utf8"), {
      minify: true,
      format: "esm",
      target: "es2022",
    });
    writeFileSync(glue, code + ADDRESS);
    appendFileSync(join(folder, "samlora.d.ts"), "export function address(): URL;\n");
  }
  const description = await describeBuild(device, bindgen.version, quick);
  writeFileSync(join(folder, "build.json"), JSON.stringify({ made, sources, ...description }, null, 2));
}

async function describeBuild(device, bindgenVersion, quick) {
  return {
    ...(await revision()),
    cargoLockSha256: sha256(readFileSync(join(root, "Cargo.lock"))),
    target: TARGET,
    profile: PROFILE,
    features: [features(device)[1].replace("--features=", "")],
    rustc: await ask("rustc", "--version"),
    wasmBindgen: bindgenVersion,
    wasmOpt: quick ? null : await ask(process.execPath, wasmOpt, "--version"),
    wasmOptArguments: quick ? null : optimisation(device),
  };
}
