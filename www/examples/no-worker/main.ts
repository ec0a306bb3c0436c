import { Segmenter } from "samlora";

// Without a worker the page stands still while a tile is computed: for pages that have a worker of their own and call this
// from there, or that only show the result.
const device = new URLSearchParams(location.search).get("device") === "gpu" ? "gpu" : "cpu";
const segmenter = await Segmenter.load("/models/buildings/", { worker: false, device });

const tile = await fetch("/tile.png");
const result = await segmenter.segment(await tile.blob());

const overlay = document.querySelector<HTMLCanvasElement>("#overlay")!;
overlay.width = result.width;
overlay.height = result.height;
overlay.getContext("2d")!.putImageData(await result.toImageData(), 0, 0);
document.querySelector("#status")!.textContent = `Segmented on the ${segmenter.info.device}, without a worker`;
segmenter.dispose();
