// Loads the one wasm build that the device needs, of the CPU's two the one that the engine can run. Each has its own glue code, which finds its .wasm beside itself.

import { SamloraError } from "./error.ts";
import { Silence, START_SILENCE, within } from "./silence.ts";
import type { Device } from "./types.ts";

/** What both builds export. */
export type Runtime = Pick<
  typeof import("../wasm/cpu/samlora.js"),
  "Segmenter" | "openDevice" | "selfTest" | "version"
> &
  Partial<Pick<typeof import("../wasm/gpu/samlora.js"), "tellSoftware">>;

/** What starts a build: wasm-bindgen's own function, and where the module is. */
interface Glue {
  default(how: { module_or_path: Response }): Promise<unknown>;
  address(): URL;
}

/** A model in wasm's memory. */
export type WasmSegmenter = Awaited<ReturnType<Runtime["Segmenter"]["load"]>>;

const runtimes = new Map<Device, Promise<Runtime>>();

/** The wasm module for `device`, compiled once per thread. */
export function loadRuntime(device: Device): Promise<Runtime> {
  let runtime = runtimes.get(device);
  if (!runtime) {
    runtime = start(device);
    runtimes.set(device, runtime);
    runtime.catch(() => runtimes.delete(device)); // So that a later call may try again.
  }
  return runtime;
}

/** A module of one function that multiplies and adds in one step; engines without relaxed SIMD refuse it. */
// biome-ignore format: an instruction a line
const RELAXED = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, // magic number and version
  1, 8, 1, 96, 3, 123, 123, 123, 1, 123, // a type: three v128 to one
  3, 2, 1, 0, // a function of it
  10, 13, 1, 11, 0, 32, 0, 32, 1, 32, 2, 253, 133, 2, 11, // f32x4.relaxed_madd of its arguments
]);

/** The CPU's build that this engine runs fastest. */
const loadCpu = () =>
  WebAssembly.validate(RELAXED) ? import("../wasm/cpu-relaxed/samlora.js") : import("../wasm/cpu/samlora.js");

async function start(device: Device): Promise<Runtime> {
  const silent = (what: string) =>
    new SamloraError(
      "io",
      `the ${device} runtime could not be loaded: nothing came of ${what} for ${START_SILENCE / 1000} s`,
      "check the connection and the server of the package's scripts, and load the model again",
    );
  try {
    const script: Promise<Runtime & Glue> = device === "gpu" ? import("../wasm/gpu/samlora.js") : loadCpu();
    const runtime = await within(script, () => silent("its script"));
    const { href } = runtime.address();
    await instantiate(href, runtime.default, () => silent(href));
    return runtime;
  } catch (cause) {
    if (cause instanceof SamloraError) throw cause;
    throw new SamloraError(
      "io",
      `the ${device} runtime could not be loaded: ${cause instanceof Error ? cause.message : String(cause)}`,
      "check that the package's wasm folder is served beside its scripts, and that a content security policy has 'wasm-unsafe-eval'",
      cause,
    );
  }
}

/** Fetches and compiles the module, for as long as it takes: only bytes that cease to come are an error. */
async function instantiate(
  url: string,
  init: (how: { module_or_path: Response }) => Promise<unknown>,
  silent: () => Error,
) {
  const controller = new AbortController();
  const silence = new Silence(() => controller.abort(silent()));
  const { signal } = controller;
  try {
    const response = await fetch(url, { signal });
    if (!response.ok)
      throw new Error(`${url}: the server answered ${response.status} ${response.statusText}`.trimEnd());
    // The answer itself goes to the compiler, so that the browser can keep what it compiled; a copy shows the bytes.
    const seen = response.clone().body?.getReader();
    const watch = async () => {
      while (seen && !(await seen.read()).done) silence.alive();
      silence.end();
    };
    await Promise.all([init({ module_or_path: response }), watch()]);
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    silence.end();
  }
}
