// What the steps of the build share.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const www = fileURLToPath(new URL("..", import.meta.url));
export const root = join(www, "..");
export const dist = join(www, "dist");

/** The crate's builds, each a folder below `wasm/`; the last is the CPU's for browsers that have relaxed SIMD. */
export const DEVICES = ["gpu", "cpu", "cpu-relaxed"];

export const TARGET = "wasm32-unknown-unknown";

/** Which code of the crate a build has. */
export const features = (device) => [
  "--no-default-features",
  `--features=${device === "cpu-relaxed" ? "relaxed-simd" : device}`,
];

/** Runs a program to its end; its standard output, or an error that names it. */
export function run(command, args, { capture = false } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", capture ? "pipe" : "inherit", "inherit"] });
    let output = "";
    child.stdout?.on("data", (chunk) => (output += chunk));
    child.on("error", (error) => reject(new Error(`${command} could not be started: ${error.message}`)));
    child.on("close", (code) =>
      code === 0 ? resolve(output) : reject(new Error(`${command} ended with code ${code}`)),
    );
  });
}

/** All files below a folder, sorted. */
export const filesBelow = (folder) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();

/** What a program says on one line, such as its version. */
export const ask = async (command, ...args) => (await run(command, args, { capture: true })).trim();

export const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest("hex");
