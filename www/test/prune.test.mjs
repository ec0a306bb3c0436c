// Functions taken out of a module by their names (build/prune.mjs).

import assert from "node:assert/strict";
import { test } from "node:test";
import { prune } from "../build/prune.mjs";

const text = (value) => [value.length, ...Buffer.from(value)];
const section = (id, ...content) => [id, content.length, ...content];
const imported = (name, ...type) => [...text("m"), ...text(name), ...type];
const I32 = 0x7f;

/** A module that imports a function, a global and a memory, and has three functions: 7, what it imports, and 9. */
function module({ names = true } = {}) {
  const functions = ["imported", "kept", "pliron::list::__ctor::h0123456789abcdef", "combine::parse"];
  const entries = functions.flatMap((name, index) => [index, ...text(name)]);
  return Buffer.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, 2, 0x60, 0, 0, 0x60, 0, 1, I32),
    ...section(2, 3, ...imported("f", 0, 0), ...imported("g", 3, I32, 0), ...imported("n", 2, 1, 1, 2)),
    ...section(3, 3, 1, 0, 1),
    ...section(7, 3, ...text("a"), 0, 1, ...text("b"), 0, 2, ...text("c"), 0, 3),
    ...section(10, 3, ...[4, 0, 0x41, 7, 0x0b], ...[4, 0, 0x10, 0, 0x0b], ...[4, 0, 0x41, 9, 0x0b]),
    ...(names ? section(0, ...text("name"), 1, entries.length + 1, functions.length, ...entries) : []),
  ]);
}

/** Its exports, and how often it called what it imports. */
async function instance(bytes) {
  const calls = [];
  const m = {
    f: () => calls.push(1),
    g: new WebAssembly.Global({ value: "i32" }, 0),
    n: new WebAssembly.Memory({ initial: 1, maximum: 2 }),
  };
  const { instance } = await WebAssembly.instantiate(bytes, { m });
  return { ...instance.exports, calls };
}

const patterns = { emptied: ["::__ctor(::h[0-9a-f]{16})?$"], traps: ["^combine::"] };

test("a function of such a name is emptied or traps, and others stay", async () => {
  const before = await instance(module());
  before.b();
  assert.deepEqual([before.a(), before.calls.length, before.c()], [7, 1, 9]);
  const after = await instance(prune(module(), patterns));
  after.b();
  assert.deepEqual([after.a(), after.calls.length], [7, 0]);
  assert.throws(() => after.c(), /unreachable/);
});

test("names go, and a pattern without a function is an error", () => {
  assert.ok(!prune(module(), patterns).includes("combine"));
  assert.throws(() => prune(module(), { ...patterns, traps: ["^gone::"] }), /\^gone::/);
  assert.throws(() => prune(module({ names: false }), patterns), /no names/);
});
