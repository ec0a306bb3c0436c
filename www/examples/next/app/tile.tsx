"use client";

import { useEffect, useRef, useState } from "react";
import { Segmenter } from "samlora";

/** An image with its class mask over it. The import does nothing on the server; the model is loaded by the browser. */
export function Tile({ model, image }: { model: string; image: string }) {
  const tile = useRef<HTMLImageElement>(null);
  const overlay = useRef<HTMLCanvasElement>(null);
  const [status, setStatus] = useState("Loading the model");

  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;

    async function run() {
      const wish = new URLSearchParams(location.search).get("device");
      const device = wish === "gpu" || wish === "cpu" ? wish : "auto";
      const segmenter = await Segmenter.load(model, { device, signal });
      try {
        await tile.current!.decode();
        const result = await segmenter.segment(tile.current!, { signal });
        const canvas = overlay.current!;
        canvas.width = result.width;
        canvas.height = result.height;
        canvas.getContext("2d")!.putImageData(await result.toImageData(), 0, 0);
        const shares = result.stats().map(({ name, share }) => `${name} ${(100 * share).toFixed(1)} %`);
        setStatus(`Segmented on the ${segmenter.info.device}: ${shares.join(", ")}`);
      } finally {
        segmenter.dispose();
      }
    }

    run().catch((error) => {
      if (!signal.aborted) setStatus(`Failed: ${error.message}. ${error.remedy ?? ""}`);
    });
    return () => controller.abort();
  }, [model, image]);

  return (
    <>
      <div className="picture">
        <img id="tile" ref={tile} src={image} alt="Aerial image" />
        <canvas id="overlay" ref={overlay} />
      </div>
      <p id="status" role="status">
        {status}
      </p>
    </>
  );
}
