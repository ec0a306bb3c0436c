// npm install samlora pmtiles
import { Segmenter } from "samlora";
import { pmtiles } from "samlora/sources";

const status = document.querySelector("#status");
const canvas = document.querySelector("#map");

const segmenter = await Segmenter.load("/models/buildings/");
const source = await pmtiles("/area.pmtiles"); // A dropped or chosen File does as well.
const area = [124.2636, 13.969, 124.265, 13.9705]; // Or a GeoJSON polygon, with holes.

const { width, height, windows } = await segmenter.estimateArea({ source, area });
Object.assign(canvas, { width, height });

const job = segmenter.segmentArea({
  source,
  area,
  resume: "roofs", // After a reload, finished blocks come from this browser's storage.
  onProgress: ({ done, total }) => {
    status.textContent = `Block ${done} of ${total}, about ${windows} windows in all`;
  },
});
for await (const block of job) {
  const masks = await segmenter.refine(block);
  canvas.getContext("2d").putImageData(await masks.toImageData(), block.x, block.y);
}
const [, roofs] = await job.stats();
status.textContent = `${roofs.hectares.toFixed(2)} hectares of roofs`;
await job.forget();
segmenter.dispose();
