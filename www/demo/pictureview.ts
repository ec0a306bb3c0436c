// The picture view: one picture, its mask and confidence side by side, the probe and the exports.

import { NO_DATA, type Segmentation, type Segmenter } from "samlora";
import { clearError, handle, showError } from "./errors.ts";
import { Legend } from "./legend.ts";
import { element, fillFacts, formatShare, formatTime, offerDownload } from "./page.ts";
import { decode, type Picture } from "./picture.ts";
import { encodeMask } from "./png.ts";
import { Views } from "./views.ts";

export class PictureView {
  #legend = new Legend();
  #views = new Views();
  #model: Segmenter | undefined;
  #picture: Picture | undefined;
  #result: Segmentation | undefined;

  constructor() {
    this.#legend.onToggle = () => handle(() => this.#repaint());
    this.#views.onProbe = ({ x, y, classIndex, confidence }) => {
      const place = `column ${x}, row ${y}`;
      const name = this.#model?.info.classes.find((c) => c.index === classIndex)?.name ?? `class ${classIndex}`;
      element("probe").textContent =
        classIndex === NO_DATA ? `no data, ${place}` : `${name}, confidence ${formatShare(confidence)}, ${place}`;
      this.#legend.mark(classIndex);
    };
    element("again").addEventListener("click", () => handle(() => this.#segment()));
    element("export-geojson").addEventListener("click", () =>
      handle(async () => {
        if (!this.#result || !this.#picture) return;
        const text = JSON.stringify(await this.#result.toGeoJSON());
        offerDownload(new Blob([text], { type: "application/geo+json" }), `${this.#picture.name}.geojson`);
      }),
    );
    element("export-mask").addEventListener("click", () =>
      handle(async () => {
        if (!this.#result || !this.#picture || !this.#model) return;
        const { classMask, width, height } = this.#result;
        offerDownload(
          await encodeMask(classMask, width, height, this.#model.info.classes),
          `${this.#picture.name}.classes.png`,
        );
      }),
    );
  }

  async setModel(model: Segmenter | undefined): Promise<void> {
    this.#model = model;
    this.#clearResult();
    if (!model) return say("No model is loaded.");
    this.#legend.setClasses(model.info.classes);
    say(this.#picture ? "" : "Open a picture.");
    if (this.#picture) await this.#segment();
  }

  async open(next: Picture): Promise<void> {
    clearError();
    const bitmap = await decode(next.blob);
    this.#picture = next;
    this.#clearResult();
    this.#views.showPicture(bitmap);
    bitmap.close();
    if (this.#model) await this.#segment();
    else say("Load a model.");
  }

  async #segment(): Promise<void> {
    const [picture, model] = [this.#picture, this.#model];
    if (!model || !picture) return;
    clearError();
    element<HTMLButtonElement>("again").disabled = true;
    say("Segmenting…");
    const isCurrent = () => picture === this.#picture && model === this.#model; // Nothing newer is on its way.
    try {
      const found = await model.segment(picture.blob);
      if (!isCurrent()) return;
      this.#result = found;
      this.#views.showResult(found);
      await this.#repaint();
      if (!isCurrent()) return;
      this.#legend.setStats(found.stats());
      showTimings(found);
      element("details").hidden = false;
      say(`${found.width} × ${found.height} pixels in ${formatTime(found.timings.total)}.`);
    } catch (error) {
      if (!isCurrent()) return;
      say("");
      showError(error);
    } finally {
      element<HTMLButtonElement>("again").disabled = false;
    }
  }

  #clearResult(): void {
    this.#result = undefined;
    this.#views.clearResult();
    this.#legend.clearStats();
    element("details").hidden = true;
  }

  async #repaint(): Promise<void> {
    const result = this.#result;
    const { classes } = this.#legend;
    const colours = await result?.toImageData({ outline: true, classes });
    // Another picture, or another choice, may be shown by now.
    if (colours && result === this.#result && String(classes) === String(this.#legend.classes)) {
      this.#views.showOverlay(colours);
    }
  }
}

function say(text: string): void {
  element("status").textContent = text;
}

function showTimings({ timings }: Segmentation): void {
  fillFacts(element("timings"), [
    ["Prepare", formatTime(timings.preprocess)],
    ["Encode", formatTime(timings.encode)],
    ["Decode", formatTime(timings.decode)],
    ["Classify", formatTime(timings.classify)],
    ["Total", formatTime(timings.total)],
    ["Windows", String(timings.windows)],
  ]);
}
