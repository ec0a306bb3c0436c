// Takes burn's shader compiler out of the GPU's wasm, which is half of it.
//
// burn's runtime can translate kernels written in Rust to WGSL. This crate hands it WGSL, so that nothing is ever translated, but the
// compiler's operations and types register themselves in static constructors, which no linker leaves out. Here the constructors become
// empty, and what only a translation calls becomes a trap; wasm-opt then leaves out what nothing else calls. For each kernel the runtime
// still makes the same empty program of the compiler's: one launch, as any test of the browser's GPU does, shows that no trap is on its way.
//
// Functions are found by their names, as wasm-bindgen writes them: burn's versions are pinned in Cargo.toml, and a pattern that finds
// nothing is an error.

const HASH = "(::h[0-9a-f]{16})?$";
const COMPILER = "(pliron|cubecl_(core|ir|opt|wgpu))";

/** Constructors that add to a list of what the compiler knows. */
const EMPTIED = [`^${COMPILER}::.*::__ctor${HASH}`];

const TRAPS = [
  // From an operation or a type to one of its interfaces.
  `^${COMPILER}::.*::cast_to_trait${HASH}`,
  // Reading programs as text, and writing them.
  "^<.* as pliron::parsable::Parsable>::",
  "^pliron::(parsable|printable|irfmt::parsers)::",
  "^<.* as pliron::printable::Printable>::",
  "^<?combine::",
  // Checking them.
  "^<.* as pliron::common_traits::Verify>::",
  `^<?${COMPILER}::.*::(verify|verify_interfaces|verify_symbol_uses)${HASH}`,
  // Operations, types and attributes, whatever they are asked.
  "^<cubecl_ir::dialect::.* as (pliron|cubecl_ir|cubecl_core)::",
  "^<cubecl_ir::(types|attributes)::.* as pliron::",
  "^pliron::(op::Op|attribute::Attribute|type::Type|dialect::Dialect)::register",
  // Computing with constants, and all other optimisation.
  "^<?rustc_apfloat::",
  "^<?(pliron::opts|cubecl_opt|cubecl_core::post_processing)::",
  "^<.* as (pliron::opts|pliron::pass|cubecl_core::post_processing)::",
  // Writing WGSL.
  "^<?cubecl_wgpu::compiler::wgsl::",
];

/** Bodies without locals: nothing, and `unreachable`, which is of any type. */
const NOTHING = Buffer.from([2, 0, 0x0b]);
const TRAP = Buffer.from([3, 0, 0x00, 0x0b]);

const IMPORTS = 2;
const CODE = 10;
const CUSTOM = 0;

/** The module without the compiler and without names. */
export function prune(wasm, { emptied = EMPTIED, traps = TRAPS } = {}) {
  const reader = new Reader(wasm);
  const sections = [...reader.sections()];
  const names = functionNames(reader, sections);
  const patterns = [
    ...emptied.map((pattern) => ({ pattern: new RegExp(pattern), body: NOTHING, found: 0 })),
    ...traps.map((pattern) => ({ pattern: new RegExp(pattern), body: TRAP, found: 0 })),
  ];
  const out = [wasm.subarray(0, 8)];
  for (const section of sections) {
    if (section.name === "name") continue;
    if (section.id !== CODE) {
      out.push(wasm.subarray(section.at, section.end));
      continue;
    }
    reader.at = section.start;
    const count = reader.number();
    const bodies = [encode(count)];
    for (let index = 0; index < count; index++) {
      const start = reader.at;
      reader.skip(reader.number());
      const hit = patterns.find(({ pattern }) => pattern.test(names[index] ?? ""));
      if (hit) hit.found += 1;
      bodies.push(hit ? hit.body : wasm.subarray(start, reader.at));
    }
    const content = Buffer.concat(bodies);
    out.push(Buffer.from([CODE]), encode(content.length), content);
  }
  const missing = patterns.filter(({ found }) => found === 0).map(({ pattern }) => pattern.source);
  if (missing.length) throw new Error(`no function of the wasm has such a name: ${missing.join(", ")}`);
  return Buffer.concat(out);
}

/** The names of the functions that have a body, by their place in the code. */
function functionNames(reader, sections) {
  const imported = importedFunctions(
    reader,
    sections.find(({ id }) => id === IMPORTS),
  );
  const names = [];
  const section = sections.find(({ name }) => name === "name");
  if (!section) throw new Error("the wasm has no names");
  for (reader.at = section.start; reader.at < section.end; ) {
    const kind = reader.byte();
    const end = reader.number() + reader.at;
    if (kind === 1) {
      for (let count = reader.number(); count > 0; count--) {
        const index = reader.number();
        names[index - imported] = reader.text();
      }
    }
    reader.at = end;
  }
  return names;
}

function importedFunctions(reader, section) {
  if (!section) return 0;
  let functions = 0;
  reader.at = section.start;
  for (let count = reader.number(); count > 0; count--) {
    reader.text();
    reader.text();
    const kind = reader.byte();
    if (kind === 0) {
      reader.number();
      functions += 1;
    } else if (kind === 1 || kind === 2) {
      // A table has a type, a memory none; both have limits.
      if (kind === 1) reader.byte();
      const hasMost = reader.byte() & 1;
      reader.number();
      if (hasMost) reader.number();
    } else {
      // A global: its type, and whether it changes.
      reader.skip(2);
    }
  }
  return functions;
}

class Reader {
  at = 0;

  constructor(bytes) {
    this.bytes = bytes;
  }

  byte() {
    return this.bytes[this.at++];
  }

  /** LEB128, unsigned. */
  number() {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.byte();
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  }

  skip(count) {
    this.at += count;
  }

  text() {
    const length = this.number();
    const text = this.bytes.toString("utf8", this.at, this.at + length);
    this.skip(length);
    return text;
  }

  *sections() {
    for (this.at = 8; this.at < this.bytes.length; ) {
      const at = this.at;
      const id = this.byte();
      const end = this.number() + this.at;
      let start = this.at;
      let name = "";
      if (id === CUSTOM) {
        name = this.text();
        start = this.at;
      }
      yield { id, name, at, start, end };
      this.at = end;
    }
  }
}

function encode(number) {
  const bytes = [];
  for (let rest = number; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) + 128);
  }
}
