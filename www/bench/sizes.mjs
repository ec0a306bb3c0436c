// Bytes to the first mask: what a page fetches of this package and a model, beside transformers.js with a SAM.

import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { ask } from "../build/common.mjs";

const TRANSFORMERS = "4.3.1";
export const TRANSFORMERS_NAME = `transformers.js ${TRANSFORMERS}`;

// Encoder and decoder in MB as Hugging Face lists them; published sizes, which are not downloaded here.
const SLIM = { name: "SlimSAM-77, q8", encoder: 8.88, decoder: 4.9, source: "Xenova/slimsam-77-uniform" };
const PUBLISHED = {
  lite0: SLIM,
  slimsam_77: SLIM,
  mobile_sam: SLIM,
  vit_b: { name: "SAM ViT-B, int8", encoder: 100, decoder: 4.74, source: "webml" },
};

const gzipped = (file) => gzipSync(readFileSync(file), { level: 9 }).length;

/**
 * Runtime (gzip) and model (as it is) of the files that a page has fetched, each counted once; a model's bytes are those of
 * the files in the folder `model`.
 */
export function fetchedBytes(files, model) {
  const sum = (files, measure) => files.reduce((total, file) => total + measure(file), 0);
  const unique = [...new Set(files)];
  const isModel = (file) => file.startsWith(`${model}/`);
  return {
    runtime: sum(
      unique.filter((file) => !isModel(file) && !file.endsWith("page.js")),
      gzipped,
    ),
    model: sum(unique.filter(isModel), (file) => statSync(file).size),
  };
}

/** An npm package's folder below `work`, unpacked without its dependencies. */
async function unpack(work, name, version) {
  const folder = join(work, "tarballs", `${name.replace("/", "-")}-${version}`);
  if (!existsSync(join(folder, "package/package.json"))) {
    mkdirSync(folder, { recursive: true });
    const tarball = await ask("npm", "pack", "--silent", "--pack-destination", folder, `${name}@${version}`);
    await ask("tar", "-xzf", join(folder, tarball), "-C", folder);
    rmSync(join(folder, tarball));
  }
  return join(folder, "package");
}

/** The `dist` folders of transformers.js and of the onnxruntime-web that it is made for, from the npm tarballs. */
export async function transformersFolders(work) {
  const own = await unpack(work, "@huggingface/transformers", TRANSFORMERS);
  const version = JSON.parse(readFileSync(join(own, "package.json"), "utf8")).dependencies["onnxruntime-web"];
  const ort = await unpack(work, "onnxruntime-web", version);
  return { scripts: join(own, "dist"), runtime: join(ort, "dist") };
}

/** What transformers.js fetches before the model, its script and the runtime that it chooses; and models like `backbones`. */
export async function transformersBytes(work, backbones) {
  const { scripts, runtime: folder } = await transformersFolders(work);
  // Its src/backends/onnx.js takes this build for WebGPU and wasm alike.
  const parts = ["ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"].map((file) =>
    join(folder, file),
  );
  const runtime = [join(scripts, "transformers.min.js"), ...parts].reduce((sum, file) => sum + gzipped(file), 0);
  const published = new Set(backbones.map((backbone) => PUBLISHED[backbone]).filter((model) => model));
  return { version: TRANSFORMERS_NAME, runtime, published: [...published] };
}
