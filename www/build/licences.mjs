// Which licences the package may carry, and their standard texts.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import parse from "spdx-expression-parse";

/** Permissive licences: what they ask for is that their text and the authors' names are passed on, as the notices do. */
const PERMISSIVE = new Set([
  "0BSD",
  "Apache-2.0",
  "Apache-2.0 WITH LLVM-exception",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "BSL-1.0",
  "CC0-1.0",
  "ISC",
  "MIT",
  "Unicode-3.0",
  "Unlicense",
  "Zlib",
]);

/**
 * Copyleft for the licensed files alone. Passing on an executable form asks for a note of where the unchanged source is,
 * which every entry of the notices has.
 */
const FILE_COPYLEFT = new Set(["MPL-2.0"]);

/** The licences of an SPDX expression under which its work may be passed on here: the first permissive choice; else null. */
export function accept(expression) {
  // Crates from before SPDX expressions write "MIT/Apache-2.0".
  return choose(parse(expression.replaceAll("/", " OR ")));
}

function choose(node) {
  if (node.conjunction) {
    const [left, right] = [choose(node.left), choose(node.right)];
    if (node.conjunction === "and") return left && right && [...left, ...right];
    return [left, right].filter(Boolean).sort((a, b) => copyleft(a) - copyleft(b))[0] ?? null;
  }
  const name = node.exception ? `${node.license} WITH ${node.exception}` : node.license;
  return PERMISSIVE.has(name) || FILE_COPYLEFT.has(name) ? [name] : null;
}

const copyleft = (names) => names.filter((name) => FILE_COPYLEFT.has(name)).length;

/** The text of a licence as SPDX has it, for works that name their licence but leave out its text. */
export function standardText(name, holders) {
  const { resolve } = createRequire(import.meta.url);
  const { licenseText } = JSON.parse(readFileSync(resolve(`spdx-license-list/licenses/${name}.json`), "utf8"));
  return licenseText.replace("<year> <copyright holders>", holders);
}
