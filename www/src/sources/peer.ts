// Libraries that a page installs beside this package, fetched when a source first needs them. Each is imported within a `try`, which
// tells bundlers that a page may do without it.

import { SamloraError } from "../error.ts";

/** The error where the library `name` is not there. */
export function lackingPeer(name: string, cause: unknown): SamloraError {
  const message = `the library ${name} could not be loaded`;
  const remedy = `npm install ${name}; a page without a bundler names it in an import map, or gives the module as the option library`;
  return new SamloraError("unsupported", message, remedy, cause);
}
