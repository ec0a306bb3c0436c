// What the page itself must know of a manifest: the files that it names. Wasm checks it and everything else.

/** The file that says what a package holds. */
export const MANIFEST = "samlora.json";
/** The largest manifest that is read, in bytes (`MANIFEST_BYTES` of the Rust crate). */
export const MANIFEST_LIMIT = 4 << 20;
/** The largest shard that a package may have, in bytes (`SHARD_BYTES` of the Rust crate). */
const SHARD_LIMIT = 16 << 20;

/** One weight file. */
export interface Shard {
  file: string;
  bytes: number;
  /** 64 hexadecimal digits, lower case. */
  sha256: string;
}

/** A package's name and files. */
export interface Outline {
  name: string;
  shards: Shard[];
}

/** The outline of a manifest; `undefined` where it is none, which wasm then explains. */
export function outlineOf(manifest: Uint8Array): Outline | undefined {
  let parsed: { format?: unknown; name?: unknown; shards?: unknown } | null;
  try {
    parsed = JSON.parse(new TextDecoder().decode(manifest));
  } catch {
    return undefined;
  }
  if (parsed?.format !== "samlora" || !Array.isArray(parsed.shards)) return undefined;
  const shards: Shard[] = [];
  for (const shard of parsed.shards as ({ file?: unknown; bytes?: unknown; sha256?: unknown } | null)[]) {
    const { file, bytes, sha256 } = shard ?? {};
    if (typeof file !== "string" || typeof sha256 !== "string" || !/^[0-9a-f]{64}$/i.test(sha256)) return undefined;
    if (typeof bytes !== "number" || !Number.isInteger(bytes) || bytes < 1 || bytes > SHARD_LIMIT) return undefined;
    shards.push({ file, bytes, sha256: sha256.toLowerCase() });
  }
  return { name: typeof parsed.name === "string" ? parsed.name : "", shards };
}

/** Bytes of the manifest and of every shard that it names. */
export function packageBytes(manifest: Uint8Array, outline: Outline | undefined): number {
  return (outline?.shards ?? []).reduce((sum, shard) => sum + shard.bytes, manifest.length);
}

/** SHA-256 in lower-case hexadecimal digits; `undefined` where the page has no `crypto.subtle` (no https). */
export async function sha256(bytes: Uint8Array): Promise<string | undefined> {
  const digest = await globalThis.crypto?.subtle?.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>);
  return digest && Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
