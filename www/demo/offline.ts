// Keeps the page for use without network (sw.ts), and tells when a newer one is ready.

/** Starts the service worker, where the browser allows one; `say` gets what the user may want to know. */
export async function keepOffline(say: (text: string) => void): Promise<void> {
  const workers = navigator.serviceWorker; // Missing outside of secure contexts.
  if (!workers) return;
  let registration: ServiceWorkerRegistration | undefined; // Undefined where a tool of the browser forbids it.
  try {
    registration = await workers.register(new URL("sw.js", document.baseURI), { scope: "./" });
  } catch {
    return; // Private windows and some policies forbid it; the page works, with network.
  }
  // The running page keeps the files that it was made of: a newer one takes over once this one is closed.
  const hasOld = workers.controller !== null;
  registration?.addEventListener("updatefound", () => {
    const coming = registration?.installing;
    coming?.addEventListener("statechange", () => {
      if (coming.state === "installed" && hasOld)
        say("A newer version of this page is ready: close all of its tabs and open it again.");
      if (coming.state === "activated" && !hasOld) say("This page now works without network.");
    });
  });
}
