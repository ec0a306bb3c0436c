// The public types. This module imports nothing, so that every other may import it.

/** Where a model runs. */
export type Device = "gpu" | "cpu";

/** One class of a mask; index 0 is background. */
export interface ClassInfo {
  /** Value of this class in a class mask. */
  index: number;
  name: string;
  /** sRGB, each 0 to 255. */
  color: [number, number, number];
  /** Confidence (0 to 1) below which a pixel of this class becomes background. */
  threshold?: number;
}

/** What was loaded and where it runs. */
export interface SegmenterInfo {
  /** The package's name. */
  name: string;
  classes: ClassInfo[];
  device: Device;
  /** The GPU as the browser names it; absent on the CPU. */
  adapter?: AdapterInfo;
  /** Name of the backbone. */
  backbone: string;
  /** Numbers in the model. */
  parameters: number;
  /** How the weights are stored: `f32`, `f16`, `q8` or `q4`. */
  scheme: string;
  /** Side in pixels of the square that the network sees. */
  inputSize: number;
  /** Side in pixels of the tile inside it; the rest is halo. */
  tileSize: number;
  /** Metres per pixel that the model was trained for, if it says. */
  groundResolution?: number;
  licence?: string;
  attribution?: string;
  /** `merged` (a whole model), `base` (classes come with adapters) or `adapter` (on its base). */
  kind: "merged" | "base" | "adapter";
  /** Numbers that the device computes with. */
  precision: "f32" | "f16";
  /** Most images that are segmented at the same time: workers of the CPU device; 1 on a GPU. */
  workers: number;
  /** Whether the whole package is in this browser's storage, so that it loads without network. */
  stored: boolean;
  /** Bytes of the package: manifest and shards. */
  bytes: number;
  /**
   * SHA-256 of the package's manifest, which names the hash of every shard (and of an adapter's base); absent where the page has
   * no `crypto.subtle` (no https).
   */
  hash?: string;
  /** Milliseconds from the call of `load` until the model was ready. */
  loadTime: number;
}

/** The parts of WebGPU's `GPUAdapterInfo` and limits that decide what a model can do. */
export interface AdapterInfo {
  vendor: string;
  architecture: string;
  description: string;
  /** A software adapter, slower than the CPU device. */
  isFallback: boolean;
  maxStorageBufferBindingSize: number;
  maxBufferSize: number;
  shaderF16: boolean;
  /** Every limit by its name in WebGPU. */
  limits: Record<string, number>;
  /** Optional features by their names in WebGPU. */
  features: string[];
}

/** How far a stage of the network is off on the GPU. */
export interface StageTest {
  stage: string;
  /** Distance from the CPU's values over their length; infinite where numbers are missing. */
  error: number;
}

/** What `doctor` found; as a string, the lines of a report. */
export interface DoctorReport {
  userAgent: string;
  cores: number;
  secureContext: boolean;
  crossOriginIsolated: boolean;
  /** Absent where the browser offers none. */
  adapter?: AdapterInfo;
  /** Each stage of the network on the GPU beside the CPU. */
  selfTest: StageTest[];
  passed: boolean;
  /** Whether the GPU passed in 16 bits; absent where that was not tried. */
  half?: boolean;
  /** Where a model runs that is loaded with device `auto`, and why. */
  plan: Device;
  reason: string;
  storage?: { usedBytes: number; quotaBytes: number };
  /** Milliseconds of the given model: its load, the first window, and the median of later ones. */
  model?: {
    name: string;
    device: Device;
    precision: string;
    workers: number;
    loadTime: number;
    firstTile: number;
    tile: number;
  };
  text: string;
  toString(): string;
}

/**
 * WebGPU's `GPUDevice`, by what tells it apart: TypeScript's own library has no WebGPU, and a page that hands in no device
 * should need no package of types for it.
 */
export interface GPUDeviceLike {
  readonly features: { has(name: string): boolean };
  readonly limits: { readonly maxBufferSize: number; readonly maxStorageBufferBindingSize: number };
  readonly lost: Promise<{ readonly message: string }>;
  readonly queue: object;
  destroy(): void;
}

/** Bytes of the package that have arrived. */
export interface LoadProgress {
  loadedBytes: number;
  totalBytes: number;
}

/**
 * A model package: the URL of its folder or of its `.samlora` file, the files of a dropped or chosen folder, a folder's
 * handle, a `.samlora` file as `Blob` or bytes, or a function that gives the bytes of a named file of the package.
 */
export type PackageInput =
  | string
  | URL
  | Iterable<File>
  | FileSystemDirectoryHandle
  | Blob
  | ArrayBuffer
  | Uint8Array
  | ReadFile;

/** Gives the bytes of one file of a package (`samlora.json` or a shard). */
export type ReadFile = (file: string, options: ReadOptions) => Promise<Uint8Array>;

export interface ReadOptions {
  /** The most bytes that the file may have; there is no need to read more. */
  limit: number;
  signal?: AbortSignal;
}

/** A package in this browser's storage. */
export interface StoredPackage {
  /** The address that it was loaded from. */
  url: string;
  /** The package's name. */
  name: string;
  /** Bytes of it that are in storage, with those that it shares with other packages. */
  bytes: number;
  /** Whether all of it is there, so that it loads without network. */
  complete: boolean;
  /** When it was last loaded. */
  lastUsed: Date;
}

/** Room in this browser's storage, in bytes. */
export interface StorageSize {
  /** What this package keeps there; what several model packages share is counted once. */
  bytes: number;
  /** The most that the page's origin may keep, if the browser tells. */
  quota?: number;
  /** What of it is left. */
  available?: number;
}

export interface LoadOptions {
  /**
   * `auto` (the default) takes a hardware GPU that this browser really offers and that passes its self-test, else the CPU.
   * A page's own `GPUDevice` is used as it is; the model then runs on the calling thread.
   */
  device?: Device | "auto" | GPUDeviceLike;
  /** `auto` (the default) computes in 16 bits on a GPU that can and passes its self-test in them, else in 32; `f32` never in 16. */
  precision?: "auto" | "f32";
  /** Run in a worker, so that the page stays responsive (default), or on the calling thread. */
  worker?: boolean;
  /** Most workers of the CPU device, each with a copy of the model; by cores and the model's size unless given. */
  workers?: number;
  /** The base of an adapter package: its package, or a segmenter that has it loaded, whose device and memory are shared. */
  base?: LoadedModel | PackageInput;
  /** Keep downloaded packages in this browser's storage, and take them from there (default). */
  store?: boolean;
  /** Stops the download; `load` then rejects with the signal's reason. */
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
  /** Tells of what happens beside the calls, while loading and as long as the segmenter lives. */
  onEvent?: (event: SegmenterEvent) => void;
}

/** Something that a page may want to tell its user; no call fails because of it. */
export type SegmenterEvent =
  /** The GPU was lost or failed; the model is loaded anew and the interrupted image segmented again. */
  | { type: "lost"; device: Device; message: string }
  /** The model runs again, on `device`. */
  | { type: "recovered"; device: Device }
  /** The model does not run where it was wished for, or no longer: `device` is where it runs from now on. */
  | { type: "fallback"; device: Device; message: string }
  /** The package could not be kept in storage (no room, or a private window) and is in memory alone. */
  | { type: "unstored"; message: string };

/** A model that is ready; what `Segmenter.load` gives. */
export interface LoadedModel {
  readonly info: SegmenterInfo;
  segment(image: ImageInput, options?: SegmentOptions): Promise<Segmentation>;
  logits(image: ImageInput, options?: { signal?: AbortSignal }): Promise<Logits>;
  refine(planes: MaskPlanes, options?: RefineOptions): Promise<Segmentation>;
  dispose(): void;
}

/**
 * Anything with pixels. Those of alpha 0 hold no data: they get no class. Of a `Blob` and an `<img>` the network gets the
 * file's own samples, whatever its colour profile says; of all others what the browser shows.
 */
export type ImageInput =
  | ImageBitmap
  | ImageData
  | HTMLCanvasElement
  | OffscreenCanvas
  | HTMLImageElement
  | VideoFrame
  | Blob;

export interface SegmentOptions {
  /** Also return every class's probability. */
  probabilities?: boolean;
  /** Confidence (0 to 1) below which a pixel becomes background, by the class's name or index; instead of the package's. */
  thresholds?: Record<string | number, number>;
  /** Regions of fewer pixels take the class around them. */
  minPixels?: number;
  /** Stops the work within one layer's time; `segment` then rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Classes and confidences before thresholds, as a `Segmentation` has them: row-major, top row first. */
export interface MaskPlanes {
  width: number;
  height: number;
  classMask: Uint8Array;
  confidenceMask: Uint8Array;
}

/** What is made of masks without running the network again. */
export interface RefineOptions {
  /** As `segment` has it: the package's own unless given. */
  thresholds?: Record<string | number, number>;
  /** Regions of fewer pixels take the class around them. */
  minPixels?: number;
  /** Keep only this part of the picture; thresholds and small regions are those of the whole. */
  part?: Part;
}

/** A rectangle of pixels. */
export interface Part {
  left: number;
  top: number;
  width: number;
  height: number;
}

export interface OverlayOptions {
  /** Opacity of the classes, 0 to 1; 1 unless told otherwise. */
  opacity?: number;
  /** Draw the pixels along a class's edge darker. */
  outline?: boolean;
  /** Indices of the classes to draw; all but background unless given. */
  classes?: readonly number[];
}

export interface BlobOptions extends OverlayOptions {
  /** `image/png` (the default) or `image/webp`. */
  type?: string;
}

export interface PolygonOptions {
  /** Leave out regions of fewer pixels. */
  minPixels?: number;
  /** How far in pixels a simplified border may leave the true one; 0 (the default) keeps every pixel edge. */
  tolerance?: number;
  /** The place of the picture as a tile of the XYZ scheme: coordinates become longitude and latitude. */
  tile?: TileId;
  /** Indices of the classes to trace; all but background unless given. */
  classes?: readonly number[];
}

/** A tile of the XYZ scheme: x to the east, y to the south, `2 ** z` tiles a side. */
export interface TileId {
  z: number;
  x: number;
  y: number;
}

/** Milliseconds of each step. */
export interface Timings {
  /** Pixels to network input. */
  preprocess: number;
  /** Image encoder. */
  encode: number;
  /** Mask decoder. */
  decode: number;
  /** Full-size logits to class and confidence. */
  classify: number;
  total: number;
  /** Network inputs that the image was cut into. */
  windows: number;
}

/** How much of the mask one class covers. */
export interface ClassStats extends ClassInfo {
  pixels: number;
  /** Share of the pixels that hold data, 0 to 1. */
  share: number;
  /** Mean confidence of its pixels, 0 to 1; 0 if there are none. */
  meanConfidence: number;
}

/** The result for one image. All masks are row-major, `[height, width]`, top row first. */
export interface Segmentation {
  readonly width: number;
  readonly height: number;
  /** Class index of every pixel; 255 (`NO_DATA`) where the picture holds no data: neither class nor background. */
  readonly classMask: Uint8Array;
  /** Probability of that class, 0 to 255; 0 where there is no data. */
  readonly confidenceMask: Uint8Array;
  /** Probability of every class, 0 to 255, `[height, width, classes]`; only if asked for. */
  readonly probabilities?: Uint8Array;
  readonly timings: Timings;
  /** The mask in class colours; background is transparent. */
  toImageData(options?: OverlayOptions): Promise<ImageData>;
  /** The same as an encoded picture. */
  toBlob(options?: BlobOptions): Promise<Blob>;
  /**
   * Polygons of every class but background, with holes: in longitude and latitude if a `tile` is given, else in pixels
   * (x right, y down).
   */
  toGeoJSON(options?: PolygonOptions): Promise<GeoJSONFeatureCollection>;
  /** Area and mean confidence of every class, of the pixels that hold data. */
  stats(): ClassStats[];
  /**
   * A new result with thresholds applied, small regions taken away or a part cut out, without running the network again.
   * What a threshold has made background stays so: to try several, segment with thresholds of 0.
   */
  refine(options?: RefineOptions): Promise<Segmentation>;
}

/** Output of the network for one input window, calibrated where the package says how. */
export interface Logits {
  classes: number;
  height: number;
  width: number;
  /** `[classes, height, width]`. */
  values: Float32Array;
}

export interface GeoJSONFeatureCollection {
  type: "FeatureCollection";
  features: GeoJSONFeature[];
}

export interface GeoJSONFeature {
  type: "Feature";
  geometry: { type: "Polygon"; coordinates: number[][][] } | { type: "MultiPolygon"; coordinates: number[][][][] };
  properties: Record<string, unknown> | null;
}
