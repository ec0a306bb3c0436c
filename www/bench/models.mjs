// What both engines load: one checkpoint with random weights as samlora packages and as ONNX, in the peers' folder.

import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ask, root } from "../build/common.mjs";
import { transformersFolders } from "./sizes.mjs";

const peers = (script) => join(root, "tests/peers", script);

/**
 * Makes what is missing below `work`. Returns paths: of each backbone in `models` what `prepareModel` gives, a `config` for
 * transformers.js, the `modules` folder of onnxruntime-web, and the folders of `transformers`.
 */
export async function prepare({ work, samlora, backbones, size }) {
  // The first call makes the environment, in some minutes.
  const python = await ask("python3", peers("encoder.py"), "--setup", "--work", work);
  const data = join(work, "data");
  mkdirSync(data, { recursive: true });
  const models = {};
  for (const backbone of backbones) models[backbone] = await prepareModel({ data, python, samlora, backbone, size });
  // For transformers.js, which takes a model of a type that it does not know as one graph.
  const config = join(data, "web-config.json");
  writeFileSync(config, '{ "model_type": "graph" }\n');
  return { models, config, modules: join(work, "web/node_modules"), transformers: await transformersFolders(work) };
}

/**
 * `f32` and `q8` packages, exported anew because the program may have changed, and ONNX of `encoder` and `decoder`, all of one
 * checkpoint.
 */
async function prepareModel({ data, python, samlora, backbone, size }) {
  const say = (text) => console.error(`${backbone}: ${text}`);

  const checkpoint = join(data, `sam_${backbone}.pth`);
  if (!existsSync(checkpoint)) {
    say("checkpoint");
    await ask(python, peers("make_checkpoints.py"), data, backbone);
  }

  // Not the peers' own files, which may be of a checkpoint that was given to them.
  const stem = join(data, `web-${backbone}-${size}`);
  const encoder = `${stem}.onnx`;
  if (!existsSync(encoder)) {
    say("ONNX of the encoder");
    const settings = { backbone, size, checkpoint, threads: 1, seed: 7, onnx: `${encoder}.part` };
    const paths = { input: `${stem}.input.f32`, reference: `${stem}.reference.f32` };
    await ask(python, "-W", "ignore", peers("steps.py"), "prepare", JSON.stringify({ ...settings, ...paths }));
    renameSync(settings.onnx, encoder); // Whole or not there.
  }
  const decoder = `${stem}-decoder.onnx`;
  if (!existsSync(decoder)) {
    say("ONNX of the decoder");
    await ask(
      python,
      "-W",
      "ignore",
      peers("export_decoder.py"),
      backbone,
      String(size),
      checkpoint,
      `${decoder}.part`,
    );
    renameSync(`${decoder}.part`, decoder);
  }

  const packages = {};
  for (const scheme of ["f32", "q8"]) {
    say(`package, ${scheme}`);
    const out = `${stem}-${scheme}`;
    rmSync(out, { recursive: true, force: true });
    // Tile and input are equal: the very pixels that the ONNX model gets, without a halo.
    const sizes = ["--input-size", String(size), "--tile-size", String(size)];
    await ask(
      samlora,
      "export",
      "--base",
      checkpoint,
      "--classes",
      "a,b,c",
      "--scheme",
      scheme,
      "--out",
      out,
      ...sizes,
    );
    packages[scheme] = out;
  }
  return { ...packages, encoder, decoder };
}

/** A package's manifest. */
export const manifestOf = (folder) => JSON.parse(readFileSync(join(folder, "samlora.json"), "utf8"));

/**
 * Floating-point operations of the encoder at `size` px, a multiplication and an addition each: of the work itself, which
 * samlora does, and of the reference's graph, which also multiplies the tokens that fill up windows. Of a ViT alone.
 */
export function encoderOperations({ architecture }, size) {
  if (architecture.encoder) return undefined;
  const { embed_dim: c, depth, mlp_dim: mlp, window_size: side, out_chans: out, patch_size: patch } = architecture;
  const grid = size / patch;
  const tokens = grid * grid;
  const global = new Set(architecture.global_attn_indexes);
  const blocks = (padded) => {
    let sum = 0;
    for (let i = 0; i < depth; i++) {
      const window = global.has(i) ? grid : side;
      const filled = (Math.ceil(grid / window) * window) ** 2;
      const rows = padded ? filled : tokens;
      sum += rows * 4 * c * c + tokens * 2 * c * mlp; // qkv and proj; the MLP
      sum += rows * c * (2 * window * window + 2 * window); // scores and values; relative positions
    }
    return sum;
  };
  const rest = tokens * (architecture.in_chans * patch * patch * c + c * out + 9 * out * out);
  return { work: 2 * (blocks(false) + rest), reference: 2 * (blocks(true) + rest) };
}
