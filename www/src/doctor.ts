// What this browser can do with a model, as a report that a user can copy into a message.

import { RemoteEngine } from "./engine/remote.ts";
import type { Segmenter } from "./segmenter.ts";
import type { DoctorReport } from "./types.ts";

/** Limits of WebGPU that decide what a model can do. */
const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupStorageSize",
];
/** Timed runs of a tile, after the first. */
const RUNS = 3;

/** Looks at browser, GPU and storage, tests the GPU's kernels against the CPU's, and with a `segmenter` times a tile. */
export async function doctor(segmenter?: Segmenter): Promise<DoctorReport> {
  const engine = new RemoteEngine();
  try {
    const { adapter, selfTest, passed, half, unfit } = await engine.probe();
    const reason = adapter ? (unfit ?? "a GPU that passes the self-test") : "no WebGPU adapter";
    const report = {
      userAgent: navigator.userAgent,
      cores: navigator.hardwareConcurrency,
      secureContext: globalThis.isSecureContext,
      crossOriginIsolated: globalThis.crossOriginIsolated,
      ...(adapter && { adapter }),
      selfTest,
      passed,
      ...(half !== undefined && { half }),
      plan: adapter && !unfit ? ("gpu" as const) : ("cpu" as const),
      reason,
      ...(await estimate()),
      ...(segmenter && { model: await timeTile(segmenter) }),
    };
    const text = write(report);
    return { ...report, text, toString: () => text };
  } finally {
    engine.close();
  }
}

async function estimate(): Promise<Pick<DoctorReport, "storage">> {
  try {
    const { usage = 0, quota = 0 } = await navigator.storage.estimate();
    return { storage: { usedBytes: usage, quotaBytes: quota } };
  } catch {
    return {}; // Insecure contexts have none.
  }
}

async function timeTile(segmenter: Segmenter): Promise<NonNullable<DoctorReport["model"]>> {
  const { name, device, precision, workers, inputSize, loadTime } = segmenter.info;
  const tile = new ImageData(new Uint8ClampedArray(4 * inputSize ** 2).fill(255), inputSize);
  const times: number[] = [];
  for (let run = 0; run <= RUNS; run++) {
    const start = performance.now();
    await segmenter.segment(tile);
    times.push(performance.now() - start);
  }
  const [first = 0, ...later] = times;
  const median = later.sort((a, b) => a - b)[RUNS >> 1] ?? first;
  return { name, device, precision, workers, loadTime, firstTile: first, tile: median };
}

const megabytes = (bytes: number) => `${Math.round(bytes / 1e6)} MB`;
const milliseconds = (time: number) => `${time.toFixed(0)} ms`;
const yes = (fact: boolean) => (fact ? "yes" : "no");

function write({ adapter, selfTest, storage, model, ...report }: Omit<DoctorReport, "text" | "toString">): string {
  const lines: [string, string][] = [
    ["browser", report.userAgent],
    ["cores", `${report.cores}`],
    ["secure context", yes(report.secureContext)],
    ["cross-origin isolated", `${yes(report.crossOriginIsolated)} (not needed)`],
  ];
  if (adapter) {
    const { vendor, architecture, description } = adapter;
    lines.push(["adapter", [vendor, architecture, description].filter(Boolean).join(" ") || "unnamed"]);
    lines.push(["software adapter", yes(adapter.isFallback)]);
    for (const name of LIMITS) lines.push([name, `${adapter.limits[name] ?? "unknown"}`]);
    lines.push(["features", adapter.features.join(", ") || "none"]);
  } else lines.push(["adapter", "none"]);
  for (const { stage, error } of selfTest)
    lines.push([`self-test: ${stage}`, `relative error ${error.toExponential(1)}`]);
  if (report.half !== undefined)
    lines.push(["self-test in 16 bits", report.half ? "passed" : "failed: 32 bits are used"]);
  lines.push(["device for auto", `${report.plan}: ${report.reason}`]);
  if (storage) lines.push(["storage", `${megabytes(storage.usedBytes)} of ${megabytes(storage.quotaBytes)} in use`]);
  if (model) {
    lines.push(["model", `${model.name} on ${model.device}, ${model.precision}, at most ${model.workers} at once`]);
    lines.push(["loaded in", milliseconds(model.loadTime)]);
    lines.push(["first window", milliseconds(model.firstTile)], ["window", milliseconds(model.tile)]);
  }
  const width = Math.max(...lines.map(([name]) => name.length));
  return lines.map(([name, text]) => `${name.padEnd(width)}  ${text}`).join("\n");
}
