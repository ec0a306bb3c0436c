// Tells what says nothing any more from what is only slow.

/** Milliseconds without a sign of life after which a start counts as failed. */
export const START_SILENCE = 10_000;
const TICK = 250;

/**
 * Calls `onSilence` once when `alive` was not called for `limit` milliseconds. Time is counted in ticks of this thread: one
 * that does not get to run, on a busy machine or in a tab that sleeps, could not have heard a sign of life either.
 */
export class Silence {
  readonly #ticks: number;
  #left: number;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(onSilence: () => void, limit = START_SILENCE) {
    this.#ticks = Math.ceil(limit / TICK);
    this.#left = this.#ticks;
    this.#timer = setInterval(() => {
      if (--this.#left > 0) return;
      this.end();
      onSilence();
    }, TICK);
  }

  alive(): void {
    this.#left = this.#ticks;
  }

  /** Nothing more is expected. */
  end(): void {
    clearInterval(this.#timer);
  }
}

/** `work`, or a rejection with `error()` if it has not ended in time. */
export function within<T>(work: Promise<T>, error: () => Error, limit = START_SILENCE): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const silence = new Silence(() => reject(error()), limit);
    work.then(resolve, reject).finally(() => silence.end());
  });
}
