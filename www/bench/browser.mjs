// How Chromium is started for measurements.

import { execFileSync } from "node:child_process";

const QUIET = [
  "--headless=new",
  "--no-sandbox",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
  "--disable-quic",
];

/** Flags for a GPU: the machine's, or Chromium's own that a CPU computes. */
export const GPU = {
  hardware: ["--enable-unsafe-webgpu", "--enable-features=Vulkan"],
  software: [
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
  ],
};

/** The Chromium of this machine, if there is one. */
export function findChromium() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  try {
    return execFileSync("sh", ["-c", "command -v chromium || command -v google-chrome"]).toString().trim();
  } catch {
    return undefined;
  }
}

/** What playwright's launch takes. */
export const browserOf = (gpu = [], executablePath = findChromium()) => ({ executablePath, args: [...QUIET, ...gpu] });
