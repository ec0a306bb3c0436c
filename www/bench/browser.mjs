// How Chromium is started for measurements.

import { execFileSync } from "node:child_process";

const QUIET = ["--headless=new", "--no-sandbox", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", "--no-first-run", "--disable-quic"];

/** Flags for a GPU: the machine's, or Chromium's own that a CPU computes. */
export const GPU = {
  hardware: ["--enable-unsafe-webgpu", "--enable-features=Vulkan"],
  software: ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
};

const onPath = () => execFileSync("sh", ["-c", "command -v chromium || command -v google-chrome"], { encoding: "utf8" }).trim();

/** What playwright's launch takes. */
export const browserOf = (gpu = [], executablePath = process.env.CHROMIUM ?? onPath()) => ({ executablePath, args: [...QUIET, ...gpu] });
