// Systems of coordinates that need the library `proj4`.

import type { GroundSystem } from "../area/types.ts";
import { SamloraError } from "../error.ts";
import { lackingPeer } from "./peer.ts";

type Proj4 = (from: string, to: string) => { forward(place: number[]): number[]; inverse(place: number[]): number[] };

/** The system that a PROJ string describes. */
export async function projected(name: string, definition: string, library: object | undefined): Promise<GroundSystem> {
  const module = (library ?? (await load())) as { default?: Proj4 } | Proj4;
  const proj4 = typeof module === "function" ? module : module.default!;
  try {
    const { forward, inverse } = proj4("+proj=longlat +datum=WGS84 +no_defs", definition);
    const pair = (change: (place: number[]) => number[], place: [number, number]): [number, number] => {
      try {
        const [x, y] = change(place);
        return [x!, y!];
      } catch {
        return [Number.NaN, Number.NaN]; // Far from where the system is for.
      }
    };
    return {
      name,
      toLonLat: (x, y) => pair(inverse, [x, y]),
      fromLonLat: (longitude, latitude) => pair(forward, [longitude, latitude]),
    };
  } catch (cause) {
    const message = `${JSON.stringify(definition)} is no system of coordinates`;
    throw new SamloraError("invalid", message, 'give a PROJ string: "+proj=utm +zone=37 +datum=WGS84"', cause);
  }
}

async function load(): Promise<object> {
  try {
    return await import("proj4");
  } catch (cause) {
    throw lackingPeer("proj4", cause);
  }
}
