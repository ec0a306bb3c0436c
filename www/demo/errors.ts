// The one place where the page tells of an error: what, and what to do about it.

import { isAbort, SamloraError } from "samlora";
import { element } from "./page.ts";

export function showError(thrown: unknown): void {
  if (isAbort(thrown)) return; // The user asked for it.
  const error = SamloraError.from(thrown);
  element("error-message").textContent = sentence(error.message);
  element("error-remedy").textContent = error instanceof SamloraError && error.remedy ? sentence(error.remedy) : "";
  element("error-code").textContent = error instanceof SamloraError ? error.code : error.name;
  element("error").hidden = false;
}

export function clearError(): void {
  element("error").hidden = true;
}

element("error-close").addEventListener("click", clearError);

function sentence(text: string): string {
  // An address or a file name at the start keeps its case.
  const first = /^[a-z]+[ ,]/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

/** Runs what a control started; its error is shown. */
export function handle(work: () => Promise<unknown> | undefined): void {
  Promise.resolve().then(work).catch(showError);
}
