// The class that pages use: the browser's types around an engine.

import type { Engine, SegmentReply } from "./engine.ts";
import { SamloraError } from "./error.ts";
import { readPixels } from "./image.ts";
import { LocalEngine } from "./local.ts";
import { RemoteEngine } from "./remote.ts";
import { normalise } from "./source.ts";
import type {
  ClassStats,
  GeoJSONFeatureCollection,
  ImageInput,
  LoadOptions,
  Logits,
  OverlayOptions,
  PackageInput,
  PolygonOptions,
  Segmentation,
  SegmenterInfo,
  SegmentOptions,
} from "./types.ts";

/** A loaded model. */
export class Segmenter {
  readonly info: SegmenterInfo;
  #engine: Engine;
  #disposed = false;

  private constructor(engine: Engine, info: SegmenterInfo) {
    this.#engine = engine;
    this.info = info;
  }

  /** Loads the package at `input` and makes it ready on the chosen device. */
  static async load(input: PackageInput, options: LoadOptions = {}): Promise<Segmenter> {
    const { device = "auto", worker = true, signal, onProgress = () => {} } = options;
    signal?.throwIfAborted();
    if (!["auto", "gpu", "cpu"].includes(device)) {
      throw new SamloraError("invalid", `there is no device ${JSON.stringify(device)}`, 'use "auto", "gpu" or "cpu"');
    }
    const source = normalise(input);
    const engine = worker ? new RemoteEngine() : new LocalEngine();
    try {
      return new Segmenter(engine, await engine.load({ source, device }, onProgress, signal));
    } catch (error) {
      engine.close();
      throw signal?.aborted ? signal.reason : SamloraError.from(error);
    }
  }

  /** The class and confidence of every pixel of `image`. */
  async segment(image: ImageInput, options: SegmentOptions = {}): Promise<Segmentation> {
    const { probabilities = false, signal } = options;
    signal?.throwIfAborted();
    const pixels = await readPixels(image);
    const reply = await this.#call((engine) => engine.segment({ pixels, probabilities }, signal), signal);
    return new Result(reply, this.#call);
  }

  /** Low-resolution logits of one input window: for tests, and for those who decide by themselves. */
  async logits(image: ImageInput): Promise<Logits> {
    const pixels = await readPixels(image);
    return this.#call((engine) => engine.logits(pixels));
  }

  /** Gives all memory back; calls that wait are rejected with code `disposed`. */
  dispose(): void {
    this.#disposed = true;
    this.#engine.close();
  }

  #call: Call = async (work, signal) => {
    if (this.#disposed) throw new SamloraError("disposed", "this segmenter was disposed", "load the model again");
    try {
      return await work(this.#engine);
    } catch (error) {
      throw signal?.aborted ? signal.reason : SamloraError.from(error);
    }
  };
}

type Call = <T>(work: (engine: Engine) => Promise<T>, signal?: AbortSignal) => Promise<T>;

class Result implements Segmentation {
  readonly width: number;
  readonly height: number;
  readonly classMask: Uint8Array;
  readonly confidenceMask: Uint8Array;
  readonly probabilities?: Uint8Array;
  readonly timings: Segmentation["timings"];
  #stats: ClassStats[];
  #call: Call;

  constructor(reply: SegmentReply, call: Call) {
    this.width = reply.width;
    this.height = reply.height;
    this.classMask = reply.classMask;
    this.confidenceMask = reply.confidenceMask;
    if (reply.probabilities) this.probabilities = reply.probabilities;
    this.timings = reply.timings;
    this.#stats = reply.stats;
    this.#call = call;
  }

  async toImageData(options: OverlayOptions = {}): Promise<ImageData> {
    const rgba = await this.#call((engine) => engine.overlay({ masks: this.#masks(), options }));
    return new ImageData(rgba as Uint8ClampedArray<ArrayBuffer>, this.width, this.height);
  }

  async toGeoJSON(options: PolygonOptions = {}): Promise<GeoJSONFeatureCollection> {
    return JSON.parse(await this.#call((engine) => engine.polygons({ masks: this.#masks(), options })));
  }

  stats(): ClassStats[] {
    return structuredClone(this.#stats);
  }

  #masks() {
    const { width, height, classMask, confidenceMask } = this;
    return { width, height, classMask, confidenceMask };
  }
}
