// Which device a model runs on: what the adapter really offers and computes, not whether `navigator.gpu` exists.

import { SamloraError } from "./error.ts";
import { watchGpu, type GpuWatch } from "./gpu.ts";
import { passed, testGpu, worstStage } from "./selftest.ts";
import type { AdapterInfo, Device } from "./types.ts";

/** The device to use, with the adapter where it is a GPU, or why it is not. */
export interface Choice {
  device: Device;
  adapter?: AdapterInfo;
  gpu?: GpuWatch;
  /** Why `auto` did not take the GPU that there is. */
  instead?: string;
}

/** What the WebGPU specification promises of every adapter but those in compatibility mode, and the kernels rely on. */
const LEAST_LIMITS = {
  maxStorageBufferBindingSize: 128 << 20,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupStorageSize: 16384,
} as const;

/**
 * Resolves `auto` and makes the GPU ready; `gpu` without a usable one is an error. A page's `own` device is taken as it is.
 */
export async function chooseDevice(wish: Device | "auto", own?: GPUDevice): Promise<Choice> {
  if (wish === "cpu") return { device: "cpu" };
  const adapter = await describeAdapter(own);
  const unfit = adapter ? await whyUnfit(adapter, wish, own) : NO_ADAPTER;
  if (!unfit) {
    const gpu = await watchGpu(own);
    return { device: "gpu", ...(adapter && { adapter }), gpu };
  }
  if (wish === "gpu") throw new SamloraError("device", unfit, 'use the CPU device (device: "cpu" or "auto"), or another browser or driver');
  return adapter ? { device: "cpu", instead: unfit } : { device: "cpu" };
}

const NO_ADAPTER = "this browser offers no WebGPU adapter";

/** Why the GPU is not to be used; nothing if it may be. */
async function whyUnfit(adapter: AdapterInfo, wish: Device | "auto", own?: GPUDevice): Promise<string | undefined> {
  // A software adapter is slower than the CPU device's SIMD code.
  if (adapter.isFallback && wish === "auto" && !own) return "the only WebGPU adapter computes on the CPU";
  for (const [limit, least] of Object.entries(LEAST_LIMITS)) {
    const found = adapter.limits[limit];
    if (found !== undefined && found < least) return `the GPU's ${limit} is ${found}, needed are ${least}`;
  }
  // Without it burn panics in a browser, where it cannot wait for the GPU in another way.
  if (!adapter.features.includes("timestamp-query")) return "the GPU has no timestamp-query";
  const tests = await testGpu(adapter, own);
  if (passed(tests)) return undefined;
  const worst = worstStage(tests);
  return `the GPU computes wrong numbers (${worst.stage}: relative error ${worst.error.toExponential(1)})`;
}

/** Describes the GPU that the browser would give, if it gives one, or a page's own. */
export async function describeAdapter(own?: GPUDevice): Promise<AdapterInfo | undefined> {
  try {
    const adapter = own ?? (await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" }));
    if (!adapter) return undefined;
    const info = "adapterInfo" in adapter ? adapter.adapterInfo : adapter.info;
    const { vendor = "", architecture = "", description = "" } = info ?? {};
    const limits: Record<string, number> = {};
    // The limits are getters of the prototype, so that neither Object.entries nor a copy finds them.
    for (const name in adapter.limits) {
      const limit = adapter.limits[name as keyof GPUSupportedLimits];
      if (typeof limit === "number") limits[name] = limit;
    }
    return {
      vendor,
      architecture,
      description,
      isFallback: info?.isFallbackAdapter ?? architecture === "swiftshader",
      maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize,
      maxBufferSize: adapter.limits.maxBufferSize,
      shaderF16: adapter.features.has("shader-f16"),
      limits,
      features: [...adapter.features].sort(),
    };
  } catch {
    return undefined; // Some browsers throw where others give null.
  }
}

