// The two pictures, mask and confidence, and the probe that moves over both.

import { NO_DATA, type Segmentation } from "samlora";
import { element } from "./page.ts";

export interface Probe {
  x: number;
  y: number;
  classIndex: number;
  /** 0 to 1. */
  confidence: number;
}

// Viridis at quarters (matplotlib): even steps of lightness, readable without colour vision.
const RAMP = [
  [68, 1, 84],
  [59, 82, 139],
  [33, 145, 140],
  [94, 201, 98],
  [253, 231, 37],
] as const;

export class Views {
  onProbe: (probe: Probe) => void = () => {};
  #picture = element<HTMLCanvasElement>("picture");
  #overlay = element<HTMLCanvasElement>("overlay");
  #confidence = element<HTMLCanvasElement>("confidence");
  #stages = [element("mask-stage"), element("confidence-stage")];
  #result: Segmentation | undefined;
  #at = { x: 0, y: 0 };

  constructor() {
    const opacity = element<HTMLInputElement>("opacity");
    const setOpacity = () => (this.#overlay.style.opacity = String(opacity.valueAsNumber / 100));
    opacity.addEventListener("input", setOpacity);
    setOpacity();
    for (const stage of this.#stages) {
      const canvas = stage.querySelector("canvas")!;
      const follow = (event: PointerEvent) => {
        const box = canvas.getBoundingClientRect();
        // The canvas is letter-boxed where its height is capped.
        const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
        const left = box.left + (box.width - canvas.width * scale) / 2;
        const top = box.top + (box.height - canvas.height * scale) / 2;
        this.#moveTo(Math.floor((event.clientX - left) / scale), Math.floor((event.clientY - top) / scale));
      };
      stage.addEventListener("pointermove", follow);
      stage.addEventListener("pointerdown", follow);
      stage.addEventListener("keydown", (event) => this.#onKey(event));
    }
    addEventListener("resize", () => this.#drawCross());
  }

  /** Shows a picture that is not segmented yet. */
  showPicture(bitmap: ImageBitmap): void {
    for (const canvas of [this.#picture, this.#overlay, this.#confidence]) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
    }
    context(this.#picture).drawImage(bitmap, 0, 0);
    this.#at = { x: bitmap.width >> 1, y: bitmap.height >> 1 };
    this.clearResult();
    element("figures").hidden = false;
  }

  /** Takes the masks away; the picture stays. */
  clearResult(): void {
    this.#result = undefined;
    for (const canvas of [this.#overlay, this.#confidence])
      context(canvas).clearRect(0, 0, canvas.width, canvas.height);
    for (const cross of this.#crosses()) cross.hidden = true;
  }

  showResult(result: Segmentation): void {
    this.#result = result;
    const { width, height, classMask, confidenceMask } = result;
    const image = new ImageData(width, height);
    for (const [i, value] of confidenceMask.entries()) {
      const position = (value / 255) * (RAMP.length - 1);
      const low = RAMP[Math.min(Math.floor(position), RAMP.length - 2)]!;
      const high = RAMP[Math.min(Math.floor(position) + 1, RAMP.length - 1)]!;
      const part = position - Math.min(Math.floor(position), RAMP.length - 2);
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = low[c]! + part * (high[c]! - low[c]!);
      image.data[4 * i + 3] = classMask[i] === NO_DATA ? 0 : 255;
    }
    context(this.#confidence).putImageData(image, 0, 0);
  }

  /** Paints the class colours. */
  showOverlay(colours: ImageData): void {
    context(this.#overlay).putImageData(colours, 0, 0);
  }

  #onKey(event: KeyboardEvent): void {
    const step = event.shiftKey ? 10 : 1;
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [-step, 0],
      ArrowRight: [step, 0],
      ArrowUp: [0, -step],
      ArrowDown: [0, step],
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    this.#moveTo(this.#at.x + move[0], this.#at.y + move[1]);
  }

  #moveTo(x: number, y: number): void {
    const result = this.#result;
    if (!result) return;
    this.#at = { x: Math.max(0, Math.min(x, result.width - 1)), y: Math.max(0, Math.min(y, result.height - 1)) };
    this.#drawCross();
    const pixel = this.#at.y * result.width + this.#at.x;
    this.onProbe({
      ...this.#at,
      classIndex: result.classMask[pixel] ?? 0,
      confidence: (result.confidenceMask[pixel] ?? 0) / 255,
    });
  }

  #drawCross(): void {
    const { x, y } = this.#at;
    for (const [i, cross] of this.#crosses().entries()) {
      const canvas = this.#stages[i]!.querySelector("canvas")!;
      const scale = Math.min(canvas.clientWidth / canvas.width, canvas.clientHeight / canvas.height);
      cross.hidden = !this.#result;
      cross.style.left = `${canvas.offsetLeft + (canvas.clientWidth - canvas.width * scale) / 2 + (x + 0.5) * scale}px`;
      cross.style.top = `${canvas.offsetTop + (canvas.clientHeight - canvas.height * scale) / 2 + (y + 0.5) * scale}px`;
    }
  }

  #crosses(): HTMLElement[] {
    return this.#stages.map((stage) => stage.querySelector<HTMLElement>(".cross")!);
  }
}

function context(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const found = canvas.getContext("2d");
  if (!found) throw new Error("this browser gives no canvas");
  return found;
}
