// Which device a model runs on: what the adapter really offers and computes, not whether `navigator.gpu` exists.

import { SamloraError } from "../error.ts";
import { within } from "../silence.ts";
import { isSoftware, watchGpu, type GpuWatch, type Precision } from "./gpu.ts";
import { passed, recallTest, testGpu, worstStage } from "./selftest.ts";
import type { AdapterInfo, Device } from "../types.ts";

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

/** What a page wishes for, and what it brings. */
export interface Wish {
  device: Device | "auto";
  precision: "auto" | "f32";
  /** A page's own device, taken as it is. */
  own?: GPUDevice | undefined;
  /** Whether another precision can be tried, in a worker of its own, if one fails. */
  retries: boolean;
}

/** Resolves `auto` and makes the GPU ready; `gpu` without a usable one is an error. */
export async function chooseDevice({ device: wish, precision: most, own, retries }: Wish): Promise<Choice> {
  if (wish === "cpu") return { device: "cpu" };
  const adapter = await describeAdapter(own);
  const passedOver = adapter?.isFallback && wish === "auto" && !own ? SOFTWARE : undefined;
  let unfit = adapter ? (passedOver ?? whyUnfit(adapter)) : NO_ADAPTER;
  let precision: Precision = "f32";
  if (adapter && !unfit) {
    if (most === "auto" && !own) precision = await bestPrecision(adapter, retries);
    // A software adapter runs shaders as written and is only taken where a page insists; a test would take it half a minute.
    const tests = adapter.isFallback ? undefined : await testGpu(adapter, precision, own);
    if (tests && !passed(tests, precision)) {
      const { stage, error } = worstStage(tests);
      unfit = `the GPU computes wrong numbers (${stage}: relative error ${error.toExponential(1)})`;
      if (precision === "f16") throw new SamloraError("device", `${unfit} in 16 bits`, 'load with precision: "f32"');
    }
  }
  if (adapter && !unfit) return { device: "gpu", adapter, gpu: await watchGpu(precision, own) };
  const why = unfit ?? NO_ADAPTER;
  if (wish === "gpu")
    throw new SamloraError("device", why, 'use the CPU device (device: "cpu" or "auto"), or another browser or driver');
  return adapter ? { device: "cpu", instead: why } : { device: "cpu" };
}

const NO_ADAPTER = "this browser offers no WebGPU adapter";

/** 16 bits where the adapter has them, unless they failed here before or a failure could not be mended. */
async function bestPrecision(adapter: AdapterInfo, retries: boolean): Promise<Precision> {
  if (!adapter.shaderF16) return "f32";
  const known = await recallTest(adapter, "f16");
  return (known ? passed(known, "f16") : retries) ? "f16" : "f32";
}

/** Why `auto` does not take a software adapter: it is slower than the CPU device's SIMD code. */
export const SOFTWARE = "the only WebGPU adapter computes on the CPU";

/** Why the GPU cannot be used, as far as it tells by itself; nothing if it may be. */
export function whyUnfit(adapter: AdapterInfo): string | undefined {
  for (const [limit, least] of Object.entries(LEAST_LIMITS)) {
    const found = adapter.limits[limit];
    if (found !== undefined && found < least) return `the GPU's ${limit} is ${found}, needed are ${least}`;
  }
  // Without it burn panics in a browser, where it cannot wait for the GPU in another way.
  if (!adapter.features.includes("timestamp-query")) return "the GPU has no timestamp-query";
  return undefined;
}

/** The adapter, or nothing from a browser that does not answer. */
function requestAdapter(): Promise<GPUAdapter | null> | undefined {
  const request = navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  return request && within(request, () => new SamloraError("device", NO_ADAPTER));
}

/** Describes the GPU that the browser would give, if it gives one, or a page's own. */
export async function describeAdapter(own?: GPUDevice): Promise<AdapterInfo | undefined> {
  try {
    const adapter = own ?? (await requestAdapter());
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
      isFallback: isSoftware(info),
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
