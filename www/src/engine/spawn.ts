// Starts the worker's script, which lies beside this one, from wherever this one was loaded.

import { SamloraError } from "../error.ts";

/** A worker of this package, as bundlers find it: they look for exactly this call, and Vite reads its options. */
export function spawnWorker(): Worker {
  if (typeof Worker === "undefined") {
    throw new SamloraError(
      "unsupported",
      "there are no web workers here",
      "load the model in a browser, in code that does not run on the server; outside one, use the samlora command",
    );
  }
  if (isForeign(import.meta.url)) return spawnForeign();
  return new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "samlora" });
}

/** What to do when the worker's script cannot be loaded. */
export function missingWorkerRemedy(): string {
  return import.meta.url.includes("/.vite/")
    ? 'add optimizeDeps: { exclude: ["samlora"] } to the Vite configuration (Vite 8 does without), or load with worker: false'
    : "check that worker.js is served beside index.js with a JavaScript content type, or load with worker: false";
}

/** Whether the script comes from another site, such as a CDN. Some bundlers put a `file:` URL in the place of the address. */
function isForeign(script: string): boolean {
  return /^https?:/.test(script) && new URL(script).origin !== location.origin;
}

/** A browser starts no worker of another site's script, but a worker may import one. */
function spawnForeign(): Worker {
  const script = import.meta.url.replace(/[^/]*$/, "worker.js");
  const address = URL.createObjectURL(new Blob([`import ${JSON.stringify(script)};`], { type: "text/javascript" }));
  const worker = new Worker(address, { type: "module", name: "samlora" });
  // Not before the worker has read it; its first message comes from the imported script.
  const forget = () => URL.revokeObjectURL(address);
  worker.addEventListener("message", forget, { once: true });
  worker.addEventListener("error", forget, { once: true });
  return worker;
}
