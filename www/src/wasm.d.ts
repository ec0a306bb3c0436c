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
    /** `limits`: class index and least confidence, in turn. */
    segment(
      rgba: Uint8ClampedArray,
      width: number,
      height: number,
      probabilities: boolean,
      limits: Float32Array,
      minPixels: number,
      pause: () => Promise<void> | void,
    ): Promise<Segmentation>;
    logits(rgba: Uint8ClampedArray, width: number, height: number): Promise<any>;
    /** `part`: column, row, width, height. */
    refine(
      classMask: Uint8Array,
      confidenceMask: Uint8Array,
      width: number,
      height: number,
      limits: Float32Array,
      minPixels: number,
      part?: Uint32Array | null,
    ): Segmentation;
    overlay(
      classMask: Uint8Array,
      width: number,
      height: number,
      opacity: number,
      outline: boolean,
      classes?: Uint8Array | null,
    ): Uint8ClampedArray;
    /** `tile`: z, x, y. */
    polygons(
      classMask: Uint8Array,
      confidenceMask: Uint8Array,
      width: number,
      height: number,
      minPixels: number,
      tolerance: number,
      tile?: Uint32Array | null,
      classes?: Uint8Array | null,
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
