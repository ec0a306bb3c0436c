// One error class for everything that this package can say, with a stable code and a remedy.

/** What sort of thing went wrong; the same names as in the Rust crate, and `disposed`. */
export type ErrorCode =
  | "not_found"
  | "io"
  | "format"
  | "unsupported"
  | "integrity"
  | "invalid"
  | "limit"
  | "device"
  | "disposed"
  | "internal";

const CODES: ReadonlySet<string> = new Set<ErrorCode>([
  "not_found",
  "io",
  "format",
  "unsupported",
  "integrity",
  "invalid",
  "limit",
  "device",
  "disposed",
  "internal",
]);

/** An error with a stable `code` and, where there is one, a `remedy` for the user. */
export class SamloraError extends Error {
  readonly code: ErrorCode;
  readonly remedy: string | undefined;

  constructor(code: ErrorCode, message: string, remedy?: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "SamloraError";
    this.code = code;
    this.remedy = remedy;
  }

  /** Makes an error of whatever was thrown, by wasm or by the browser; an abort stays what it is. */
  static from(thrown: unknown): Error {
    if (thrown instanceof SamloraError || isAbort(thrown)) return thrown as Error;
    const { code, message, remedy } = (thrown ?? {}) as { code?: unknown; message?: unknown; remedy?: unknown };
    const text = typeof message === "string" ? message : String(thrown);
    if (typeof code === "string" && CODES.has(code)) {
      return new SamloraError(code as ErrorCode, text, typeof remedy === "string" ? remedy : undefined, thrown);
    }
    return new SamloraError("internal", text, "reload the page; if it happens again, report it with this text", thrown);
  }
}

/** Whether `thrown` says that an `AbortSignal` fired. */
export function isAbort(thrown: unknown): boolean {
  return thrown instanceof DOMException && (thrown.name === "AbortError" || thrown.name === "TimeoutError");
}

/** For calls on what was given back. */
export function disposed(): SamloraError {
  return new SamloraError("disposed", "this segmenter was disposed", "load the model again");
}
