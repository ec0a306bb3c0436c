// The map's legend: for every class its colour, whether it is drawn, its share of the view, and its threshold.

import type { ClassInfo } from "samlora";
import type { TileMask } from "samlora/maplibre";
import { element, formatShare, swatch } from "./page.ts";

export class MapLegend {
  /** Called when classes or thresholds have changed. */
  onChange: () => void = () => {};
  #classes: readonly ClassInfo[] = [];
  #hidden = new Set<number>();
  #thresholds = new Map<number, number>();
  #shares = new Map<number, HTMLElement>();

  setClasses(classes: readonly ClassInfo[]): void {
    this.#classes = classes;
    this.#hidden.clear();
    this.#shares = new Map();
    this.#thresholds = new Map(classes.filter((c) => c.index).map((c) => [c.index, c.threshold ?? 0]));
    element("map-legend").replaceChildren(...classes.map((c) => this.#item(c)));
    element("map-classes").hidden = classes.length === 0;
  }

  /** Indices of the classes that are drawn. */
  get classes(): number[] {
    return this.#classes.map((c) => c.index).filter((index) => index && !this.#hidden.has(index));
  }

  /** Least confidence by class index. */
  get thresholds(): Record<number, number> {
    return Object.fromEntries(this.#thresholds);
  }

  /** Shows how much of the finished tiles every class covers. */
  async setShares(masks: TileMask[]): Promise<void> {
    const { thresholds } = this;
    const shares = this.#shares;
    const counted = await Promise.all(masks.map((mask) => mask.stats(thresholds)));
    if (shares !== this.#shares) return; // Another model's by now.
    const pixels = new Map<number, number>();
    let all = 0;
    for (const stats of counted.flat()) {
      pixels.set(stats.index, (pixels.get(stats.index) ?? 0) + stats.pixels);
      all += stats.pixels;
    }
    for (const [index, share] of shares) share.textContent = all ? formatShare((pixels.get(index) ?? 0) / all) : "";
  }

  #item({ index, name, color }: ClassInfo): HTMLElement {
    const item = document.createElement("li");
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.disabled = index === 0; // Background is never painted.
    box.addEventListener("change", () => {
      if (box.checked) this.#hidden.delete(index);
      else this.#hidden.add(index);
      this.onChange();
    });
    const share = document.createElement("span");
    share.className = "share";
    this.#shares.set(index, share);
    label.append(
      box,
      swatch(color),
      Object.assign(document.createElement("span"), { className: "grow", textContent: name }),
    );
    item.append(label, share);
    if (index) item.append(this.#threshold(index, name));
    return item;
  }

  #threshold(index: number, name: string): HTMLElement {
    const row = document.createElement("label");
    row.className = "slider threshold";
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: "0", max: "95", step: "5" });
    slider.setAttribute("aria-label", `Least confidence of ${name}, in percent`);
    const value = document.createElement("output");
    const show = () => (value.textContent = `${slider.value} %`);
    slider.value = String(Math.round((this.#thresholds.get(index) ?? 0) * 100));
    show();
    slider.addEventListener("input", () => {
      this.#thresholds.set(index, slider.valueAsNumber / 100);
      show();
      this.onChange();
    });
    row.append("at least", slider, value);
    return row;
  }
}
