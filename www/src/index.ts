// Class masks of map tiles in the browser.

export { doctor } from "./doctor.ts";
export { isAbort, SamloraError, type ErrorCode } from "./error.ts";
export { NO_DATA } from "./image.ts";
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
  LoadedModel,
  LoadOptions,
  LoadProgress,
  Logits,
  MaskPlanes,
  OverlayOptions,
  PackageInput,
  Part,
  PolygonOptions,
  ReadFile,
  ReadOptions,
  RefineOptions,
  Segmentation,
  SegmenterInfo,
  SegmentOptions,
  StorageSize,
  StoredPackage,
  TileId,
  Timings,
} from "./types.ts";
export type { AreaJob } from "./area/job.ts";
export type {
  AreaBlock,
  AreaClassStats,
  AreaEstimate,
  AreaLevel,
  AreaOptions,
  AreaPixels,
  AreaPolygonOptions,
  AreaProgress,
  AreaResult,
  AreaShape,
  AreaSource,
  Bounds,
  Georeference,
  GroundSystem,
  MissingTile,
} from "./area/types.ts";
