// dist/index.html, dist/demo, dist/places and dist/sw.js: the page, which uses dist/lib as any page would and works without network.

import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import * as esbuild from "esbuild";
import { dist, filesBelow, sha256, www } from "./common.mjs";
import { writeIcons } from "./icons.mjs";
import { COMMON } from "./scripts.mjs";

/** Builds the page into `out`, where `lib` is already. */
export async function buildPage(out = dist) {
  rmSync(join(out, "demo"), { recursive: true, force: true });
  await esbuild.build({
    ...COMMON,
    entryPoints: {
      main: join(www, "demo/main.ts"),
      style: join(www, "demo/style.css"),
      // MapLibre's own worker, beside the page: no script comes from elsewhere.
      "map-worker": join(www, "node_modules/maplibre-gl/dist/maplibre-gl-worker.mjs"),
    },
    outdir: join(out, "demo"),
    splitting: true, // The map is fetched when it is looked at.
    chunkNames: "[name]-[hash]",
    sourcesContent: false, // MapLibre's are 5 MB.
    plugins: [packageAsImport],
  });
  mkdirSync(join(out, "demo/icons"), { recursive: true });
  cpSync(join(www, "demo/icons"), join(out, "demo/icons"), { recursive: true });
  writeIcons(join(out, "demo/icons"));
  rmSync(join(out, "places"), { recursive: true, force: true });
  cpSync(join(www, "demo/places"), join(out, "places"), { recursive: true });
  cpSync(join(www, "demo/manifest.webmanifest"), join(out, "manifest.webmanifest"));
  cpSync(join(www, "index.html"), join(out, "index.html"));
  await buildServiceWorker(out);
}

/** The package stays an import; only its path changes. */
const packageAsImport = {
  name: "package as import",
  setup(build) {
    build.onResolve({ filter: /^samlora(\/|$)/ }, ({ path }) => ({
      path: `../lib/${path.slice("samlora/".length) || "index"}.js`,
      external: true,
    }));
  },
};

/** Every file that the page needs, with one hash over all of them: another hash is another version. */
async function buildServiceWorker(out) {
  const needed = (file) =>
    /\.(html|js|css|wasm|webmanifest|svg|png)$|^places\/.*\.(json|jpg|webp)$/.test(file) &&
    file !== "sw.js" &&
    !file.startsWith("samples/");
  const files = filesBelow(out)
    .map((file) => relative(out, file).split(sep).join("/"))
    .filter(needed);
  const version = sha256(...files.flatMap((file) => [file, readFileSync(join(out, file))])).slice(0, 16);
  const { outputFiles } = await esbuild.build({
    ...COMMON,
    entryPoints: [join(www, "demo/sw.ts")],
    outfile: join(out, "sw.js"),
    sourcemap: false,
    write: false,
    define: { __PRECACHE__: JSON.stringify({ version, files }) },
  });
  writeFileSync(join(out, "sw.js"), outputFiles[0].contents);
}
