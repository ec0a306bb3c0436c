// What this browser offers: the facts behind the choice of a device, for `doctor`.

import { describeAdapter, SOFTWARE, whyUnfit } from "./device.ts";
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
  /** Why `auto` does not take the adapter; nothing if it does. */
  unfit?: string;
}

/** Asks for an adapter and tests it. */
export async function probe(): Promise<Probe> {
  const adapter = await describeAdapter();
  if (!adapter) return { selfTest: [], passed: false };
  const unfit = whyUnfit(adapter);
  if (unfit) return { adapter, selfTest: [], passed: false, unfit };
  try {
    const selfTest = await testGpu(adapter, "f32");
    const half = adapter.shaderF16 ? await recallTest(adapter, "f16") : undefined;
    const right = passed(selfTest, "f32");
    const reason = right ? (adapter.isFallback ? SOFTWARE : undefined) : "the self-test failed";
    return {
      adapter,
      selfTest,
      passed: right,
      ...(half && { half: passed(half, "f16") }),
      ...(reason && { unfit: reason }),
    };
  } catch (thrown) {
    return { adapter, selfTest: [], passed: false, unfit: SamloraError.from(thrown).message };
  }
}
