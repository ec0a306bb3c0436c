// The bindings as src/web.rs declares them, so that the types check before wasm has been built.

declare module "*/samlora.js" {
  export default function init(how: { module_or_path: Response }): Promise<unknown>;
  /** Where the module itself is; added by the build. */
  export function address(): URL;
  export function version(): string;
  export function openDevice(device: string): Promise<void>;
  /** In the GPU's build. */
  export function tellSoftware(isSoftware: boolean): void;
  /** In the GPU's build. */
  export function checkKernels(device: string, seed: number, rounds: number): Promise<any>;
  export function selfTest(device: string): Promise<Record<string, Float32Array>>;

  export class Segmenter {
    private constructor();
    static load(
      read: (file: string, limit: number) => Promise<Uint8Array>,
      name: string,
      device: string,
    ): Promise<Segmenter>;
    loadAdapter(read: (file: string, limit: number) => Promise<Uint8Array>, name: string): Promise<Segmenter>;
    info(): any;
    segment(
      rgba: Uint8ClampedArray,
      width: number,
      height: number,
      options: { probabilities?: boolean; thresholds?: [number, number][]; minPixels?: number },
      pause: () => Promise<void> | void,
    ): Promise<Segmentation>;
    logits(rgba: Uint8ClampedArray, width: number, height: number): Promise<any>;
    refine(
      classMask: Uint8Array,
      confidenceMask: Uint8Array,
      width: number,
      height: number,
      options: { thresholds?: [number, number][]; minPixels?: number; part?: [number, number, number, number] },
    ): Segmentation;
    overlay(
      classMask: Uint8Array,
      width: number,
      height: number,
      options: { opacity?: number; outline?: boolean; classes?: readonly number[] },
    ): Uint8ClampedArray;
    polygons(
      classMask: Uint8Array,
      confidenceMask: Uint8Array,
      width: number,
      height: number,
      options: {
        minPixels?: number;
        tolerance?: number;
        tile?: { z: number; x: number; y: number };
        classes?: readonly number[];
      },
    ): string;
    free(): void;
  }

  export class Segmentation {
    private constructor();
    readonly width: number;
    readonly height: number;
    classMask(): Uint8Array;
    confidenceMask(): Uint8Array;
    probabilities(): Uint8Array | undefined;
    timings(): any;
    stats(): any;
    free(): void;
  }
}
