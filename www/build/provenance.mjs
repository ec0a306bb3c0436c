// dist/lib/wasm/provenance.json: what the package's wasm was made from and with, and the hashes to check it by.

import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { ask, DEVICES, dist, sha256, www } from "./common.mjs";

/** The checkout's git revision, and whether tracked files differ from it; null outside a checkout. */
export async function revision() {
  try {
    const changes = await ask("git", "status", "--porcelain", "--untracked-files=no");
    return { revision: await ask("git", "rev-parse", "HEAD"), dirty: changes !== "" };
  } catch {
    return { revision: null, dirty: null };
  }
}

export async function writeProvenance() {
  const { name, version } = JSON.parse(readFileSync(join(www, "package.json"), "utf8"));
  const wasm = {};
  for (const device of DEVICES) {
    const record = join(www, "wasm", device, "build.json");
    if (!existsSync(record)) throw new Error(`${record} is missing: run this without --no-wasm`);
    const { made: _, ...build } = JSON.parse(readFileSync(record, "utf8"));
    wasm[device] = { ...build, files: describeFiles(join(dist, "lib/wasm", device)) };
  }
  const text = JSON.stringify({ name, version, ...(await revision()), wasm }, null, 2);
  writeFileSync(join(dist, "lib/wasm/provenance.json"), `${text}\n`);
}

function describeFiles(folder) {
  return Object.fromEntries(
    readdirSync(folder).map((file) => {
      const bytes = readFileSync(join(folder, file));
      return [file, { bytes: bytes.length, gzipBytes: gzipSync(bytes, { level: 9 }).length, sha256: sha256(bytes) }];
    }),
  );
}
