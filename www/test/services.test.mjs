// Services of imagery: the right address for every tile, whatever the scheme, and servers in every mood.

import assert from "node:assert/strict";
import { test } from "node:test";
import { encodePng } from "../build/png.mjs";
import { openAreas, startTiles, unpacked } from "./areas.mjs";
import { exportTiny, LIMIT, scratch } from "./support.mjs";

const R = 6378137;
const degrees = (radians) => (radians * 180) / Math.PI;

/** The ground's colour at a longitude and latitude, so that a picture says where it lies. */
function colourAt(longitude, latitude) {
  return [Math.floor((longitude - 10) * 1e5) & 255, Math.floor((latitude - 50) * 1e5) & 255, 77];
}

/** A picture of the ground between corners, given as a function from the picture's shares to longitude and latitude. */
function draw(width, height, place) {
  const rows = Buffer.alloc(height * (1 + 3 * width));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const colour = colourAt(...place((x + 0.5) / width, (y + 0.5) / height));
      rows.set(colour, y * (1 + 3 * width) + 1 + 3 * x);
    }
  }
  return encodePng(rows, width, height);
}

const mix = (a, b, share) => a + (b - a) * share;

/** What a tile of the XYZ scheme shows. */
function drawTile(z, x, y, side = 256) {
  const half = Math.PI * R;
  const size = (2 * half) / 2 ** z;
  const at = (u, v) => [
    degrees((-half + (x + u) * size) / R),
    degrees(Math.atan(Math.sinh((half - (y + v) * size) / R))),
  ];
  return draw(side, side, at);
}

/** What a WMS draws of a request, by the letter of its version; undefined for one that it would refuse. */
function drawMap(query) {
  const { SERVICE, REQUEST, VERSION, LAYERS, STYLES, SRS, CRS, BBOX, WIDTH, HEIGHT, FORMAT } = query;
  if (SERVICE !== "WMS" || REQUEST !== "GetMap" || LAYERS !== "ortho" || STYLES === undefined || FORMAT !== "image/png")
    return undefined;
  if ((VERSION === "1.3.0") === (CRS === undefined) || (VERSION === "1.1.1") === (SRS === undefined)) return undefined;
  const system = CRS ?? SRS;
  const isLatitudeFirst = VERSION === "1.3.0" && system === "EPSG:4326";
  const [a, b, c, d] = BBOX.split(",").map(Number);
  const [west, south, east, north] = isLatitudeFirst ? [b, a, d, c] : [a, b, c, d];
  if (!(west < east && south < north)) return undefined;
  const isMetres = system === "EPSG:3857";
  const at = (u, v) => {
    const [x, y] = [mix(west, east, u), mix(north, south, v)];
    return isMetres ? [degrees(x / R), degrees(Math.atan(Math.sinh(y / R)))] : [x, y];
  };
  return draw(Number(WIDTH), Number(HEIGHT), at);
}

test("services", { timeout: LIMIT }, async (t) => {
  const areas = await openAreas(t, [exportTiny(scratch())]);
  const moods = new Map();
  const server = await startTiles(t, (url, request, response) => {
    const { pathname, searchParams } = url;
    const query = Object.fromEntries(searchParams);
    const mood = moods.get(pathname)?.shift();
    if (mood) return (mood(response), true);
    const give = (picture) => (response.setHeader("content-type", "image/png").end(picture), true);
    const [, kind, ...parts] = pathname.split("/");
    const [z, x, y] = parts.map((part) => Number.parseInt(part, 10));
    if (kind === "xyz") return give(drawTile(z, x, y));
    if (kind === "tms") return give(drawTile(z, x, 2 ** z - 1 - y));
    if (kind === "retina") return parts[2].endsWith("@2x.png") && give(drawTile(z, x, y, 512));
    if (kind === "rest")
      return (
        parts[0] === "ortho" &&
        parts[1] === "GoogleMapsCompatible" &&
        give(drawTile(...[2, 4, 3].map((i) => Number.parseInt(parts[i], 10))))
      );
    if (kind === "quad") {
      const key = parts[0];
      const bits = (bit) => Number.parseInt([...key].map((digit) => (Number(digit) >> bit) & 1).join(""), 2);
      return give(drawTile(key.length, bits(0), bits(1)));
    }
    if (kind === "wmts") {
      const { Service, Request, Version, Layer, TileMatrixSet, TileMatrix, TileRow, TileCol, Style } = query;
      const right =
        Service === "WMTS" && Request === "GetTile" && Version === "1.0.0" && Layer === "ortho" && Style === "default";
      return (
        right &&
        TileMatrixSet === "web" &&
        give(drawTile(Number(TileMatrix.slice(1)), Number(TileCol), Number(TileRow)))
      );
    }
    if (kind === "wms") {
      const picture = query.map === "x" && drawMap(query);
      if (picture) return give(picture);
      response.setHeader("content-type", "text/xml");
      response.end(
        '<?xml version="1.0"?><ServiceExceptionReport><ServiceException>LayerNotDefined</ServiceException></ServiceExceptionReport>',
      );
      return true;
    }
    return false;
  });
  const { run } = await areas.open();

  await t.test("every scheme shows each place where it is", async (t) => {
    const { url } = server;
    const found = await run(
      async ([url]) => {
        const template = { minzoom: 3, maxzoom: 17 };
        const wms = { layers: "ortho", maxzoom: 17 };
        const all = {
          xyz: sources.xyz(`${url}/xyz/{z}/{x}/{y}.png`, template),
          tms: sources.xyz(`${url}/tms/{z}/{x}/{-y}.png`, template),
          quad: sources.xyz(`${url}/quad/{q}`, template),
          retina: sources.xyz(`${url}/retina/{z}/{x}/{y}{r}.png`, template),
          bbox: sources.xyz(
            `${url}/wms?map=x&SERVICE=WMS&REQUEST=GetMap&VERSION=1.3.0&LAYERS=ortho&STYLES=&FORMAT=image/png&CRS=EPSG:3857&WIDTH=256&HEIGHT=256&BBOX={bbox-epsg-3857}`,
            template,
          ),
          rest: sources.wmts(`${url}/rest/{Layer}/{TileMatrixSet}/{TileMatrix}/{TileRow}/{TileCol}.png`, {
            layer: "ortho",
            maxzoom: 17,
          }),
          kvp: sources.wmts(`${url}/wmts`, {
            layer: "ortho",
            matrixSet: "web",
            matrix: (zoom) => `m${zoom}`,
            maxzoom: 17,
          }),
          "wms 1.3.0 metres": sources.wms(`${url}/wms?map=x`, wms),
          "wms 1.1.1 metres": sources.wms(`${url}/wms?map=x&service=wfs`, { ...wms, version: "1.1.1" }),
          "wms 1.3.0 degrees": sources.wms(`${url}/wms?map=x`, { ...wms, crs: "EPSG:4326" }),
          "wms 1.1.1 degrees": sources.wms(`${url}/wms?map=x`, { ...wms, version: "1.1.1", crs: "EPSG:4326" }),
          "wms 1.3.0 CRS:84": sources.wms(`${url}/wms?map=x`, { ...wms, crs: "CRS:84", size: 300 }),
        };
        const out = {};
        for (const [name, source] of Object.entries(all)) {
          const level = source.levels.find((level) => level.name === "zoom 16") ?? source.levels[1];
          const [x, y] = source.system.fromLonLat(10.02, 50.01);
          const [column, row] = [(x - level.origin[0]) / level.pixel[0], (level.origin[1] - y) / level.pixel[1]].map(
            Math.floor,
          );
          // Over the corners of tiles.
          const box = { left: column - 200, top: row - 200, right: column + 200, bottom: row + 200 };
          const { rgba, missing } = await source.read(level, box, { signal: never });
          const places = [];
          for (let at = 0; at < 400; at += 13) {
            places.push(
              source.system.toLonLat(
                level.origin[0] + (box.left + at + 0.5) * level.pixel[0],
                level.origin[1] - (box.top + at + 0.5) * level.pixel[1],
              ),
            );
          }
          out[name] = { rgba: packed(rgba), missing, places };
        }
        return out;
      },
      [url],
    );
    for (const [name, { rgba, missing, places }] of Object.entries(found)) {
      assert.deepEqual(missing, [], name);
      const pixels = unpacked(rgba);
      for (const [i, place] of places.entries()) {
        const at = 4 * (13 * i * 400 + 13 * i);
        const wanted = colourAt(...place);
        for (const c of [0, 1]) {
          const off = (pixels[at + c] - wanted[c] + 256) % 256;
          assert.ok(off <= 1 || off >= 255, `${name}: ${pixels.subarray(at, at + 3)} at ${place}, which is ${wanted}`);
        }
        assert.equal(pixels[at + 2], 77);
      }
    }
    assert.ok(
      !server.log.some(
        ({ path, query }) => path === "/wms" && Object.keys(query).filter((name) => /^service$/i.test(name)).length > 1,
      ),
    );
  });

  await t.test("failures: tried again, waited for, named; refusals say what to do", async () => {
    const { url } = server;
    const end =
      (status, headers = {}, body) =>
      (response) =>
        response.writeHead(status, headers).end(body);
    moods.set("/xyz/4/8/5.png", [end(503), end(429, { "retry-after": "1" }), (response) => response.destroy()]);
    moods.set("/xyz/4/9/5.png", [end(404)]);
    moods.set("/xyz/4/8/6.png", Array(9).fill(end(200, { "content-type": "image/png" }, "no picture")));
    moods.set("/xyz/4/9/6.png", [end(204)]);
    moods.set("/xyz/5/1/1.png", Array(9).fill(end(401)));
    moods.set("/xyz/5/2/1.png", [end(200, { "content-type": "text/html" }, "<!doctype html><p>Welcome")]);
    server.log.length = 0;
    const found = await run(
      async ([url, huge]) => {
        const make = () => sources.xyz(`${url}/xyz/{z}/{x}/{y}.png`, { maxzoom: 6, headers: { "x-key": "secret" } });
        const source = make();
        const level = (source, zoom) => source.levels.find(({ name }) => name === `zoom ${zoom}`);
        const start = performance.now();
        const four = { left: 8 * 256, top: 5 * 256, right: 10 * 256, bottom: 7 * 256 };
        const { rgba, missing } = await source.read(level(source, 4), four, { signal: never });
        const waited = performance.now() - start;
        const filled = (x, y) => rgba[4 * (y * 512 + x) + 3] === 255;
        const shown = [filled(100, 100), filled(400, 100), filled(100, 400), filled(400, 400)];
        const one = (x, y) => ({ left: x * 256, top: y * 256, right: (x + 1) * 256, bottom: (y + 1) * 256 });
        const refused = await failing(source.read(level(source, 5), one(1, 1), { signal: never }));
        const page = await source.read(level(source, 5), one(2, 1), { signal: never });
        const text = await failing(async () => {
          const wrong = sources.wms(`${url}/wms?map=x`, { layers: "nothing" });
          const { missing } = await wrong.read(level(wrong, 5), one(2, 2), { signal: never });
          throw new SamloraError("format", missing[0].message);
        });
        const side = await failing(async () => {
          const wrong = sources.xyz(`${url}/retina/{z}/{x}/{y}@2x.png`, { maxzoom: 6, size: 256 });
          await wrong.read(level(wrong, 5), one(2, 2), { signal: never });
        });
        const controller = new AbortController();
        const reading = failing(make().read(level(source, 6), one(3, 3), { signal: controller.signal }));
        controller.abort(new Error("left the view"));
        const lacking = await Promise.all([
          failing(() => sources.xyz(`${url}/xyz/{z}/{x}/{y}.png`)),
          failing(() => sources.xyz(`${url}/xyz/{z}/{x}.png`, { maxzoom: 3 })),
          failing(() => sources.wms(url, {})),
          failing(() => sources.wms(url, { layers: "a", version: "1.1.1", crs: "CRS:84" })),
          failing(() => sources.wmts(url, { maxzoom: 3 })),
        ]);
        return {
          missing,
          waited,
          shown,
          refused,
          page: page.rgba.some((value) => value),
          text,
          side,
          aborted: await reading,
          lacking,
        };
      },
      [url],
    );
    assert.deepEqual(found.shown, [true, false, false, false]);
    assert.deepEqual(
      found.missing.map(({ tile }) => tile),
      ["4/8/6"],
    );
    assert.match(found.missing[0].message, /not a picture/);
    assert.ok(found.waited >= 1000, `Retry-After was not honoured: ${found.waited} ms`);
    const tries = (path) => server.log.filter((request) => request.path === path).length;
    assert.equal(tries("/xyz/4/8/5.png"), 4);
    assert.equal(tries("/xyz/4/9/5.png"), 1);
    assert.ok(
      server.log.filter(({ path }) => path.startsWith("/xyz/4")).every(({ headers }) => headers["x-key"] === "secret"),
    );
    assert.deepEqual([found.refused.code, /headers/.test(found.refused.remedy)], ["unsupported", true]);
    assert.equal(found.page, false);
    assert.match(found.text.message, /LayerNotDefined/);
    assert.deepEqual([found.side.code, found.side.remedy], ["invalid", "give the source's option size: 512"]);
    assert.equal(found.aborted.message, "left the view");
    assert.deepEqual(
      found.lacking.map(({ code }) => code),
      Array(5).fill("invalid"),
    );
    assert.match(found.lacking[0].message, /maxzoom/);
  });

  await t.test("a server that is away ends the reading, and few requests run at a time", async (t) => {
    let [running, most] = [0, 0];
    const away = await startTiles(t, (url, request, response) => {
      if (url.pathname.startsWith("/slow")) {
        most = Math.max(most, ++running);
        setTimeout(() => {
          running--;
          response.setHeader("content-type", "image/png").end(drawTile(6, 1, 1));
        }, 60);
        return true;
      }
      return (response.writeHead(500).end(), true);
    });
    const found = await run(async (url) => {
      const slow = sources.xyz(`${url}/slow/{z}/{x}/{y}.png`, { maxzoom: 6, parallel: 3 });
      await slow.read(slow.levels[0], { left: 0, top: 0, right: 2048, bottom: 1024 }, { signal: never });
      const source = sources.xyz(`${url}/dead/{z}/{x}/{y}.png`, { maxzoom: 6, parallel: 32 });
      return failing(source.read(source.levels[0], { left: 0, top: 0, right: 2048, bottom: 2048 }, { signal: never }));
    }, away.url);
    assert.equal(most, 3);
    assert.equal(found.code, "io");
    assert.match(found.message, /answered 500/);
  });
});
