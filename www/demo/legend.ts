// The class table: colour, name, share and confidence, and which classes are shown.

import type { ClassInfo, ClassStats } from "samlora";
import { element, formatShare, swatch } from "./page.ts";

export class Legend {
  /** Called when a class was switched on or off. */
  onToggle: () => void = () => {};
  #table = element<HTMLTableElement>("legend");
  #body = this.#table.tBodies[0]!;
  #hidden = new Set<number>();
  #rows = new Map<number, HTMLTableRowElement>();

  setClasses(classes: ClassInfo[]): void {
    this.#hidden.clear();
    this.#rows.clear();
    this.#body.replaceChildren(...classes.map((c) => this.#row(c)));
    this.#table.hidden = false;
    element("classes-empty").hidden = true;
  }

  setStats(stats: ClassStats[]): void {
    for (const { index, pixels, share, meanConfidence } of stats) {
      const cells = this.#rows.get(index)?.cells;
      cells?.[1]?.replaceChildren(formatShare(share));
      cells?.[2]?.replaceChildren(pixels ? formatShare(meanConfidence) : "–");
    }
  }

  clearStats(): void {
    for (const row of this.#rows.values()) for (const cell of [...row.cells].slice(1)) cell.replaceChildren();
    this.mark(undefined);
  }

  /** Indices of the classes that are shown. */
  get classes(): number[] {
    return [...this.#rows.keys()].filter((index) => !this.#hidden.has(index));
  }

  /** Marks the class under the probe. */
  mark(index: number | undefined): void {
    for (const [of, row] of this.#rows) row.classList.toggle("probed", of === index);
  }

  #row({ index, name, color }: ClassInfo): HTMLTableRowElement {
    const row = document.createElement("tr");
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    if (index === 0) box.disabled = true; // Background is never painted.
    box.addEventListener("change", () => {
      if (box.checked) this.#hidden.delete(index);
      else this.#hidden.add(index);
      this.onToggle();
    });
    label.append(box, swatch(color), name);
    row.insertCell().append(label);
    for (let column = 0; column < 2; column++) row.insertCell().className = "number";
    this.#rows.set(index, row);
    return row;
  }
}
