// Calls between two threads: messages with ids, either side may call, calls can be aborted, errors keep their code.

import { isAbort, SamloraError, type ErrorCode } from "../error.ts";

/** The methods of one side: each takes one argument and gives one value. */
export type Methods = { [name: string]: (argument: never, signal: AbortSignal) => unknown };

/** What a thread's end of the wire looks like: a `Worker`, or a worker's own scope. */
export interface Port {
  postMessage(message: unknown, transfer: Transferable[]): void;
  addEventListener(type: "message", listener: (event: MessageEvent) => void): void;
}

type Message =
  | { type: "call"; id: number; method: string; argument: unknown }
  | { type: "abort"; id: number; reason: unknown }
  | { type: "value"; id: number; value: unknown }
  | {
      type: "error";
      id: number;
      error: { code: ErrorCode; message: string; remedy?: string | undefined } | DOMException;
    };

interface Pending {
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
  signal: AbortSignal | undefined;
  onAbort: () => void;
}

/** One end of the wire; `Peer` are the methods of the other end. */
export class Actor<Peer extends Methods> {
  #port: Port;
  #methods: Methods;
  #nextId = 0;
  #pending = new Map<number, Pending>();
  #running = new Map<number, AbortController>();
  #failure: unknown;

  constructor(port: Port, methods: Methods) {
    this.#port = port;
    this.#methods = methods;
    port.addEventListener("message", (event) => this.#receive(event.data as Message));
  }

  /** Calls a method of the other end; buffers in `transfer` move there instead of being copied. */
  call<Name extends keyof Peer & string>(
    method: Name,
    argument: Parameters<Peer[Name]>[0],
    signal?: AbortSignal,
    transfer: Transferable[] = [],
  ): Promise<Awaited<ReturnType<Peer[Name]>>> {
    return new Promise((resolve, reject) => {
      if (this.#failure) return reject(this.#failure);
      if (signal?.aborted) return reject(signal.reason);
      const id = this.#nextId++;
      const onAbort = () => {
        this.#settle(id)?.reject(signal?.reason);
        this.#post({ type: "abort", id, reason: undefined });
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject, signal, onAbort });
      try {
        this.#post({ type: "call", id, method, argument }, transfer);
      } catch (error) {
        this.#settle(id);
        reject(error);
      }
    });
  }

  /** Rejects every call that waits and every later one: the other end is gone. */
  fail(error: Error): void {
    this.#failure ??= error;
    for (const id of [...this.#pending.keys()]) this.#settle(id)?.reject(error);
  }

  #settle(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.signal?.removeEventListener("abort", pending.onAbort);
    return pending;
  }

  #receive(message: Message): void {
    switch (message.type) {
      case "call":
        return void this.#run(message.id, message.method, message.argument);
      case "abort":
        return this.#running.get(message.id)?.abort(message.reason);
      case "value":
        return this.#settle(message.id)?.resolve(message.value);
      case "error": {
        const { error } = message;
        this.#settle(message.id)?.reject(
          error instanceof DOMException ? error : new SamloraError(error.code, error.message, error.remedy),
        );
      }
    }
  }

  async #run(id: number, method: string, argument: unknown): Promise<void> {
    const controller = new AbortController();
    this.#running.set(id, controller);
    try {
      const run = this.#methods[method];
      if (!run) throw new SamloraError("internal", `no method ${method}`);
      const value = await run(argument as never, controller.signal);
      this.#post({ type: "value", id, value }, buffersOf(value));
    } catch (thrown) {
      const error = SamloraError.from(thrown);
      this.#post(
        isAbort(error) || !(error instanceof SamloraError)
          ? { type: "error", id, error: error as unknown as DOMException }
          : { type: "error", id, error: { code: error.code, message: error.message, remedy: error.remedy } },
      );
    } finally {
      this.#running.delete(id);
    }
  }

  #post(message: Message, transfer: Transferable[] = []): void {
    this.#port.postMessage(message, transfer);
  }
}

/** The typed arrays that a reply owns: they move, nothing keeps them on this side. */
function buffersOf(value: unknown): ArrayBuffer[] {
  const parts = ArrayBuffer.isView(value) ? [value] : value && typeof value === "object" ? Object.values(value) : [];
  return [...new Set(parts.filter((part) => ArrayBuffer.isView(part)).map((part) => part.buffer as ArrayBuffer))];
}
