// What the tests of `samlora/maplibre` share: a bare page with maps on it, and tools in that page.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { browser, drawScene, exportTiny, png, scratch, serve, www } from "./support.mjs";

const IMPORTS = {
  imports: {
    samlora: "/lib/index.js",
    "samlora/maplibre": "/lib/maplibre.js",
    "maplibre-gl": "/maplibre/maplibre-gl.mjs",
  },
};
const PAGE = `<!doctype html><script type="importmap">${JSON.stringify(IMPORTS)}</script>
<style>.map { width: 512px; height: 512px }</style><div class="map" id="a"></div><div class="map" id="b"></div>`;

/** Runs in the page: what the tests share there. */
async function prepare() {
  const { Segmenter } = await import("samlora");
  const library = await import("samlora/maplibre");
  const maplibregl = await import("maplibre-gl");
  const model = await Segmenter.load("/models/tiny/", { device: "cpu", workers: 1 });
  const scene = await createImageBitmap(await (await fetch("/scene.png")).blob());
  const Z = 16;
  const X = 2 ** (Z - 1);
  const tools = {
    ...library,
    maplibregl,
    model,
    scene,
    Z,
    X,
    /** The model with its calls counted. */
    counted() {
      const calls = [];
      return {
        info: model.info,
        calls,
        logits: (image, options) => (calls.push(options), model.logits(image, options)),
        refine: (...given) => model.refine(...given),
      };
    },
    /** The scene as tiles of `side` pixels around the map's origin, `across` a side. */
    source(side = 256, across = 2) {
      const tiles = ({ z, x, y }) => {
        const [column, row] = [x - X, y - X];
        if (z !== Z || column < 0 || row < 0 || column >= across || row >= across) return Promise.resolve(null);
        const canvas = new OffscreenCanvas(side, side);
        canvas.getContext("2d").drawImage(scene, -column * side, -row * side);
        return Promise.resolve(canvas);
      };
      const [west, , , north] = library.tileBounds({ z: Z, x: X, y: X });
      const [, south, east] = library.tileBounds({ z: Z, x: X + across - 1, y: X + across - 1 });
      return new library.TileSource({ tiles, minzoom: Z, maxzoom: Z, bounds: [west, south, east, north] });
    },
    /** A map that shows the 2 x 2 tiles around which `source` lies. */
    async map(container = "a") {
      const [west, , , north] = library.tileBounds({ z: Z, x: X, y: X });
      const [, , east] = library.tileBounds({ z: Z, x: X + 1, y: X });
      const [, south] = library.tileBounds({ z: Z, x: X, y: X + 1 });
      const map = new maplibregl.Map({
        container,
        style: { version: 8, sources: {}, layers: [] },
        center: [(west + east) / 2, (north + south) / 2],
        zoom: Z - 1,
        attributionControl: false,
        fadeDuration: 0,
      });
      await map.once("load");
      return map;
    },
    finished: (masks, count) => tools.until(() => masks.stats().finished === count && masks.stats().inView === count),
    async until(done) {
      for (const end = Date.now() + 600_000; !done(); await new Promise((r) => setTimeout(r, 30))) {
        if (Date.now() > end) throw new Error(`waited in vain for ${done}`);
      }
    },
    /** The colour at a place of the map as it is drawn next, and drawn no other way afterwards. */
    async pixel(map, x, y) {
      await tools.until(() => map.loaded() && map.areTilesLoaded());
      let colour;
      map.once("render", () => {
        const gl = map.painter.context.gl;
        const bytes = new Uint8Array(4);
        const scale = map.getCanvas().width / map.getCanvas().clientWidth;
        gl.readPixels(x * scale, gl.drawingBufferHeight - 1 - y * scale, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
        colour = [...bytes];
      });
      map.triggerRepaint();
      await tools.until(() => colour);
      return colour.join(" ");
    },
  };
  Object.assign(globalThis, tools);
}

/** A model and a scene, served: the folder that holds them, and `run`, which runs `work` on a new page. */
export async function openMaps(t) {
  const folder = scratch();
  const picture = readFileSync(drawScene(join(folder, "scene.png"), 512, 512));
  const url = await serve(t, [exportTiny(folder)]);
  const chrome = await browser(t);

  /** A page with all of that, on which `work` runs. */
  const run = async (work, argument) => {
    const page = await chrome.newPage({ viewport: { width: 600, height: 1100 } });
    const faults = [];
    page.on("pageerror", (error) => faults.push(error.message));
    await page.route("**/bare.html", (route) => route.fulfill({ contentType: "text/html", body: PAGE }));
    await page.route("**/scene.png**", png(picture));
    await page.route("**/keyed/scene.png**", (route) => {
      const request = route.request();
      const isKeyed = request.url().endsWith("&token=secret") && request.headers()["x-key"] === "secret";
      return isKeyed ? png(picture)(route) : route.fulfill({ status: 401 });
    });
    await page.route("**/maplibre/*", (route) => {
      const file = join(www, "node_modules/maplibre-gl/dist", new URL(route.request().url()).pathname.split("/").pop());
      return existsSync(file)
        ? route.fulfill({ body: readFileSync(file), contentType: "text/javascript" })
        : route.fulfill({ status: 404 });
    });
    await page.goto(`${url}/bare.html`);
    await page.evaluate(prepare);
    const result = await page.evaluate(work, argument);
    assert.deepEqual(faults, []);
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await page.close();
    return result;
  };
  return { folder, run };
}
