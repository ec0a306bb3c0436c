// What tests of areas share where the network does not matter: a model that answers with the colours that it sees, and ground to see.

/** Runs in the page: a model that sees colours, and a source that draws the ground. */
export function prepare() {
  /** Classes by what is seen: 0 where red is below 128, else 1. Its output has half the pixels of its input, as a network's has fewer. */
  globalThis.fake = (more = {}) => {
    const { logits, ...info } = more;
    const seen = [];
    const model = {
      seen,
      info: {
        name: "colours",
        hash: "0".repeat(64),
        precision: "f32",
        classes: ["dark", "bright"].map((name, index) => ({ index, name, color: [0, 0, 0] })),
        device: "cpu",
        workers: 2,
        kind: "merged",
        inputSize: 96,
        tileSize: 64,
        ...info,
      },
      async logits(image) {
        seen.push(`${image.width}x${image.height}`);
        const { inputSize } = model.info;
        const side = inputSize / 2;
        const values = new Float32Array(2 * side * side);
        const [left, top] = [inputSize - image.width, inputSize - image.height].map((rest) => Math.floor(rest / 2));
        const clamp = (value, most) => Math.max(0, Math.min(value, most - 1));
        for (let y = 0; y < side; y++) {
          for (let x = 0; x < side; x++) {
            let red = 0;
            for (const [dx, dy] of [
              [0, 0],
              [1, 0],
              [0, 1],
              [1, 1],
            ]) {
              const [column, row] = [clamp(2 * x + dx - left, image.width), clamp(2 * y + dy - top, image.height)];
              red += image.data[4 * (row * image.width + column)] / 4;
            }
            values[y * side + x] = 0;
            values[side * side + y * side + x] = logits ?? (red - 127.5) / 20;
          }
        }
        await new Promise((resolve) => setTimeout(resolve, 1));
        return { classes: 2, width: side, height: side, values };
      },
      refine: async (planes) => ({ ...planes }),
    };
    return model;
  };
  globalThis.segmentArea = (model, options) => Segmenter.prototype.segmentArea.call(model, options);
  globalThis.estimateArea = (model, options) => Segmenter.prototype.estimateArea.call(model, options);

  const HALF = Math.PI * 6378137;
  const MERCATOR = {
    name: "EPSG:3857",
    toLonLat: (x, y) => [(x / HALF) * 180, (Math.atan(Math.sinh((y / HALF) * Math.PI)) * 180) / Math.PI],
    fromLonLat: (lon, lat) => [(lon / 180) * HALF, (Math.asinh(Math.tan((lat / 180) * Math.PI)) / Math.PI) * HALF],
  };
  const DEGREES = { name: "EPSG:4326", toLonLat: (x, y) => [x, y], fromLonLat: (lon, lat) => [lon, lat] };
  /** The ground is bright or dark in stripes of 24 m across and 30 m down from a corner at 10 E, 50 N. */
  const METRES = {
    x: (lon) => (lon - 10) * 111_320 * Math.cos((50 / 180) * Math.PI),
    y: (lat) => (50 - lat) * 111_320,
  };
  globalThis.isBright = (lon, lat) => (Math.floor(METRES.x(lon) / 24) + Math.floor(METRES.y(lat) / 30)) % 2 === 0;
  /** How far in metres a place is from where the ground changes. */
  globalThis.fromEdge = (lon, lat) => {
    const off = (value, size) => Math.abs(value / size - Math.round(value / size)) * size;
    return Math.min(off(METRES.x(lon), 24), off(METRES.y(lat), 30));
  };
  /** Imagery of that ground with pixels of so many metres at 50 N, from its corner; `holes(x, y)` are pixels without data. */
  globalThis.ground = ({
    metres = [1],
    size = 700,
    degrees = false,
    holes = () => false,
    fails = () => false,
    log = [],
    shift = 0,
  } = {}) => {
    const system = degrees ? DEGREES : MERCATOR;
    const levels = metres.map((m, i) => {
      const degree = m / 111_320;
      const [x, y] = system.fromLonLat(10, 50);
      const across = degrees ? degree : m / Math.cos((50 / 180) * Math.PI);
      const pixel = [across, across];
      const origin = [x + shift * pixel[0], y - shift * pixel[1]];
      return {
        name: `level ${i}`,
        width: Math.round((size * metres[0]) / m),
        height: Math.round((size * metres[0]) / m),
        origin,
        pixel,
        anchor: [Math.round(origin[0] / pixel[0]), Math.round(-origin[1] / pixel[1])],
        tile: [128, 128],
      };
    });
    return {
      name: "the ground",
      key: "ground",
      system,
      levels,
      log,
      async read(level, { left, top, right, bottom }, { signal }) {
        signal.throwIfAborted();
        log.push([left, top, right, bottom]);
        const [width, height] = [right - left, bottom - top];
        const rgba = new Uint8ClampedArray(4 * width * height);
        for (let y = 0; y < height; y++) {
          for (let x = 0; x < width; x++) {
            if (holes(left + x, top + y)) continue;
            const place = [
              level.origin[0] + (left + x + 0.5) * level.pixel[0],
              level.origin[1] - (top + y + 0.5) * level.pixel[1],
            ];
            const at = 4 * (y * width + x);
            rgba[at] = rgba[at + 1] = rgba[at + 2] = isBright(...system.toLonLat(...place)) ? 220 : 35;
            rgba[at + 3] = 255;
          }
        }
        const missing = fails(left, top, right, bottom);
        if (missing) rgba.fill(0);
        return { width, height, rgba, missing: missing ? [missing] : [] };
      },
    };
  };
  /** Longitude and latitude of the middle of a result's pixel. */
  globalThis.placeOf = ({ georeference: { system, origin, pixel } }, x, y) =>
    (system === "EPSG:4326" ? DEGREES : MERCATOR).toLonLat(
      origin[0] + (x + 0.5) * pixel[0],
      origin[1] - (y + 0.5) * pixel[1],
    );
}
