// Class masks of map tiles in the browser.

export { isAbort, SamloraError, type ErrorCode } from "./error.ts";
export { Segmenter } from "./segmenter.ts";
export type {
  AdapterInfo,
  ClassInfo,
  ClassStats,
  Device,
  GeoJSONFeature,
  GeoJSONFeatureCollection,
  ImageInput,
  LoadOptions,
  LoadProgress,
  Logits,
  OverlayOptions,
  PackageInput,
  PolygonOptions,
  ReadFile,
  ReadOptions,
  Segmentation,
  SegmenterInfo,
  SegmentOptions,
  TileId,
  Timings,
} from "./types.ts";
