// Which device a model runs on: what the adapter really offers, not whether `navigator.gpu` exists.

import { SamloraError } from "./error.ts";
import type { AdapterInfo, Device } from "./types.ts";

/** The device to use, with the adapter where it is a GPU. */
export interface Choice {
  device: Device;
  adapter?: AdapterInfo;
}

/** Resolves `auto`; `gpu` without a usable adapter is an error. */
export async function chooseDevice(wish: Device | "auto"): Promise<Choice> {
  if (wish === "cpu") return { device: "cpu" };
  const adapter = await describeAdapter();
  if (wish === "gpu") {
    if (adapter) return { device: "gpu", adapter };
    throw new SamloraError(
      "device",
      "this browser offers no WebGPU adapter",
      'use the CPU device (device: "cpu" or "auto"), or a browser with WebGPU turned on',
    );
  }
  // A software adapter is slower than the CPU device's SIMD code.
  return adapter && !adapter.isFallback ? { device: "gpu", adapter } : { device: "cpu" };
}

/** Describes the GPU that the browser would give, if it gives one. */
export async function describeAdapter(): Promise<AdapterInfo | undefined> {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) return undefined;
    const { vendor, architecture, description } = adapter.info;
    return {
      vendor,
      architecture,
      description,
      isFallback: adapter.info.isFallbackAdapter ?? architecture === "swiftshader",
      maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize,
      maxBufferSize: adapter.limits.maxBufferSize,
      shaderF16: adapter.features.has("shader-f16"),
    };
  } catch {
    return undefined; // Some browsers throw where others give null.
  }
}
