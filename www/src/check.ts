// What a page hands in, checked where it comes in: whatever is wrong is an error of code `invalid` that names it.

import { SamloraError } from "./error.ts";
import type { ClassInfo } from "./types.ts";

/** The kind of an object, whichever window it comes from: `ImageBitmap`, `Response`, `Object`. */
export function kindOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice("[object ".length, -1);
}

/** What `value` is, in words. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === "string")
    return `the text ${JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value)}`;
  if (typeof value === "object") return `an object of type ${kindOf(value)}`;
  return typeof value === "number" ? `the number ${value}` : `a ${typeof value}`;
}

/** The options that were given to `call`: an object with no other names than `known`, or none at all. */
export function checkOptions<T extends object>(
  given: T | null | undefined,
  call: string,
  known: { [Name in keyof Required<T>]: Check },
): Partial<T> {
  if (given === null || given === undefined) return {};
  const names = Object.keys(known).join(", ");
  if (typeof given !== "object" || Array.isArray(given)) {
    throw new SamloraError(
      "invalid",
      `the options of ${call} are ${describe(given)}`,
      `give an object with some of: ${names}`,
    );
  }
  const found: [string, unknown][] = [];
  for (const [name, value] of Object.entries(given)) {
    const check = known[name as keyof T];
    if (!check) throw new SamloraError("invalid", `${call} has no option ${JSON.stringify(name)}`, `it has: ${names}`);
    if (value === undefined) continue; // As if it had not been given.
    const wanted = check(value);
    if (wanted)
      throw new SamloraError("invalid", `the option ${name} of ${call} is ${describe(value)}`, `give ${wanted}`);
    found.push([name, value]);
  }
  return Object.fromEntries(found) as Partial<T>;
}

/** What should have been given, or nothing where `value` is right. */
export type Check = (value: unknown) => string | undefined;

/** Checked elsewhere. */
export const anything: Check = () => undefined;
export const aBoolean: Check = (value) => (typeof value === "boolean" ? undefined : "true or false");
export const aFunction: Check = (value) => (typeof value === "function" ? undefined : "a function");
export const aText: Check = (value) => (typeof value === "string" ? undefined : "a text");
export const aSignal: Check = (value) => (kindOf(value) === "AbortSignal" ? undefined : "an AbortSignal");

export const oneOf =
  (...texts: string[]): Check =>
  (value) =>
    texts.includes(value as string) ? undefined : texts.map((text) => JSON.stringify(text)).join(" or ");

export const wholeNumber =
  (least = 0): Check =>
  (value) =>
    Number.isSafeInteger(value) && (value as number) >= least ? undefined : `a whole number from ${least}`;

export const numberFrom =
  (least: number, most = Infinity): Check =>
  (value) =>
    typeof value === "number" && Number.isFinite(value) && value >= least && value <= most
      ? undefined
      : `a number from ${least}${most < Infinity ? ` to ${most}` : ""}`;

export const indices: Check = (value) =>
  Array.isArray(value) && value.every((index) => !wholeNumber()(index) && index < 256)
    ? undefined
    : "a list of class indices";

/** An object whose members are whole numbers from 0 that 32 bits hold. */
export const numbersOf =
  (...names: string[]): Check =>
  (value) => {
    const numbers = value as Record<string, unknown> | null;
    const right =
      typeof value === "object" &&
      names.every((name) => !wholeNumber()(numbers?.[name]) && (numbers?.[name] as number) < 2 ** 32);
    return right ? undefined : `{ ${names.join(", ")} }, whole numbers from 0`;
  };

/** Thresholds by class index; they may name classes by name or index. */
export function byIndex(thresholds: unknown, classes: readonly ClassInfo[]): Record<number, number> {
  const names = classes.map(({ name }) => name).join(", ");
  if (typeof thresholds !== "object" || thresholds === null || Array.isArray(thresholds)) {
    throw new SamloraError(
      "invalid",
      `the thresholds are ${describe(thresholds)}`,
      `give numbers from 0 to 1 by class: ${names}`,
    );
  }
  const found = Object.entries(thresholds).map(([key, threshold]) => {
    const named = classes.find(({ name, index }) => name === key || String(index) === key);
    if (named && !numberFrom(0, 1)(threshold)) return [named.index, threshold as number];
    const message = named
      ? `the threshold of class ${key} is ${describe(threshold)}`
      : `there is no class ${JSON.stringify(key)}`;
    throw new SamloraError("invalid", message, `give a number from 0 to 1 for one of: ${names}`);
  });
  return Object.fromEntries(found);
}
