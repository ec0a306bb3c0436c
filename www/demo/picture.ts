// Pictures: bundled samples, and those at an address.

import { SamloraError } from "samlora";
import { element } from "./page.ts";

/** A picture with the name that its exports get. */
export interface Picture {
  blob: Blob;
  name: string;
}

/** Fetches the picture at `address`. */
export async function fetchPicture(address: string): Promise<Picture> {
  let response: Response;
  let url: URL;
  try {
    url = new URL(address, document.baseURI);
    response = await fetch(url);
  } catch (cause) {
    throw new SamloraError(
      "io",
      `${address}: no answer`,
      "check the address; a server on another site must allow this page to read it (CORS), else save the picture and open the file",
      cause,
    );
  }
  if (!response.ok) {
    const code = response.status === 404 ? "not_found" : "io";
    throw new SamloraError(
      code,
      `${address}: the server answered ${response.status} ${response.statusText}`.trimEnd(),
      "check the address",
    );
  }
  const name = url.pathname.split("/").pop() || "picture";
  return { blob: new File([await response.blob()], name), name: stem(name) };
}

/** The pixels of a picture file, for the screen. */
export async function decode(blob: Blob): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(blob);
  } catch (cause) {
    const name = blob instanceof File ? blob.name : "what was pasted";
    throw new SamloraError(
      "format",
      `${name} is not a picture that this browser can read`,
      "open a PNG, JPEG or WebP picture",
      cause,
    );
  }
}

/** The name without its extension. */
export function stem(name: string): string {
  return name.replace(/\.[^.]+$/, "") || "picture";
}

/** Addresses of the pictures that the demo was built with, if it has some: `samples/index.json` is a list of file names. */
export async function sampleAddresses(): Promise<string[]> {
  const names: unknown = await fetch("samples/index.json")
    .then(
      (r) => (r.ok ? r.json() : []),
      () => [],
    )
    .catch(() => []);
  const texts = Array.isArray(names) ? names.filter((name): name is string => typeof name === "string") : [];
  return texts.map((name) => `samples/${encodeURIComponent(name)}`);
}

/** Shows the sample pictures to choose from. */
export async function showSamples(onChoice: (address: string) => void): Promise<void> {
  const addresses = await sampleAddresses();
  const list = element("samples");
  for (const address of addresses) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    const image = document.createElement("img");
    image.src = address;
    image.alt = stem(decodeURIComponent(address.slice("samples/".length)));
    button.append(image);
    button.addEventListener("click", () => {
      for (const other of list.children) other.setAttribute("aria-pressed", String(other === button));
      onChoice(address);
    });
    list.append(button);
  }
  list.hidden = !addresses.length;
}
