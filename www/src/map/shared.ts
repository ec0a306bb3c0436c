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

/** The values that were used last, at most `capacity` of them. */
export class Recent<T> {
  readonly capacity: number;
  #values = new Map<string, T>(); // In the order of their last use.

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get size(): number {
    return this.#values.size;
  }

  /** The value, which counts as used. */
  get(key: string): T | undefined {
    const value = this.#values.get(key);
    if (value !== undefined) {
      this.#values.delete(key);
      this.#values.set(key, value);
    }
    return value;
  }

  /** Whether the value is there; this is no use of it. */
  has(key: string): boolean {
    return this.#values.has(key);
  }

  set(key: string, value: T): void {
    this.#values.delete(key);
    this.#values.set(key, value);
    for (const oldest of this.#values.keys()) {
      if (this.#values.size <= this.capacity) break;
      this.#values.delete(oldest);
    }
  }

  /** Forgets the value, if it is still `value`. */
  drop(key: string, value: T): void {
    if (this.#values.get(key) === value) this.#values.delete(key);
  }

  clear(): void {
    this.#values.clear();
  }
}
