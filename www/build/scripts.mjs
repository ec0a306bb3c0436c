// dist/lib: the package's scripts with source maps, its declarations, and the wasm beside them.

import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import * as esbuild from "esbuild";
import { DEVICES, dist, root, run, www } from "./common.mjs";

/** Settings of every script. */
export const COMMON = {
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  sourcemap: true,
  metafile: true,
  logLevel: "warning",
};

const lib = join(dist, "lib");

// The package's entries beside the worker, with their names in the `exports` of package.json.
const ENTRIES = ["index", "maplibre", "sources"];

/** What a page installs itself, if it uses what needs it. */
const PEERS = ["maplibre-gl", "pmtiles", "geotiff", "proj4", "@journeyapps/wa-sqlite"];

/** Bundles the scripts; the npm packages that ended up in them, for their notices. */
export async function buildLibrary() {
  rmSync(lib, { recursive: true, force: true });
  const page = await esbuild.build({
    ...COMMON,
    entryPoints: ENTRIES.map((entry) => join(www, `src/${entry}.ts`)),
    outdir: lib,
    splitting: true, // One `Segmenter` and one `SamloraError`, whichever entry they are imported from.
    chunkNames: "[name]-[hash]",
    external: PEERS,
    plugins: [glueAsImport],
  });
  const worker = await esbuild.build({
    ...COMMON,
    entryPoints: [join(www, "src/worker.ts")],
    outdir: lib,
    plugins: [glueInside],
  });
  await buildDeclarations();
  copyWasm();
  for (const licence of ["LICENSE-MIT", "LICENSE-APACHE"]) cpSync(join(root, licence), join(www, licence));
  return bundledPackages(page.metafile, worker.metafile);
}

/** On the calling thread, the glue stays a file of its own, imported when the first model is loaded. */
const glueAsImport = {
  name: "glue as import",
  setup(build) {
    build.onResolve({ filter: /^\.\.\/wasm\// }, ({ path }) => ({ path: path.slice(1), external: true }));
  },
};

/**
 * The worker is one file with the glue in it: a bundler that makes a classic script of a worker (Vite up to 7) cannot cut
 * it into parts, and nothing but the .wasm is left to be found.
 */
const glueInside = {
  name: "glue inside",
  setup(build) {
    build.onResolve({ filter: /^\.\.\/wasm\// }, ({ path }) => ({ path: join(www, path.slice(3)) }));
    build.onLoad({ filter: /[\\/]wasm[\\/](gpu|cpu|cpu-relaxed)[\\/]samlora\.js$/ }, ({ path }) => {
      const parts = readFileSync(path, "utf8").split('new URL("samlora_bg.wasm",import.meta.url)');
      // In wasm-bindgen's own words, and in those that build/wasm.mjs adds.
      if (parts.length !== 3) throw new Error(`${path} does not look for its .wasm as wasm-bindgen used to`);
      const device = basename(dirname(path));
      return { contents: parts.join(`new URL("./wasm/${device}/samlora_bg.wasm",import.meta.url)`), loader: "js" };
    });
  },
};

/** Types as tsc emits them, less those of the insides. */
async function buildDeclarations() {
  await run(process.execPath, [join(www, "node_modules/typescript/bin/tsc"), "-p", join(www, "tsconfig.build.json")]);
  const kept = new Set();
  const keep = (file) => {
    if (kept.has(file)) return;
    kept.add(file);
    const text = readFileSync(join(lib, file), "utf8");
    for (const [, name] of text.matchAll(/(?:from|import\()\s*"(\.{1,2}\/[^"]+)\.ts"/g))
      keep(join(dirname(file), `${name}.d.ts`));
  };
  for (const entry of ENTRIES) keep(`${entry}.d.ts`);
  for (const file of readdirSync(lib, { recursive: true })) {
    if (file.endsWith(".d.ts") && !kept.has(file)) rmSync(join(lib, file));
  }
}

function copyWasm() {
  for (const device of DEVICES) {
    for (const file of ["samlora.js", "samlora_bg.wasm"]) {
      const from = join(www, "wasm", device, file);
      if (!existsSync(from)) throw new Error(`${from} is missing: run this without --no-wasm`);
      mkdirSync(join(lib, "wasm", device), { recursive: true });
      cpSync(from, join(lib, "wasm", device, file));
    }
  }
}

/** Folders of the npm packages that were bundled. */
function bundledPackages(...metafiles) {
  const inputs = metafiles.flatMap(({ inputs }) => Object.keys(inputs));
  const folders = inputs.map((input) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0]).filter(Boolean);
  return [...new Set(folders)].map((folder) => join(process.cwd(), folder));
}
