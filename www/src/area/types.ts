// The public types of areas and of the imagery that they are read from.

import type { Box } from "../map/grid.ts";
import type { ClassStats, GeoJSONFeatureCollection, MaskPlanes, SegmentOptions } from "../types.ts";

/** West, south, east, north in degrees of longitude and latitude (WGS 84); west is less than east. */
export type Bounds = readonly [number, number, number, number];

/** A system of coordinates on the ground. */
export interface GroundSystem {
  /** Its name: `EPSG:3857`. */
  readonly name: string;
  /** Longitude and latitude in degrees of a place. */
  toLonLat(x: number, y: number): [number, number];
  /** The place of a longitude and latitude in degrees. */
  fromLonLat(longitude: number, latitude: number): [number, number];
}

/** Imagery at one resolution: a grid of pixels with its corner at the upper left, rows to the south. */
export interface AreaLevel {
  /** What people call it: `zoom 20`, `overview 1`. */
  readonly name: string;
  /** Pixels of the whole grid. */
  readonly width: number;
  readonly height: number;
  /** Coordinates of the grid's upper left corner, in the source's system. */
  readonly origin: readonly [number, number];
  /** Width and height of a pixel in the system's units, both above 0. */
  readonly pixel: readonly [number, number];
  /** Column and row of the ground's own grid at which this one begins: windows are counted from there, whatever file it is. */
  readonly anchor: readonly [number, number];
  /** Width and height in pixels of what is read at once. */
  readonly tile: readonly [number, number];
}

/** A part of the imagery that could not be read. */
export interface MissingTile {
  /** Its name within the source: `20/886232/483190`. */
  tile: string;
  /** Why. */
  message: string;
}

/** Pixels of a level. */
export interface AreaPixels {
  width: number;
  height: number;
  /** RGBA8, row-major, top row first; pixels of alpha 0 hold no data. */
  rgba: Uint8ClampedArray;
  /** What of it could not be read and holds no data for that reason alone. */
  missing: readonly MissingTile[];
}

/** Imagery of the ground, of any extent, that is read by windows. `samlora/sources` has them for files and services. */
export interface AreaSource {
  /** What errors call it. */
  readonly name: string;
  /** Tells this imagery from other imagery of that name, such as a file's size and time: a job goes on only with the same. */
  readonly key: string;
  /** Whose imagery it is, as the source says it: perhaps with HTML, which nobody has checked. */
  readonly attribution?: string;
  /** Absent for a picture of which nobody knows where it lies. */
  readonly system?: GroundSystem;
  /** Where there may be imagery. */
  readonly bounds?: Bounds;
  /** At least one, the finest first. */
  readonly levels: readonly AreaLevel[];
  /**
   * The pixels of `box`, which lies within the level's grid. Tries again what fails in passing; what cannot be read stays
   * transparent and is named.
   *
   * @throws `SamloraError` where trying on is in vain (access is refused, nothing of it is a picture), or the signal's reason.
   */
  read(level: AreaLevel, box: Box, options: { signal: AbortSignal }): Promise<AreaPixels>;
  /** Gives files and memory back. */
  close?(): void;
}

/** A GeoJSON object with polygons, in longitude and latitude as RFC 7946 has them. */
export type AreaShape =
  | { type: "Polygon"; coordinates: readonly (readonly (readonly number[])[])[] }
  | { type: "MultiPolygon"; coordinates: readonly (readonly (readonly (readonly number[])[])[])[] }
  | { type: "GeometryCollection"; geometries: readonly unknown[] }
  | { type: "Feature"; geometry: unknown }
  | { type: "FeatureCollection"; features: readonly unknown[] };

/** What `segmentArea` and `estimateArea` are asked. */
export interface AreaOptions {
  source: AreaSource | Promise<AreaSource>;
  /** Bounds, or GeoJSON polygons (with holes): outside there is no data. All of the source unless given. */
  area?: Bounds | AreaShape;
  /**
   * Metres per pixel that the network sees: what the model was trained for unless given. `native` takes the finest imagery as it
   * is.
   */
  resolution?: number | "native";
  /** Confidence (0 to 1) below which a pixel becomes background, by class name or index; instead of the package's. */
  thresholds?: NonNullable<SegmentOptions["thresholds"]>;
  /** Least pixels of context around a pixel, as the network sees them; what the package was made for unless given. */
  halo?: number;
  /** Stops the work; what waits for a block rejects with its reason. */
  signal?: AbortSignal;
  /** What is looked at: the blocks nearest to its middle come first. A function is asked before every block. */
  view?: Bounds | (() => Bounds | undefined);
  /** Told after every block. */
  onProgress?: (progress: AreaProgress) => void;
  /**
   * A name under which finished blocks are kept in this browser's storage: the same call after a reload goes on, and gives the
   * kept blocks again without the network.
   */
  resume?: string;
}

/** How a job goes on. */
export interface AreaProgress {
  /** Blocks that were given, and all of them. */
  done: number;
  total: number;
  /** Of those, blocks that came from storage. */
  stored: number;
  /** Windows that the network has seen in this run. */
  windows: number;
  /** Blocks with tiles that failed; they are tried again at the end. */
  postponed: number;
  /** Why blocks are not kept for a later run any more, such as a full disk. */
  unstored?: string;
}

/** What an area takes, before anything of it is read. */
export interface AreaEstimate {
  /** Level of the source that is read. */
  level: string;
  /** Metres per pixel of that level at the area's middle, across and down; absent without a place. */
  levelResolution?: [number, number];
  /** Metres per pixel that the network sees. */
  resolution?: number;
  /** Pixels of the level for one pixel that the network sees; 1 where nothing is resampled. */
  scale: [number, number];
  /** Pixels of the area's raster, whose grid is the level's. */
  width: number;
  height: number;
  blocks: number;
  /** About how many windows the network will see, at most: those without imagery are left out. */
  windows: number;
  /** About how many tiles are read. */
  tiles: number;
  /** About the most bytes of memory that the job holds beside the model, whatever the extent. */
  bytes: number;
}

/** Where a raster lies on the ground. */
export interface Georeference {
  /** `EPSG:3857`; `pixel` where nobody knows. */
  system: string;
  /** Coordinates of the upper left corner. */
  origin: [number, number];
  /** Width and height of a pixel, both above 0; rows run to the south. */
  pixel: [number, number];
}

/** A finished part of an area: masks before small regions are taken away, thresholds applied. */
export interface AreaBlock extends MaskPlanes {
  /** Column and row of its upper left pixel within the area's raster. */
  x: number;
  y: number;
  georeference: Georeference;
  /** What could not be read, so that there is no data where there should be. */
  missing: readonly MissingTile[];
  /** Whether it came from storage. */
  stored: boolean;
}

/** How much of an area one class covers. */
export interface AreaClassStats extends ClassStats {
  /** Hectares on the ellipsoid; absent without a place. */
  hectares?: number;
}

export interface AreaPolygonOptions {
  /** Leave out regions of fewer pixels. */
  minPixels?: number;
  /** How far in pixels a simplified border may leave the true one; 0 unless given. */
  tolerance?: number;
  /** Indices of the classes to trace; all but background unless given. */
  classes?: readonly number[];
}

/** A whole area in memory. */
export interface AreaResult extends MaskPlanes {
  georeference: Georeference;
  missing: readonly MissingTile[];
  /** Area and mean confidence of every class, of the pixels that hold data. */
  stats(): AreaClassStats[];
  /**
   * Polygons of every class but background with holes, in longitude and latitude (in pixels without a place). Properties:
   * `class`, `name`, `color`, `confidence` (mean, 0 to 1), `pixels` and `area_m2` (on the ellipsoid).
   */
  toGeoJSON(options?: AreaPolygonOptions): Promise<GeoJSONFeatureCollection>;
}
