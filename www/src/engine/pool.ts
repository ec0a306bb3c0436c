// Engines that are started as they are needed and replaced when they fail. On the CPU, images are segmented side by side in
// workers, each with a copy of the model; no shared memory and so no special headers. When a GPU or a worker fails, the
// model is loaded anew (from storage, if it is there) and the interrupted image segmented again; if that fails too, on the CPU.

import type {
  Engine,
  LoadRequest,
  LoadWatch,
  LogitsRequest,
  ModelId,
  OverlayRequest,
  PolygonRequest,
  RefineReply,
  RefineRequest,
  SegmentReply,
  SegmentRequest,
} from "./engine.ts";
import { disposed, SamloraError } from "../error.ts";
import type { Device, Logits, SegmenterEvent, SegmenterInfo } from "../types.ts";

export interface PoolOptions {
  /** Starts an engine; `onFailure` is called when it cannot be used any more. */
  start: (onFailure: (error: Error) => void) => Engine;
  /** Whether an engine started after a failed one gets a GPU device of its own. */
  renewsGpu: boolean;
  /** Most engines at once; by cores and the model's size unless given. */
  workers?: number | undefined;
}

/** A model that every engine of the pool may be asked to hold. */
interface Model {
  request: LoadRequest;
  info: SegmenterInfo;
  onEvent: (event: SegmenterEvent) => void;
  /** Unloaded by its owner; still needed to put adapters onto. */
  gone: boolean;
}

interface Member {
  engine: Engine;
  models: Set<ModelId>;
  busy: boolean;
  failure?: Error;
}

interface Job {
  model: ModelId;
  work: (engine: Engine) => Promise<void>;
  reject: (error: unknown) => void;
  signal: AbortSignal | undefined;
  failures: number;
}

/** Most workers that are started unless a page asks for more: each holds a copy of the model. */
const MOST_WORKERS = 4;
/** Memory that these copies may take together, in bytes. */
const MOST_MEMORY = 1 << 30;
/** Bytes that a parameter takes on the CPU: matrices stay packed, all else becomes floats. Measured of ViT-B, rounded up. */
const PARAMETER_BYTES: Record<string, number> = { q8: 1.2, q4: 0.7 };

export class Pool implements Engine {
  #options: PoolOptions;
  #members: Member[] = [];
  #models = new Map<ModelId, Model>();
  #queue: Job[] = [];
  #device: Device | undefined;
  #limit = 1;
  #closed = false;
  /** A failure was told of, and not yet that a model runs again. */
  #lost = false;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  async load(request: LoadRequest, watch: LoadWatch): Promise<SegmenterInfo> {
    const onEvent = watch.onEvent ?? (() => {});
    const member = this.#members.find(({ failure }) => !failure) ?? this.#start();
    const device = this.#device ?? request.device;
    if (request.baseModel !== undefined) await this.#ensure(member, request.baseModel);
    let info: SegmenterInfo;
    try {
      info = await member.engine.load({ ...request, device }, watch);
    } catch (error) {
      if (!isFailure(error) || device === "cpu" || this.#closed || !this.#options.renewsGpu) throw error;
      this.#discard(member);
      // The GPU failed in 16 bits, or went while the model was on its way: once more in 32, then on the CPU.
      if (request.precision === "auto") return this.load({ ...request, precision: "f32" }, watch);
      if (request.device !== "auto" && !member.failure) throw error;
      this.#stepDown(error.message, onEvent);
      return this.load(request, watch);
    }
    if (this.#closed) throw disposed();
    member.models.add(request.model);
    this.#device = info.device;
    if (info.device === "cpu") this.#limit = Math.max(this.#limit, this.#options.workers ?? workersFor(info));
    info.workers = info.device === "cpu" ? this.#limit : 1;
    this.#models.set(request.model, { request, info, onEvent, gone: false });
    return info;
  }

  segment(request: SegmentRequest, signal?: AbortSignal): Promise<SegmentReply> {
    return this.#run(request.model, (engine) => engine.segment(request, signal), signal);
  }

  logits(request: LogitsRequest, signal?: AbortSignal): Promise<Logits> {
    return this.#run(request.model, (engine) => engine.logits(request, signal), signal);
  }

  refine(request: RefineRequest): Promise<RefineReply> {
    return this.#beside(request.model, (engine) => engine.refine(request));
  }

  overlay(request: OverlayRequest): Promise<Uint8ClampedArray> {
    return this.#beside(request.model, (engine) => engine.overlay(request));
  }

  polygons(request: PolygonRequest): Promise<string> {
    return this.#beside(request.model, (engine) => engine.polygons(request));
  }

  unload(model: ModelId): void {
    const entry = this.#models.get(model);
    if (entry) entry.gone = true;
    for (const member of this.#members) {
      if (member.models.delete(model)) member.engine.unload(model);
    }
    const [dropped, kept] = partition(this.#queue, (job) => job.model === model);
    this.#queue = kept;
    for (const job of dropped) job.reject(disposed());
  }

  close(): void {
    this.#closed = true;
    for (const { engine } of this.#members) engine.close();
    this.#members = [];
    for (const job of this.#queue.splice(0)) job.reject(disposed());
  }

  /** Work on masks goes to a member that holds the model, even while that computes; to the queue where there is none. */
  async #beside<T>(model: ModelId, call: (engine: Engine) => Promise<T>): Promise<T> {
    if (this.#closed || this.#models.get(model)?.gone !== false) throw disposed();
    const members = this.#members.filter(({ models, failure }) => models.has(model) && !failure);
    const member = members.find(({ busy }) => !busy) ?? members[0];
    if (!member) return this.#run(model, call);
    try {
      return await call(member.engine);
    } catch (error) {
      // A member that fails is replaced; its successor takes the work.
      if (this.#closed || !isFailure(error) || this.#members.includes(member)) throw error;
      return this.#run(model, call);
    }
  }

  #run<T>(model: ModelId, call: (engine: Engine) => Promise<T>, signal?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#closed || this.#models.get(model)?.gone !== false) return reject(disposed());
      const work = (engine: Engine) => call(engine).then(resolve);
      const job: Job = { model, work, reject, signal, failures: 0 };
      signal?.addEventListener("abort", () => this.#abandon(job), { once: true });
      this.#queue.push(job);
      this.#pump();
    });
  }

  /** A job that still waits need not be run. */
  #abandon(job: Job): void {
    const place = this.#queue.indexOf(job);
    if (place >= 0) this.#queue.splice(place, 1);
    job.reject(job.signal?.reason);
  }

  /** Gives waiting jobs to idle members, and starts members as long as there may be more. */
  #pump(): void {
    while (this.#queue.length > 0 && !this.#closed) {
      const { model } = this.#queue[0]!;
      const idle = this.#members.filter(({ busy, failure }) => !busy && !failure);
      const member =
        idle.find(({ models }) => models.has(model)) ?? idle[0] ?? (this.#mayGrow() ? this.#start() : undefined);
      if (!member) return;
      void this.#give(member, this.#queue.shift()!);
    }
  }

  #mayGrow(): boolean {
    return this.#members.length < (this.#device === "cpu" ? this.#limit : 1);
  }

  async #give(member: Member, job: Job): Promise<void> {
    member.busy = true;
    const additional = member.models.size === 0 && this.#members.length > 1;
    let loaded = false;
    try {
      await this.#ensure(member, job.model);
      loaded = true;
      await job.work(member.engine);
    } catch (error) {
      if (this.#closed) job.reject(disposed());
      else if (job.signal?.aborted) job.reject(job.signal.reason);
      else if (additional && !loaded) {
        // No room or no network for one more copy: those that run must do.
        this.#discard(member);
        this.#limit = Math.max(1, this.#members.length);
        this.#queue.unshift(job);
      } else if (isFailure(error)) this.#recover(member, job, error);
      else job.reject(error);
    } finally {
      member.busy = false;
      this.#pump();
    }
  }

  /** Loads `model` onto a member that does not have it, its base first. */
  async #ensure(member: Member, model: ModelId): Promise<void> {
    if (member.models.has(model)) return;
    const entry = this.#models.get(model);
    if (!entry) throw disposed();
    const { baseModel } = entry.request;
    if (baseModel !== undefined) await this.#ensure(member, baseModel);
    // That a copy is not stored was said of the first one.
    const onEvent = (event: SegmenterEvent) => void (event.type !== "unstored" && entry.onEvent(event));
    const info = await member.engine.load(
      { ...entry.request, device: this.#device ?? entry.request.device },
      { onEvent },
    );
    member.models.add(model);
    if (baseModel !== undefined && this.#models.get(baseModel)?.gone) {
      member.models.delete(baseModel);
      member.engine.unload(baseModel);
    }
    if (entry.info.device !== info.device) {
      delete entry.info.adapter;
      Object.assign(entry.info, { device: info.device, precision: info.precision, stored: info.stored });
    }
    if (this.#lost) {
      this.#lost = false;
      this.#tell({ type: "recovered", device: info.device });
    }
  }

  /** Puts `job` back in front, for a member that is started anew; on the CPU if it has failed before. */
  #recover(member: Member, job: Job, error: SamloraError): void {
    const device = this.#device ?? "cpu";
    this.#discard(member);
    job.failures++;
    if (!this.#options.renewsGpu && device === "cpu") return job.reject(error); // This thread's wasm has failed for good.
    this.#notice(device, error.message);
    if (device === "gpu" && (job.failures > 1 || !this.#options.renewsGpu)) {
      this.#stepDown(error.message);
      job.failures = 0;
    } else if (job.failures > 1) return job.reject(error);
    this.#queue.unshift(job);
  }

  #stepDown(message: string, onEvent?: (event: SegmenterEvent) => void): void {
    this.#device = "cpu";
    const event = { type: "fallback", device: "cpu", message } as const;
    this.#tell(event);
    onEvent?.(event);
  }

  #notice(device: Device, message: string): void {
    this.#lost = true;
    this.#tell({ type: "lost", device, message });
  }

  #start(): Member {
    const member: Member = {
      models: new Set(),
      busy: false,
      engine: this.#options.start((error) => {
        member.failure = error;
        // What runs on it fails by itself; an idle member goes now, and its successor starts with the next job.
        if (member.busy || this.#closed || !this.#members.includes(member)) return;
        this.#discard(member);
        this.#notice(this.#device ?? "cpu", error.message);
        if (!this.#options.renewsGpu && this.#device === "gpu") this.#stepDown(error.message);
      }),
    };
    this.#members.push(member);
    return member;
  }

  #discard(member: Member): void {
    this.#members = this.#members.filter((other) => other !== member);
    member.engine.close();
  }

  #tell(event: SegmenterEvent): void {
    for (const { gone, onEvent } of this.#models.values()) {
      if (!gone) onEvent(event);
    }
  }
}

/** Whether the device or the program failed, rather than the request. */
function isFailure(error: unknown): error is SamloraError {
  return error instanceof SamloraError && (error.code === "device" || error.code === "internal");
}

function workersFor({ parameters, scheme }: SegmenterInfo): number {
  const cores = globalThis.navigator?.hardwareConcurrency ?? 2;
  const bytes = (PARAMETER_BYTES[scheme] ?? 4) * parameters;
  return Math.max(1, Math.min(cores - 1, MOST_WORKERS, Math.floor(MOST_MEMORY / bytes)));
}

function partition<T>(all: T[], test: (item: T) => boolean): [T[], T[]] {
  return [all.filter(test), all.filter((item) => !test(item))];
}
