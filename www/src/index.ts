// Class masks of map tiles in the browser.

export { doctor } from "./doctor.ts";
export { isAbort, SamloraError, type ErrorCode } from "./error.ts";
export { Segmenter } from "./segmenter.ts";
export { storage } from "./package/storage.ts";
export type {
  AdapterInfo,
  StageTest,
  SegmenterEvent,
  DoctorReport,
  BlobOptions,
  ClassInfo,
  ClassStats,
  Device,
  GeoJSONFeature,
  GeoJSONFeatureCollection,
  GPUDeviceLike,
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
  StorageSize,
  StoredPackage,
  TileId,
  Timings,
} from "./types.ts";
