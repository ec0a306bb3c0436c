import { Segmenter, SamloraError } from "samlora";

const tile = document.querySelector<HTMLImageElement>("#tile")!;
const overlay = document.querySelector<HTMLCanvasElement>("#overlay")!;
const status = document.querySelector<HTMLElement>("#status")!;

function wishedDevice(): "auto" | "gpu" | "cpu" {
  const device = new URLSearchParams(location.search).get("device");
  return device === "gpu" || device === "cpu" ? device : "auto";
}

try {
  const segmenter = await Segmenter.load("/models/buildings/", {
    device: wishedDevice(),
    onProgress: ({ loadedBytes, totalBytes }) => {
      status.textContent = `Loading the model: ${Math.round((100 * loadedBytes) / totalBytes)} %`;
    },
  });
  await tile.decode();
  const result = await segmenter.segment(tile);

  overlay.width = result.width;
  overlay.height = result.height;
  overlay.getContext("2d")!.putImageData(await result.toImageData(), 0, 0);
  const shares = result.stats().map(({ name, share }) => `${name} ${(100 * share).toFixed(1)} %`);
  status.textContent = `Segmented on the ${segmenter.info.device}: ${shares.join(", ")}`;
  segmenter.dispose();
} catch (error) {
  const remedy = error instanceof SamloraError ? error.remedy : undefined;
  status.textContent = `Failed: ${String(error)}. ${remedy ?? ""}`;
}
