// The page's elements by their id, and the small things done to them everywhere.

/** The element with this id; the page is broken without it. */
export function element<E extends HTMLElement = HTMLElement>(id: string): E {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as E;
}

/** Fills a `<dl>` with terms and their descriptions. */
export function fillFacts(list: HTMLElement, facts: Iterable<readonly [string, string]>): void {
  list.replaceChildren(
    ...[...facts].map(([term, description]) => {
      const pair = document.createElement("div");
      const dt = document.createElement("dt");
      const dd = document.createElement("dd");
      dt.textContent = term;
      dd.textContent = description;
      pair.append(dt, dd);
      return pair;
    }),
  );
}

/** A spot of a class's colour, sRGB 0 to 255. */
export function swatch(color: readonly number[]): HTMLElement {
  const spot = Object.assign(document.createElement("span"), { className: "swatch" });
  spot.style.backgroundColor = `rgb(${color.join(" ")})`;
  return spot;
}

/** Lets the user keep `blob` as a file. */
export function offerDownload(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function formatBytes(bytes: number): string {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

export function formatTime(milliseconds: number): string {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(2)} s`;
  return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
}

export function formatShare(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
