// Packages over a network in trouble: what is asked again, what is counted, and what is an error.

import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import {
  breakAfter,
  bytesOf,
  libraryPage,
  makePackage,
  READ,
  serveFile,
  sha256,
  startServer,
  tagOf,
} from "./packages.mjs";
import { browser, LIMIT } from "./support.mjs";

const SHARD = 300_000;

test("download", { timeout: LIMIT }, async (t) => {
  const server = await startServer(t);
  const foreign = await startServer(t, { cors: true });
  const chrome = await browser(t);
  const context = await chrome.newContext();
  const page = await libraryPage(context, server.url);
  const open = (input, options) =>
    page.evaluate(([input, options]) => globalThis.open(input, options), [input, { store: false, ...options }]);
  let number = 0;

  /** Puts a package of two shards on `host`, the first answered by `moods`; opens it, and checks bytes and progress. */
  async function load(moods, { host = server, file = "shard-0.safetensors", ...options } = {}) {
    const folder = `p${number++}`;
    const pack = makePackage(folder, [SHARD, SHARD]);
    const url = host.put(folder, pack);
    host.moods.set(`/${folder}/${file}`, moods);
    const seen = await open(url, options);
    const [first, second] = [pack.get("shard-0.safetensors"), pack.get("shard-1.safetensors")];
    if (!seen.error) {
      assert.deepEqual(seen.hashes, [sha256(first), sha256(second)]);
      assert.equal(seen.bytes, bytesOf(pack));
      assert.equal(seen.progress.at(-1).loadedBytes, seen.bytes);
    }
    seen.progress.forEach(({ loadedBytes, totalBytes }, i) => {
      assert.equal(totalBytes, bytesOf(pack));
      assert.ok(loadedBytes <= totalBytes && (i === 0 || loadedBytes > seen.progress[i - 1].loadedBytes), `step ${i}`);
    });
    const asked = host.asked(`/${folder}/`).map((line) => line.replace(`/${folder}/`, ""));
    return { seen, pack, first, asked };
  }
  const whole = ["GET samlora.json", "GET shard-0.safetensors", "GET shard-1.safetensors"];
  const again = (...lines) => [...whole.slice(0, 2), ...lines, whole[2]];

  await t.test("a good server is asked once a file", async () => {
    assert.deepEqual((await load([])).asked, whole);
  });

  await t.test("bytes are counted within a shard too", async () => {
    const halves = (request, response, bytes) => {
      response.writeHead(200, { "content-length": bytes.length });
      response.write(bytes.subarray(0, 100_000), () => setTimeout(() => response.end(bytes.subarray(100_000)), READ));
    };
    const { seen, pack } = await load([halves]);
    const half = pack.get("samlora.json").length + 100_000;
    assert.ok(
      seen.progress.some(({ loadedBytes }) => loadedBytes === half),
      JSON.stringify(seen.progress),
    );
  });

  await t.test("a broken connection goes on where it broke", async () => {
    const { first, asked } = await load([breakAfter(100_000)]);
    assert.deepEqual(asked, again(`GET shard-0.safetensors bytes=100000- ${tagOf(first)}`));
  });

  await t.test("a connection that breaks again and again goes on as long as bytes come", async () => {
    const cut = (count) => (request, response, bytes) => {
      const start = Number(/\d+/.exec(request.headers.range)[0]);
      response.writeHead(206, {
        "content-range": `bytes ${start}-${SHARD - 1}/${SHARD}`,
        "content-length": SHARD - start,
      });
      response.write(bytes.subarray(start, start + count), () => setTimeout(() => response.destroy(), READ));
    };
    const { asked } = await load([breakAfter(10_000), cut(20_000), cut(30_000), cut(40_000)], { waits: [20] });
    assert.deepEqual(
      asked.slice(2, -1).map((line) => line.split(" ")[2]),
      ["bytes=10000-", "bytes=30000-", "bytes=60000-", "bytes=100000-"],
    );
  });

  await t.test("with Last-Modified where there is no strong tag, without either where there is none", async () => {
    const modified = "Tue, 04 Mar 2025 10:00:00 GMT";
    const dated = await load([breakAfter(50_000, { etag: 'W/"weak"', "last-modified": modified })]);
    assert.deepEqual(dated.asked, again(`GET shard-0.safetensors bytes=50000- ${modified}`));
    const bare = (request, response, bytes) => {
      response.writeHead(200, { "content-length": bytes.length });
      response.write(bytes.subarray(0, 50_000), () => setTimeout(() => response.destroy(), READ));
    };
    assert.deepEqual((await load([bare])).asked, again("GET shard-0.safetensors bytes=50000-"));
  });

  await t.test("a server that ignores ranges starts the file anew", async () => {
    const plain = (request, response, bytes) => response.writeHead(200, { "content-length": bytes.length }).end(bytes);
    const { asked } = await load([breakAfter(200_000), plain]);
    assert.equal(asked.length, 4);
  });

  await t.test("a wrong Content-Range starts the file anew, without ranges", async () => {
    const wrong = (request, response, bytes) =>
      response.writeHead(206, { "content-range": `bytes 0-${SHARD - 1}/${SHARD}`, "content-length": SHARD }).end(bytes);
    const { asked } = await load([breakAfter(200_000), wrong]);
    assert.deepEqual(asked.slice(3, -1), ["GET shard-0.safetensors"]);
  });

  await t.test("416 starts the file anew", async () => {
    const refuse = (request, response) => response.writeHead(416).end();
    assert.equal((await load([breakAfter(200_000), refuse])).asked.length, 5);
  });

  await t.test("a file that changed between the parts is downloaded anew", async () => {
    const other = (request, response) => {
      const start = Number(/\d+/.exec(request.headers.range)[0]);
      const rest = Buffer.alloc(SHARD - start);
      response.writeHead(206, {
        "content-range": `bytes ${start}-${SHARD - 1}/${SHARD}`,
        "content-length": rest.length,
        etag: '"new"',
      });
      response.end(rest);
    };
    await load([breakAfter(200_000), other]); // The tag shows it,
    const silent = (request, response, bytes) => {
      response.removeHeader("etag");
      response.writeHead = (
        (head) =>
        (status, { etag, ...headers }) =>
          head.call(response, status, headers)
      )(response.writeHead);
      other(request, response, bytes);
    };
    const { asked } = await load([breakAfter(200_000), silent]); // or, without one, the hash.
    assert.equal(asked.length, 5);
  });

  await t.test("503, 429 and 500, then 200", async () => {
    const say =
      (status, headers = {}) =>
      (request, response) =>
        response.writeHead(status, headers).end();
    assert.equal((await load([say(503), say(429), say(500)])).asked.length, 6);
    assert.equal((await load([say(503)], { file: "samlora.json" })).asked.length, 4);
    const start = performance.now();
    await load([say(503, { "retry-after": "1" })]);
    assert.ok(performance.now() - start >= 1000, "it waits as long as the server asks");
    const long = await load([say(503, { "retry-after": "3600" })]);
    assert.match(long.seen.error.message, /answered 503/);
    assert.deepEqual(long.asked, whole.slice(0, 2));
    const never = await load([say(503), say(503), say(503), say(503), say(503)]);
    assert.equal(never.asked.length, 5); // Four attempts at the shard.
    assert.equal(never.seen.error.code, "io");
    assert.match(never.seen.error.remedy, /later/);
  });

  await t.test("a connection that only breaks is an error after some attempts", async () => {
    const { seen, asked } = await load(Array(9).fill((request, response) => response.destroy()));
    assert.equal(seen.error.code, "io");
    assert.match(seen.error.message, /shard-0\.safetensors: no answer/);
    // Chromium itself asks once more on a connection that it had used before.
    assert.ok(asked.length >= 5 && asked.length <= 10, asked.join());
  });

  await t.test("a connection that falls silent is broken", async () => {
    const silent = (request, response, bytes) => {
      response.writeHead(200, { "content-length": bytes.length, etag: tagOf(bytes) });
      response.write(bytes.subarray(0, 120_000));
    };
    const { first, asked } = await load([silent], { silence: 500 });
    assert.deepEqual(asked, again(`GET shard-0.safetensors bytes=120000- ${tagOf(first)}`));
  });

  await t.test("compressed answers are counted as they unfold, and resumed as the plain file", async () => {
    const zipped = (cut) => (request, response, bytes) => {
      const body = gzipSync(bytes, { level: 0 });
      response.writeHead(200, { "content-encoding": "gzip", "content-length": body.length, etag: 'W/"z"' });
      if (!cut) return response.end(body);
      response.write(body.subarray(0, cut), () => setTimeout(() => response.destroy(), READ));
    };
    assert.deepEqual((await load([zipped()])).asked, whole);
    const { asked } = await load([zipped(150_000)]);
    assert.equal(asked.length, 4);
    assert.match(asked[2], /^GET shard-0\.safetensors bytes=\d+-$/);
  });

  await t.test("another origin is asked for ranges without needing its leave", async () => {
    const { asked } = await load([breakAfter(100_000)], { host: foreign });
    assert.deepEqual(asked, again("GET shard-0.safetensors bytes=100000-")); // No OPTIONS: no preflight.
  });

  await t.test("a damaged shard is asked for once more, past the HTTP cache, and is then an error", async () => {
    const flipped = (request, response, bytes) => serveFile(request, response, Buffer.from(bytes).fill(7, 1000, 1010));
    assert.equal((await load([flipped])).asked.length, 4);
    const { seen } = await load([flipped, flipped]);
    assert.equal(seen.error.code, "integrity");
    assert.match(seen.error.message, /shard-0\.safetensors: its SHA-256/);
    assert.match(seen.error.remedy, /download/);
  });

  await t.test("a shard that is too short or too long is an error", async () => {
    const sized = (bytes) => (request, response) => serveFile(request, response, Buffer.alloc(bytes));
    const short = await load([sized(1000), sized(1000)]);
    assert.equal(short.seen.error.code, "integrity");
    assert.match(short.seen.error.message, /has 1000 bytes, the manifest says 300000/);
    assert.equal(short.asked.length, 3);
    const long = await load([sized(SHARD + 1)]);
    assert.equal(long.seen.error.code, "integrity");
    assert.match(long.seen.error.message, /has 300001 bytes, expected at most 300000/);
    const endless = await load([(request, response) => response.writeHead(200).end(Buffer.alloc(SHARD + 1))]);
    assert.match(endless.seen.error.message, /is longer than the 300000 bytes/);
  });

  await t.test("a web page or 404 in a shard's place is an error at once", async () => {
    const html = await load([
      (request, response) => response.writeHead(200, { "content-type": "text/html" }).end("<html>"),
    ]);
    assert.equal(html.seen.error.code, "not_found");
    assert.match(html.seen.error.message, /web page instead of shard-0\.safetensors/);
    assert.equal(html.asked.length, 2);
    const gone = await load([(request, response) => response.writeHead(404).end()]);
    assert.equal(gone.seen.error.code, "not_found");
    assert.match(gone.seen.error.remedy, /folder/);
  });

  await t.test("abort ends a download, a wait and a request that nobody answers", async () => {
    const slow = (request, response, bytes) => {
      response.writeHead(200, { "content-length": bytes.length });
      response.write(bytes.subarray(0, 150_000));
    };
    const moods = { download: slow, wait: breakAfter(150_000), request: () => {} };
    for (const [name, mood] of Object.entries(moods)) {
      const folder = `abort-${name}`;
      const url = server.put(folder, makePackage(folder, [SHARD]));
      server.moods.set(`/${folder}/shard-0.safetensors`, [mood]);
      const error = await page.evaluate(async (url) => {
        const controller = new AbortController();
        const options = { store: false, signal: controller.signal, patience: { waits: [60_000], silence: 60_000 } };
        const pack = await globalThis.lib.openPackage(globalThis.lib.normalise(url), options);
        setTimeout(() => controller.abort(new DOMException("enough", "AbortError")), 400);
        const start = performance.now();
        return pack
          .read("shard-0.safetensors", 300_000)
          .catch((e) => ({ name: e.name, message: e.message, after: performance.now() - start }));
      }, url);
      assert.equal(error.message, "enough", name);
      assert.ok(error.after < 5000, name);
    }
  });
});
