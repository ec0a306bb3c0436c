// The GPU device of this thread, opened by wasm and watched from here: wasm asks the browser for its device by itself and
// does not say when it is lost, so the request is listened to.

import { SamloraError } from "../error.ts";
import { loadRuntime } from "../runtime.ts";

/** A GPU device in use. */
export interface GpuWatch {
  readonly device: GPUDevice;
  readonly precision: Precision;
  /** Rejects when the device is lost or reports an error that nobody caught; results from then on cannot be trusted. */
  readonly failure: Promise<never>;
}

/** What a GPU computes with. wasm opens its GPU once, in one of them. */
export type Precision = "f32" | "f16";

/** The device's name in wasm. */
export const wasmName = (precision: Precision) => (precision === "f16" ? "gpu-f16" : "gpu");

let opened: Promise<GpuWatch> | undefined;

/** The device of this thread's GPU runtime, opened at the first call, which decides its precision; `own` is a page's own device. */
export function watchGpu(precision: Precision, own?: GPUDevice): Promise<GpuWatch> {
  if (opened && own) {
    return opened.then((watch) => {
      if (watch.device === own) return watch;
      throw new SamloraError(
        "device",
        "another GPU device is in use on this thread",
        "load all models with the same device",
      );
    });
  }
  opened ??= open(precision, own);
  opened.catch(() => (opened = undefined)); // So that a later call may try again.
  return opened;
}

async function open(precision: Precision, own?: GPUDevice): Promise<GpuWatch> {
  const runtime = await loadRuntime("gpu");
  const requested = listen(runtime.tellSoftware, own);
  try {
    await runtime.openDevice(wasmName(precision));
    return watch(await requested.device, precision);
  } finally {
    requested.stop();
  }
}

/** Gives whoever asks for an adapter one whose device we know: the page's own, or the one that it really gives. */
function listen(
  tellSoftware?: (isSoftware: boolean) => void,
  own?: GPUDevice,
): { device: Promise<GPUDevice>; stop: () => void } {
  const { gpu } = navigator;
  if (!gpu)
    throw new SamloraError("device", "this browser has no WebGPU", 'use the CPU device (device: "cpu" or "auto")');
  let resolve: (device: GPUDevice) => void;
  const device = new Promise<GPUDevice>((r) => (resolve = r));
  const requestAdapter = async (options?: GPURequestAdapterOptions): Promise<GPUAdapter | null> => {
    const adapter = await GPU.prototype.requestAdapter.call(gpu, options);
    if (!adapter) return null;
    tellSoftware?.(isSoftware(own?.adapterInfo ?? adapter.info));
    const requestDevice = async (descriptor?: GPUDeviceDescriptor): Promise<GPUDevice> => {
      const given = own ?? (await GPUAdapter.prototype.requestDevice.call(adapter, descriptor));
      resolve(given);
      return given;
    };
    const shown = own ? { limits: { value: own.limits }, features: { value: own.features } } : {};
    return Object.defineProperties(adapter, { requestDevice: { value: requestDevice }, ...shown });
  };
  Object.defineProperty(gpu, "requestAdapter", { configurable: true, value: requestAdapter });
  return { device, stop: () => void delete (gpu as { requestAdapter?: unknown }).requestAdapter };
}

/** Whether a CPU computes what is asked of the adapter: Chromium's SwiftShader says so by its name where the flag is missing. */
export const isSoftware = (info?: GPUAdapterInfo): boolean =>
  info?.isFallbackAdapter ?? info?.architecture === "swiftshader";

function watch(device: GPUDevice, precision: Precision): GpuWatch {
  const failure = new Promise<never>((_, reject) => {
    const fail = (message: string) =>
      reject(new SamloraError("device", message, "load the model again, or use the CPU device"));
    void device.lost.then(({ reason, message }) =>
      fail(`the GPU was lost (${reason}): ${message || "no reason given"}`),
    );
    device.addEventListener("uncapturederror", ({ error }) => {
      const kind = error instanceof GPUOutOfMemoryError ? "ran out of memory" : "failed";
      fail(`the GPU ${kind}: ${error.message}`);
    });
  });
  failure.catch(() => {}); // Whoever computes races against it.
  return { device, precision, failure };
}
