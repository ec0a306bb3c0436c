// Imagery of areas for `segmenter.segmentArea`: services, archives and files.

export { cog, type CogOptions } from "./sources/cog.ts";
export { mbtiles } from "./sources/mbtiles.ts";
export { picture, type PictureOptions } from "./sources/picture.ts";
export { type ArchiveOptions, pmtiles } from "./sources/pmtiles.ts";
export {
  type ServiceOptions,
  wms,
  type WmsOptions,
  wmts,
  type WmtsOptions,
  xyz,
  type XyzOptions,
} from "./sources/services.ts";
export type { FileInput } from "./sources/bytes.ts";
export type { AreaLevel, AreaPixels, AreaSource, Bounds, GroundSystem, MissingTile } from "./area/types.ts";
