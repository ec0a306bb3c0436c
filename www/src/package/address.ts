// Addresses of packages.

import { SamloraError } from "../error.ts";

/** The folder of a package, or its `.samlora` file. */
export interface Address {
  kind: "folder" | "archive";
  /** Absolute; a folder's path ends in a slash. */
  href: string;
}

/** Makes an address absolute, and one of the many that a folder has. */
export function addressOf(input: string | URL): Address {
  let url: URL;
  try {
    url = new URL(input, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (cause) {
    throw new SamloraError(
      "invalid",
      `${String(input)} is not an address`,
      "give the URL of the package's folder",
      cause,
    );
  }
  if (url.protocol === "blob:" || url.protocol === "data:") {
    const message = `a package cannot be loaded from an address that begins with ${url.protocol}`;
    throw new SamloraError("invalid", message, "give the Blob itself");
  }
  url.hash = "";
  if (/\.samlora$/i.test(url.pathname)) return { kind: "archive", href: url.href };
  // The folder, the folder without its slash and the manifest itself all name the package.
  url.pathname = url.pathname.replace(/(\/samlora\.json)?\/?$/, "/");
  return { kind: "folder", href: url.href };
}

/** The address of a file in a package's folder. */
export function fileUrl(base: string, file: string): string {
  const url = new URL(base); // Keeps a query such as an access token.
  url.pathname += file.split("/").map(encodeURIComponent).join("/");
  return url.href;
}
