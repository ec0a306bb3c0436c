// What is in the tarball, and what tools and compilers say of it; and that the README shows the examples as they are.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import * as esbuild from "esbuild";
import { execute, pack } from "./consumers.mjs";
import { scratch, www } from "./support.mjs";

const tools = join(www, "node_modules/.bin");
let tarball, project, inside;

before(async (t) => {
  // An empty project with the package in it, and nothing else: no bundler, no types of others.
  project = scratch();
  tarball = await pack(join(project, "tarball"));
  inside = join(project, "node_modules/samlora");
  mkdirSync(inside, { recursive: true });
  await execute(project, "tar", "-xzf", tarball, "--strip-components=1", "-C", inside);
  writeFileSync(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }));
});

const json = (file) => JSON.parse(readFileSync(join(inside, file), "utf8"));

test("publint and attw find nothing", async () => {
  await execute(www, join(tools, "publint"), "run", tarball, "--strict");
  await execute(
    www,
    join(tools, "attw"),
    tarball,
    "--profile",
    "esm-only",
    "--exclude-entrypoints",
    "./worker.js",
    "--no-definitely-typed",
  );
});

test("every export is there, and nothing that only the build needs", () => {
  const { exports, dependencies, peerDependenciesMeta } = json("package.json");
  assert.equal(dependencies, undefined);
  for (const peer of ["maplibre-gl", "pmtiles", "geotiff", "proj4", "@journeyapps/wa-sqlite"])
    assert.equal(peerDependenciesMeta[peer].optional, true, peer);
  const targets = Object.values(exports).flatMap((target) =>
    typeof target === "string" ? [target] : Object.values(target),
  );
  for (const target of targets.filter((target) => !target.includes("*")))
    assert.ok(existsSync(join(inside, target)), target);
  for (const file of ["LICENSE-MIT", "LICENSE-APACHE", "README.md"]) {
    const from = file === "README.md" ? www : join(www, "..");
    assert.equal(readFileSync(join(inside, file), "utf8"), readFileSync(join(from, file), "utf8"), file);
  }
  const files = readdirSync(inside, { recursive: true }).map(String);
  assert.deepEqual(
    files.filter((file) => /\.(mjs|ts)$/.test(file) && !file.endsWith(".d.ts")),
    [],
  );
});

test("source maps have their sources", () => {
  const lib = join(inside, "dist/lib");
  const maps = readdirSync(lib).filter((file) => file.endsWith(".js.map"));
  assert.ok(maps.length >= 3, String(maps));
  for (const file of maps) {
    const { sources, sourcesContent } = JSON.parse(readFileSync(join(lib, file), "utf8"));
    assert.equal(sourcesContent.length, sources.length, file);
    assert.ok(
      sourcesContent.every((text) => typeof text === "string" && text !== ""),
      file,
    );
    assert.ok(
      sources.every((source) => !source.startsWith("/")),
      `${file}: ${sources}`,
    );
  }
});

test("provenance names what the wasm was made with, and its hashes are right", () => {
  const { version, wasm } = json("dist/lib/wasm/provenance.json");
  assert.equal(version, json("package.json").version);
  for (const [device, feature] of [
    ["gpu", "gpu"],
    ["cpu", "cpu"],
    ["cpu-relaxed", "relaxed-simd"],
  ]) {
    const { rustc, wasmBindgen, cargoLockSha256, profile, features, files } = wasm[device];
    assert.match(rustc, /^rustc \d/);
    assert.match(wasmBindgen, /^\d/);
    assert.match(cargoLockSha256, /^[0-9a-f]{64}$/);
    assert.equal(profile, "wasm");
    assert.deepEqual(features, [feature]);
    assert.deepEqual(Object.keys(files).sort(), ["samlora.js", "samlora_bg.wasm"]);
    for (const [file, { bytes, sha256 }] of Object.entries(files)) {
      const content = readFileSync(join(inside, "dist/lib/wasm", device, file));
      assert.equal(content.length, bytes);
      assert.equal(createHash("sha256").update(content).digest("hex"), sha256);
    }
  }
});

test("the notices name every crate in the wasm, each with a text", () => {
  const notices = readFileSync(join(inside, "dist/lib/THIRD_PARTY_NOTICES.md"), "utf8");
  const texts = new Set([...notices.matchAll(/^## Text (\d+)$/gm)].map(([, number]) => number));
  const entries = notices.split("# Licence texts")[0].split("\n### ").slice(1);
  assert.ok(entries.length > 100, `${entries.length} entries`);
  for (const entry of entries) {
    const numbers = /(?:texts|text is) ([\d, ]+)$/m.exec(entry)?.[1].split(", ") ?? [];
    assert.ok(numbers.length > 0 && numbers.every((number) => texts.has(number)), entry);
  }
  for (const crate of ["burn-wgpu", "burn-flex", "wasm-bindgen", "safetensors", "Rust standard library"]) {
    assert.ok(
      entries.some((entry) => entry.startsWith(`${crate} `)),
      crate,
    );
  }
  for (const tool of ["syn", "clap"])
    assert.ok(!entries.some((entry) => entry.startsWith(`${tool} `)), `${tool} is in no wasm`);
});

test("the public types import nothing", () => {
  const types = readFileSync(join(www, "src/types.ts"), "utf8");
  assert.doesNotMatch(types, /^\s*(import|export)\b.*\bfrom\b|\bimport\(/m);
});

/** A consumer's code that touches every sort of public type. */
const CODE = `
import { doctor, isAbort, NO_DATA, SamloraError, Segmenter, storage } from "samlora";
import { pmtiles, wms, xyz } from "samlora/sources";
import type { AreaBlock, AreaEstimate, AreaJob, AreaSource, ErrorCode, LoadedModel, LoadOptions, Segmentation, SegmenterEvent, StoredPackage } from "samlora";

export async function use(image: Blob, signal: AbortSignal): Promise<Segmentation> {
  const events: SegmenterEvent["type"][] = [];
  const options: LoadOptions = { device: "auto", signal, workers: 2, onEvent: ({ type }) => events.push(type) };
  const base: Segmenter = await Segmenter.load(new URL("https://example.org/base/"), options);
  const segmenter = await Segmenter.load("/models/buildings/", { base, onProgress: ({ loadedBytes }) => void loadedBytes });
  const result = await segmenter.segment(image, { thresholds: { building: 0.6 }, minPixels: 20 });
  const mask: Uint8Array = result.classMask;
  const part: Segmentation = await result.refine({ part: { left: 0, top: 0, width: 8, height: 8 }, minPixels: 2 });
  const model: LoadedModel = segmenter;
  console.log(part.classMask.includes(NO_DATA), model.info.name);
  const kept: StoredPackage[] = await storage.list();
  const report: string = String(await doctor(segmenter));
  const [feature] = (await result.toGeoJSON({ tile: { z: 1, x: 0, y: 0 } })).features;
  console.log(mask.length, kept.length, report, feature?.geometry.type);
  return result;
}
export async function district(segmenter: Segmenter, file: File, signal: AbortSignal): Promise<number> {
  const own: AreaSource = xyz("https://example.org/{z}/{x}/{y}.png", { maxzoom: 20, attribution: "somebody" });
  const estimate: AreaEstimate = await segmenter.estimateArea({ source: own, area: [10, 50, 10.1, 50.1] });
  const outline = { type: "Polygon" as const, coordinates: [[[10, 50], [10.1, 50], [10, 50.1], [10, 50]]] };
  const job: AreaJob = segmenter.segmentArea({ source: pmtiles(file), area: outline, signal, resume: "a", view: () => undefined });
  for await (const block of job) {
    const found: AreaBlock = block;
    console.log(found.x, found.georeference.origin, (await segmenter.refine(block)).stats(), estimate.windows);
  }
  job.pause();
  const wider = wms("https://example.org/wms", { layers: ["a"], crs: "EPSG:4326", version: "1.1.1" });
  const { features } = await (await segmenter.segmentArea({ source: wider, resolution: "native" }).result()).toGeoJSON();
  return features.length + ((await job.stats())[0]?.hectares ?? 0);
}
// @ts-expect-error: masks of a service that has no tiles would be empty.
export const endless = xyz("https://example.org/{z}/{x}/{y}.png", {});
export const code = (error: unknown): ErrorCode | undefined =>
  isAbort(error) ? undefined : error instanceof SamloraError ? error.code : undefined;
// @ts-expect-error: a wrong device is a wrong type.
export const wrong: LoadOptions = { device: "tpu" };
`;
const WITH_GPU = `
export const own = (device: GPUDevice) => Segmenter.load("/models/buildings/", { device });
`;

for (const [module, moduleResolution] of [
  ["ESNext", "bundler"],
  ["Node16", "node16"],
  ["NodeNext", "nodenext"],
]) {
  test(`types check strictly with moduleResolution ${moduleResolution}`, async () => {
    const check = async (name, text, types) => {
      writeFileSync(join(project, `${name}.ts`), text);
      const compilerOptions = {
        target: "ES2022",
        module,
        moduleResolution,
        lib: ["ES2022", "DOM", "DOM.Iterable"],
        types,
        strict: true,
        skipLibCheck: false,
        exactOptionalPropertyTypes: true,
        noEmit: true,
      };
      writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: [`${name}.ts`] }));
      await execute(project, join(tools, "tsc"), "-p", ".");
    };
    await check("plain", CODE, []);
    const types = join(project, "node_modules/@webgpu");
    if (!existsSync(types)) symlinkSync(join(www, "node_modules/@webgpu"), types);
    await check("gpu", CODE + WITH_GPU, ["@webgpu/types"]);
  });
}

test("on a server the import does nothing, and loading says why it does not work", async () => {
  writeFileSync(
    join(project, "server.js"),
    `import { Segmenter } from "samlora";
     import "samlora/maplibre";
     import "samlora/sources";
     const error = await Segmenter.load("https://example.org/model/").catch((error) => error);
     console.log(error.name, error.code, error.remedy);`,
  );
  const said = await execute(project, "node", "server.js");
  assert.match(said, /^SamloraError unsupported .*browser/);
});

test("a bundler needs none of the sources' libraries, and finds none of them from the core", async () => {
  const build = (code) =>
    esbuild.build({
      stdin: { contents: code, resolveDir: project },
      bundle: true,
      format: "esm",
      write: false,
      outdir: "out",
      splitting: true,
      logLevel: "silent",
    });
  const core = await build(`import { Segmenter } from "samlora"; console.log(Segmenter);`);
  assert.deepEqual(
    core.warnings.filter(({ text }) => text.includes("Could not resolve")),
    [],
  );
  const sources = await build(`import { xyz } from "samlora/sources"; console.log(xyz);`);
  // Named, and no errors: a page that reads tiles alone installs nothing.
  assert.ok(
    sources.warnings.every(({ text }) => /Could not resolve "(pmtiles|geotiff|proj4|@journeyapps.*)"/.test(text)),
  );
});

test("the README shows the examples as they are", () => {
  const readme = readFileSync(join(www, "README.md"), "utf8");
  const shown = [...readme.matchAll(/<!-- (examples\/\S+) -->\n```\w+\n([^]*?)\n```/g)];
  for (const [, file, text] of shown) assert.equal(text, readFileSync(join(www, file), "utf8").trimEnd(), file);
  const folders = new Set(shown.map(([, file]) => file.split("/")[1]));
  for (const folder of ["html", "vite", "next", "no-worker", "area"])
    assert.ok(folders.has(folder), `the README shows nothing of ${folder}`);
  // webpack's is described by its difference.
  const script = (file) => readFileSync(join(www, "examples", file), "utf8");
  const plain = script("html/main.js")
    .replace(/^\/\/.*\n/, "")
    .replace('"./samlora/index.js"', '"samlora"');
  assert.equal(script("webpack/src/main.js"), plain);
});
