// Loads the one wasm build that the device needs. Each has its own glue code, which finds its .wasm beside itself.

import { SamloraError } from "./error.ts";
import type { Device } from "./types.ts";

/** What both builds export. */
export type Runtime = Pick<typeof import("../wasm/cpu/samlora.js"), "Segmenter" | "openDevice" | "selfTest" | "version"> &
  Partial<Pick<typeof import("../wasm/gpu/samlora.js"), "tellSoftware">>;

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

async function start(device: Device): Promise<Runtime> {
  try {
    const runtime = await (device === "gpu" ? import("../wasm/gpu/samlora.js") : import("../wasm/cpu/samlora.js"));
    await runtime.default();
    return runtime;
  } catch (cause) {
    throw new SamloraError(
      "io",
      `the ${device} runtime could not be loaded: ${cause instanceof Error ? cause.message : String(cause)}`,
      "check that the package's wasm folder is served beside its scripts, and that a content security policy has 'wasm-unsafe-eval'",
      cause,
    );
  }
}
