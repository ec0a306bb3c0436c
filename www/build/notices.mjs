// dist/lib/THIRD_PARTY_NOTICES.md: every work of others that is compiled into the package, with its licence.

import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { ask, DEVICES, dist, features, run, TARGET } from "./common.mjs";
import { accept, standardText } from "./licences.mjs";

const LICENCE_FILE = /^(licen[cs]e|copying|unlicense|notice|copyright|patents)/i;

/** Writes the notices; a licence that is not on the list of those that may be passed on is an error. */
export async function writeNotices(bundledPackages) {
  const works = [...(await crates()), await standardLibrary(), ...bundledPackages.map(npmPackage)];
  const refused = works.filter((work) => !work.licence || !accept(work.licence));
  if (refused.length > 0) {
    const names = refused.map(({ name, version, licence }) => `${name} ${version} (${licence ?? "no licence named"})`);
    throw new Error(`licences that may not be passed on, or are not known (build/licences.mjs): ${names.join(", ")}`);
  }
  writeFileSync(join(dist, "lib/THIRD_PARTY_NOTICES.md"), format(works));
}

/** The crates whose code is in either wasm module: neither build scripts nor procedural macros, which only run on the way. */
async function crates() {
  const found = new Map();
  for (const device of DEVICES) {
    const tree = await run(
      "cargo",
      [
        "tree",
        "--locked",
        `--target=${TARGET}`,
        ...features(device),
        "--edges=normal,no-proc-macro",
        "--prefix=none",
        "--format={p}",
      ],
      { capture: true },
    );
    const names = new Set(
      tree
        .trim()
        .split("\n")
        .map((line) => line.split(" ").slice(0, 2).join(" ")),
    );
    const metadata = await run(
      "cargo",
      ["metadata", "--locked", "--format-version=1", `--filter-platform=${TARGET}`, ...features(device)],
      { capture: true },
    );
    for (const crate of JSON.parse(metadata).packages) {
      if (!crate.source || !names.has(`${crate.name} v${crate.version}`)) continue; // This crate has no source.
      const folder = dirname(crate.manifest_path);
      const work = found.get(crate.id) ?? {
        name: crate.name,
        version: crate.version,
        licence: crate.license,
        authors: crate.authors,
        source: `https://crates.io/crates/${crate.name}/${crate.version}`,
        texts: licenceTexts(folder, crate.license_file ? [crate.license_file] : []),
        parts: [],
      };
      work.parts.push(`${device}.wasm`);
      found.set(crate.id, work);
    }
  }
  return [...found.values()].sort((a, b) => a.name.localeCompare(b.name) || a.version.localeCompare(b.version));
}

/** Rust's own library is in every wasm module, and no crate of the graph. */
async function standardLibrary() {
  return {
    name: "Rust standard library",
    version: (await ask("rustc", "--version")).split(" ")[1],
    licence: "MIT OR Apache-2.0",
    authors: ["The Rust Project contributors"],
    source: "https://github.com/rust-lang/rust",
    texts: [],
    parts: DEVICES.map((device) => `${device}.wasm`),
  };
}

/** An npm package that was bundled into the scripts. */
function npmPackage(folder) {
  const { name, version, license, author } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const person = typeof author === "object" ? author.name : author;
  return {
    name,
    version,
    licence: license,
    authors: person ? [person] : [],
    source: `https://www.npmjs.com/package/${name}/v/${version}`,
    texts: licenceTexts(folder, []),
    parts: ["scripts"],
  };
}

function licenceTexts(folder, more) {
  const files = new Set([...readdirSync(folder).filter((file) => LICENCE_FILE.test(file)), ...more]);
  return [...files]
    .map((file) => join(folder, file))
    .filter((file) => existsSync(file))
    .flatMap((file) => {
      try {
        return [readFileSync(file, "utf8")];
      } catch (error) {
        if (error.code === "EISDIR") return readdirSync(file).map((inner) => readFileSync(join(file, inner), "utf8"));
        throw error;
      }
    });
}

function format(works) {
  const numbers = new Map(); // Of each different text; line breaks and blanks make none.
  const texts = [];
  const number = (text) => {
    const words = text.replace(/\s+/g, " ").trim();
    if (!numbers.has(words)) {
      texts.push(text.replace(/\r\n?/g, "\n").trimEnd());
      numbers.set(words, texts.length);
    }
    return numbers.get(words);
  };
  const entries = works.map((work) => {
    const { name, version, licence, authors, source, parts } = work;
    const given = work.texts.filter((text) => text.trim() !== "");
    const holders = authors.length > 0 ? authors.join(", ") : `the authors of ${name}`;
    const all = given.length > 0 ? given : accept(licence).map((id) => standardText(id, holders));
    const where = given.length > 0 ? "texts" : "names its licence without a text; the standard text is";
    return [
      `### ${name} ${version}`,
      `${licence}${authors.length > 0 ? ` · ${authors.join(", ")}` : ""}  `,
      `in ${parts.join(" and ")} · source, unchanged: ${source} · ${where} ${[...new Set(all.map(number))].join(", ")}`,
    ].join("\n");
  });
  return [
    "# Third-party notices",
    "The npm package `samlora` contains compiled code of the works below. Each is used under the licence that it names; where it",
    "offers a choice, under any one of them. The numbers lead to the licence texts at the end.",
    "",
    ...entries.map((entry) => `${entry}\n`),
    "# Licence texts",
    ...texts.map((text, index) => `\n## Text ${index + 1}\n\n~~~~text\n${text}\n~~~~`),
    "",
  ].join("\n");
}
