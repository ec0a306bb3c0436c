// Whether the GPU computes what the CPU computes: a small known model on both, stage by stage. Drivers exist whose shaders
// compile and give wrong numbers. The verdict is kept per browser, adapter and build.

import { wasmName, watchGpu, type Precision } from "./gpu.ts";
import { loadRuntime } from "../runtime.ts";
import type { AdapterInfo, StageTest } from "../types.ts";

/** Relative error (Euclidean norm) below which a stage passes. Sums in another order differ by 1e-6 in f32, 3e-3 in f16. */
const TOLERANCE: Record<Precision, number> = { f32: 1e-3, f16: 2e-2 };
const CACHE = "samlora-device";

export const passed = (tests: StageTest[], precision: Precision): boolean =>
  tests.length > 0 && tests.every(({ error }) => error <= TOLERANCE[precision]);

export function worstStage(tests: StageTest[]): StageTest {
  return tests.reduce((worst, test) => (test.error <= worst.error ? worst : test), { stage: "none", error: 0 });
}

/** The relative error of every stage on the GPU; from storage, if this browser has tested this adapter before. */
export async function testGpu(adapter: AdapterInfo, precision: Precision, own?: GPUDevice): Promise<StageTest[]> {
  const key = await keyOf(adapter, precision);
  const known = await recall(key);
  if (known) return known;
  const tests = await compare(precision, own);
  // In 32 bits only what passed is kept: a failure may be a passing one, and is tried again at the next load.
  if (precision === "f16" || passed(tests, precision)) await remember(key, tests);
  return tests;
}

/** What a test in this browser has found before. */
export async function recallTest(adapter: AdapterInfo, precision: Precision): Promise<StageTest[] | undefined> {
  return recall(await keyOf(adapter, precision));
}

/** Some browsers hide the adapter's names, so that limits and features have to tell adapters apart. */
async function keyOf(adapter: AdapterInfo, precision: Precision): Promise<string> {
  const { version } = await loadRuntime("gpu");
  const { vendor, architecture, description, limits, features } = adapter;
  const values = Object.entries(limits).sort();
  return JSON.stringify([
    version(),
    navigator.userAgent,
    vendor,
    architecture,
    description,
    values,
    features,
    precision,
  ]);
}

async function compare(precision: Precision, own?: GPUDevice): Promise<StageTest[]> {
  const [gpu, cpu] = await Promise.all([loadRuntime("gpu"), loadRuntime("cpu")]);
  const { failure } = await watchGpu(precision, own);
  const expected = await cpu.selfTest("cpu");
  let found: Record<string, Float32Array>;
  try {
    found = await Promise.race([gpu.selfTest(wasmName(precision)), failure]);
  } catch {
    return [{ stage: "start", error: Infinity }];
  }
  return Object.entries(expected).map(([stage, values]) => ({ stage, error: relativeError(found[stage], values) }));
}

/** The distance over the length of `expected`; infinite where numbers are missing or not finite. */
function relativeError(found: Float32Array | undefined, expected: Float32Array): number {
  if (found?.length !== expected.length) return Infinity;
  let difference = 0;
  let length = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (found[i]! - expected[i]!) ** 2;
    length += expected[i]! ** 2;
  }
  const error = Math.sqrt(difference / length);
  return Number.isFinite(error) ? error : Infinity;
}

const address = (key: string) => `https://samlora.invalid/self-test?${encodeURIComponent(key)}`;

async function recall(key: string): Promise<StageTest[] | undefined> {
  try {
    const stored = await (await caches.open(CACHE)).match(address(key));
    const tests = stored && ((await stored.json()) as { stage: string; error: number | null }[]);
    return tests?.map(({ stage, error }) => ({ stage, error: error ?? Infinity })); // JSON writes null for it.
  } catch {
    return undefined; // No storage: test again.
  }
}

async function remember(key: string, tests: StageTest[]): Promise<void> {
  try {
    const cache = await caches.open(CACHE);
    await cache.put(address(key), new Response(JSON.stringify(tests)));
  } catch {
    // No storage, or no room.
  }
}
