// One piece of work that several callers wait for.

/**
 * Starts `work` once for all callers of `join`, and aborts it when the last of them has left. `onGone` tells, once, that
 * it failed or was aborted, so that the owner can forget it.
 */
export class Shared<T> {
  readonly #controller = new AbortController();
  readonly #promise: Promise<T>;
  #waiting = 0;
  #settled = false;

  constructor(work: (signal: AbortSignal) => Promise<T>, onGone: (self: Shared<T>) => void) {
    const { signal } = this.#controller;
    signal.addEventListener("abort", () => onGone(this));
    this.#promise = work(signal);
    this.#promise.then(
      () => (this.#settled = true),
      () => {
        this.#settled = true;
        if (!signal.aborted) onGone(this);
      },
    );
  }

  /** Ends the work for all callers. */
  abort(reason: unknown): void {
    if (!this.#settled) this.#controller.abort(reason);
  }

  /** The work's value; rejects with the signal's reason as soon as that fires. */
  join(signal: AbortSignal): Promise<T> {
    if (signal.aborted) return Promise.reject(signal.reason);
    this.#waiting++;
    return new Promise<T>((resolve, reject) => {
      const leave = () => {
        reject(signal.reason);
        if (--this.#waiting === 0 && !this.#settled) this.#controller.abort(signal.reason);
      };
      signal.addEventListener("abort", leave, { once: true });
      this.#promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", leave));
    });
  }
}

/** `work`, or a rejection as soon as the signal fires. */
export function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise<T>((resolve, reject) => {
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

/** Lets so many work at a time; the others wait in the order in which they came. */
export class Gate {
  #free: number;
  #waiting: (() => void)[] = [];

  constructor(places: number) {
    this.#free = places;
  }

  async pass<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(signal.reason);
      };
      const enter = () => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      signal.addEventListener("abort", leave);
      this.#waiting.push(enter);
    });
  }
}

/** The values that were used last, as many as their costs together allow. */
export class Recent<T> {
  readonly capacity: number;
  #values = new Map<string, { value: T; cost: number }>(); // In the order of their last use.
  #cost = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  /** The value, which counts as used. */
  get(key: string): T | undefined {
    const found = this.#values.get(key);
    if (found) {
      this.#values.delete(key);
      this.#values.set(key, found);
    }
    return found?.value;
  }

  /** All values; this is no use of them. */
  values(): T[] {
    return [...this.#values.values()].map(({ value }) => value);
  }

  set(key: string, value: T, cost = 1): void {
    this.#forget(key);
    this.#values.set(key, { value, cost });
    this.#cost += cost;
    for (const oldest of this.#values.keys()) {
      if (this.#cost <= this.capacity) break;
      this.#forget(oldest);
    }
  }

  /** Forgets the value, if it is still `value`. */
  drop(key: string, value: T): void {
    if (this.#values.get(key)?.value === value) this.#forget(key);
  }

  clear(): void {
    this.#values.clear();
    this.#cost = 0;
  }

  #forget(key: string): void {
    this.#cost -= this.#values.get(key)?.cost ?? 0;
    this.#values.delete(key);
  }
}
