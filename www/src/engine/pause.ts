// What wasm calls after every layer: lets messages in, such as an abort, and keeps the GPU's queue short.

/** Layers that the GPU may have before it; more would go on long after an abort, fewer would leave it idle in between. */
const LAYERS_AHEAD = 2;

/** A function to call after every layer; it throws the signal's reason once that is aborted. */
export function pauser(gpu?: GPUDevice, signal?: AbortSignal): () => Promise<void> | void {
  if (!signal) return () => {};
  const submitted: Promise<unknown>[] = [];
  return async () => {
    if (gpu) {
      submitted.push(gpu.queue.onSubmittedWorkDone());
      if (submitted.length > LAYERS_AHEAD) await submitted.shift();
    } else {
      await nextTask();
    }
    signal.throwIfAborted();
  };
}

/** Resolves in a task of its own, after messages that have arrived; timers would wait milliseconds. */
function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}
