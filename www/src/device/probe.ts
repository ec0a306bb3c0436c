// What this browser offers: the facts behind the choice of a device, for `doctor`.

import { describeAdapter } from "./device.ts";
import { SamloraError } from "../error.ts";
import { passed, recallTest, testGpu } from "./selftest.ts";
import type { AdapterInfo, StageTest } from "../types.ts";

export interface Probe {
  adapter?: AdapterInfo;
  /** Each stage of the self-test; empty without an adapter. */
  selfTest: StageTest[];
  passed: boolean;
  /** Whether it passed in 16 bits; absent where that was not tried. */
  half?: boolean;
  /** Why the self-test could not run. */
  failure?: string;
}

/** Asks for an adapter and tests it. */
export async function probe(): Promise<Probe> {
  const adapter = await describeAdapter();
  if (!adapter) return { selfTest: [], passed: false };
  try {
    const selfTest = await testGpu(adapter, "f32");
    const half = adapter.shaderF16 ? await recallTest(adapter, "f16") : undefined;
    return { adapter, selfTest, passed: passed(selfTest, "f32"), ...(half && { half: passed(half, "f16") }) };
  } catch (thrown) {
    return { adapter, selfTest: [], passed: false, failure: SamloraError.from(thrown).message };
  }
}
