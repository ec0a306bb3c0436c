// SQLite over a file that is read only, and only as far as queries need it.

import { isAbort, SamloraError } from "../error.ts";
import type { Bytes } from "./bytes.ts";

/** The option `library` of `mbtiles`: the parts of wa-sqlite. */
export interface SqliteModules {
  /** The default export of `dist/wa-sqlite-async.mjs`. */
  factory: () => Promise<unknown>;
  /** The package's main module. */
  api: { Factory(module: unknown): unknown };
  /** Of `src/FacadeVFS.js`. */
  FacadeVFS: new (
    name: string,
    module: unknown,
  ) => object;
}

export type Value = number | string | Uint8Array | bigint | null;

export interface Sqlite {
  /** The rows of a query, each a list of values. */
  rows(sql: string, bindings?: readonly (number | string)[]): Promise<Value[][]>;
  close(): void;
}

const [OK, ROW, CANTOPEN, IOERR_READ, IOERR_SHORT_READ] = [0, 100, 14, 266, 522];
const [OPEN_READONLY, OPEN_URI, IMMUTABLE] = [1, 64, 0x2000];

/** Steps of SQLite's machine between two looks, and looks that a query may take: seconds, where a tile takes far below one. */
const [STEPS, MOST_STEPS] = [1_000_000, 100];

/** What is asked of wa-sqlite. */
interface Api {
  vfs_register(vfs: object, isDefault: boolean): number;
  open_v2(name: string, flags: number, vfs: string): Promise<number>;
  statements(database: number, sql: string): AsyncIterable<number>;
  bind_collection(statement: number, values: readonly unknown[]): number;
  progress_handler(database: number, steps: number, handler: () => number, data: null): void;
  step(statement: number): Promise<number>;
  row(statement: number): Value[];
  close(database: number): Promise<number>;
}

export async function openSqlite(bytes: Bytes, { factory, api, FacadeVFS }: SqliteModules): Promise<Sqlite> {
  let failure: unknown;

  /** One file, by whatever name; no journals, no writing. */
  class RangeVFS extends FacadeVFS {
    hasAsyncMethod(name: string): boolean {
      return name === "xRead";
    }
    jOpen(name: string | null, _file: number, _flags: number, outFlags: DataView): number {
      if (!name || /-(journal|wal)$/.test(name)) return CANTOPEN;
      outFlags.setInt32(0, OPEN_READONLY, true);
      return OK;
    }
    jAccess(_name: string, _flags: number, out: DataView): number {
      out.setInt32(0, 0, true);
      return OK;
    }
    async jRead(_file: number, data: Uint8Array, offset: number): Promise<number> {
      try {
        const start = Math.min(offset, bytes.size);
        const found = await bytes.read(start, Math.min(offset + data.length, bytes.size));
        data.set(found);
        if (found.length === data.length) return OK;
        data.fill(0, found.length);
        return IOERR_SHORT_READ;
      } catch (error) {
        failure = error; // SQLite has but a number for it.
        return IOERR_READ;
      }
    }
    jFileSize(_file: number, out: DataView): number {
      out.setBigInt64(0, BigInt(bytes.size), true);
      return OK;
    }
    jDeviceCharacteristics(): number {
      return IMMUTABLE;
    }
  }

  const explained = (cause: unknown): unknown => {
    if (failure) {
      const error = failure;
      failure = undefined;
      return error;
    }
    if (cause instanceof SamloraError || isAbort(cause)) return cause;
    const said = cause instanceof Error ? cause.message : String(cause);
    const message = `${bytes.name} is damaged or no MBTiles archive: ${said}`;
    return new SamloraError("format", message, "copy or download it again", cause);
  };

  const module = await factory();
  const sqlite = api.Factory(module) as unknown as Api;
  sqlite.vfs_register(new RangeVFS("samlora-ranges", module), false);
  let database: number;
  try {
    database = await sqlite.open_v2("file:archive?immutable=1", OPEN_READONLY | OPEN_URI, "samlora-ranges");
  } catch (error) {
    throw explained(error);
  }

  // An archive brings its own views, and one of them may never end.
  let steps = 0;
  sqlite.progress_handler(database, STEPS, () => Number(++steps > MOST_STEPS), null);

  async function query(sql: string, bindings: readonly (number | string)[]): Promise<Value[][]> {
    const found: Value[][] = [];
    steps = 0;
    try {
      for await (const statement of sqlite.statements(database, sql)) {
        sqlite.bind_collection(statement, bindings);
        while ((await sqlite.step(statement)) === ROW) found.push(sqlite.row(statement));
      }
    } catch (error) {
      throw explained(error);
    }
    return found;
  }

  // One at a time: a module that waits for a page cannot be entered again.
  let last: Promise<unknown> = Promise.resolve();
  return {
    rows(sql, bindings = []) {
      const result = last.then(() => query(sql, bindings));
      last = result.catch(() => {});
      return result;
    },
    close: () => void last.then(() => sqlite.close(database)).catch(() => {}),
  };
}
