// The folder dist/lib of the npm package, copied beside this page as samlora/. The address of a CDN does as well.
import { Segmenter } from "./samlora/index.js";

const tile = document.querySelector("#tile");
const overlay = document.querySelector("#overlay");
const status = document.querySelector("#status");

try {
  const segmenter = await Segmenter.load("/models/buildings/", {
    device: new URLSearchParams(location.search).get("device") ?? "auto", // "gpu", "cpu" or "auto"
    onProgress: ({ loadedBytes, totalBytes }) => {
      status.textContent = `Loading the model: ${Math.round((100 * loadedBytes) / totalBytes)} %`;
    },
  });
  await tile.decode();
  const result = await segmenter.segment(tile);

  overlay.width = result.width;
  overlay.height = result.height;
  overlay.getContext("2d").putImageData(await result.toImageData(), 0, 0);
  const shares = result.stats().map(({ name, share }) => `${name} ${(100 * share).toFixed(1)} %`);
  status.textContent = `Segmented on the ${segmenter.info.device}: ${shares.join(", ")}`;
  segmenter.dispose();
} catch (error) {
  status.textContent = `Failed: ${error.message}. ${error.remedy ?? ""}`;
}
