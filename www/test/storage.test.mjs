// Packages in the browser's storage: what is kept, shared, replaced and removed, and that nothing there breaks a load.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { breakAfter, bytesOf, libraryPage, makePackage, serveFile, sha256, startServer } from "./packages.mjs";
import { browser, LIMIT } from "./support.mjs";

const SIZE = 200_000;

test("storage", { timeout: LIMIT }, async (t) => {
  const server = await startServer(t);
  const chrome = await browser(t);

  /** A subtest with a browser profile of its own. */
  const check = (name, work) =>
    t.test(name, async () => {
      const context = await chrome.newContext();
      try {
        const page = await libraryPage(context, server.url);
        const on = (tab) => ({
          page: tab,
          open: (input, options) =>
            tab.evaluate(([input, options]) => globalThis.open(input, options), [input, options]),
          storage: (method, ...args) =>
            tab.evaluate(([method, args]) => globalThis.lib.storage[method](...args), [method, args]),
          keys: () => tab.evaluate(async () => (await (await caches.open("samlora")).keys()).map((key) => key.url)),
          damaged: () => tab.evaluate(() => globalThis.damaged()),
        });
        server.asked();
        await work({ context, tab: async () => on(await libraryPage(context, server.url)), ...on(page) });
      } finally {
        await context.close();
      }
    });
  const hashesOf = (pack) => [...pack].filter(([file]) => file !== "samlora.json").map(([, bytes]) => sha256(bytes));

  await check(
    "a second load asks for the manifest alone, and for nothing with the network off",
    async ({ context, open, storage, damaged }) => {
      const pack = makePackage("first", [SIZE, SIZE]);
      const url = server.put("first", pack);
      const first = await open(url);
      assert.deepEqual(first.hashes, hashesOf(pack));
      assert.ok(first.stored);
      assert.equal(server.asked().length, 3);
      const before = Date.now();
      const second = await open(url);
      assert.deepEqual(second.hashes, first.hashes);
      assert.deepEqual(server.asked(), ["GET /first/samlora.json"]);
      assert.deepEqual(second.progress.at(-1), { loadedBytes: bytesOf(pack), totalBytes: bytesOf(pack) });
      await context.setOffline(true);
      const third = await open(url);
      assert.deepEqual(third.hashes, first.hashes);
      assert.ok(third.stored && second.stored);
      assert.deepEqual([...first.events, ...third.events], []);
      assert.deepEqual(await damaged(), []);
      const [entry] = await storage("list");
      assert.deepEqual(
        { ...entry, lastUsed: 0 },
        { url, name: "first", bytes: bytesOf(pack), complete: true, lastUsed: 0 },
      );
      assert.ok(entry.lastUsed.getTime() >= before && entry.lastUsed.getTime() <= Date.now());
    },
  );

  await check("a page that does not want storage leaves none", async ({ open, keys }) => {
    const seen = await open(server.put("none", makePackage("none", [SIZE])), { store: false });
    assert.equal(seen.stored, false);
    assert.deepEqual(await keys(), []);
  });

  await check("without a copy, being offline is an error", async ({ context, open }) => {
    await context.setOffline(true);
    const { error } = await open(server.put("first", makePackage("first", [SIZE])));
    assert.equal(error.code, "io");
    assert.match(error.message, /no answer/);
  });

  await check("a server's no is not hidden by a copy", async ({ open }) => {
    const url = server.put("gone", makePackage("gone", [SIZE]));
    assert.ok((await open(url)).stored);
    server.files.delete("/gone/samlora.json");
    assert.equal((await open(url)).error.code, "not_found");
    server.moods.set(
      "/gone/samlora.json",
      Array(9).fill((request, response) => response.writeHead(500).end()),
    );
    assert.match((await open(url)).error.message, /answered 500/);
    server.moods.delete("/gone/samlora.json");
  });

  await check("a server that says nothing is one that is away", async ({ open }) => {
    const url = server.put("mute", makePackage("mute", [SIZE]));
    assert.ok((await open(url)).stored);
    server.moods.set("/mute/samlora.json", [() => {}]);
    const seen = await open(url, { silence: 500 });
    assert.ok(seen.stored && !seen.error);
  });

  await check(
    "equal shards are stored and downloaded once, and stay while anyone names them",
    async ({ open, storage }) => {
      const base = randomBytes(SIZE);
      const [a, b] = [makePackage("a", [base, 1000]), makePackage("b", [base, 2000])];
      const [urlA, urlB] = [server.put("a", a), server.put("b", b)];
      await open(urlA);
      server.asked();
      const seen = await open(urlB);
      assert.deepEqual(seen.hashes, hashesOf(b));
      assert.deepEqual(server.asked(), ["GET /b/samlora.json", "GET /b/shard-1.safetensors"]);
      const size = await storage("size");
      assert.equal(size.bytes, bytesOf(a) + bytesOf(b) - SIZE);
      assert.ok(size.quota > size.bytes && size.available > 0 && size.available < size.quota);
      const list = await storage("list");
      assert.deepEqual(
        list.map(({ url, bytes }) => [url, bytes]),
        [
          [urlB, bytesOf(b)],
          [urlA, bytesOf(a)],
        ],
      );
      assert.equal(await storage("evict", urlA), true);
      assert.equal(await storage("evict", urlA), false);
      assert.equal((await storage("size")).bytes, bytesOf(b));
      assert.deepEqual(
        (await storage("list")).map(({ url, complete }) => [url, complete]),
        [[urlB, true]],
      );
      assert.equal(await storage("evict", "b/samlora.json"), true); // Any address of the package will do.
      assert.equal((await storage("size")).bytes, 0);
      await open(urlA);
      await storage("clear");
      assert.deepEqual(await storage("list"), []);
      assert.equal((await storage("size")).bytes, 0);
      assert.equal(typeof (await storage("persist")), "boolean");
    },
  );

  await check("a damaged entry is downloaded anew", async ({ open, page, damaged }) => {
    const pack = makePackage("rot", [SIZE, SIZE]);
    const url = server.put("rot", pack);
    await open(url);
    server.asked();
    await page.evaluate(async (hash) => {
      const cache = await caches.open("samlora");
      await cache.put(`https://samlora.invalid/sha256/${hash}`, new Response(new Uint8Array(200_000)));
    }, hashesOf(pack)[1]);
    assert.equal((await damaged()).length, 1);
    const seen = await open(url);
    assert.deepEqual(seen.hashes, hashesOf(pack));
    assert.ok(seen.stored);
    assert.deepEqual(server.asked(), ["GET /rot/samlora.json", "GET /rot/shard-1.safetensors"]);
    assert.deepEqual(await damaged(), []);
  });

  await check("a damaged shard of the server's is not stored", async ({ open, keys }) => {
    const pack = makePackage("bad", [SIZE]);
    const url = server.put("bad", pack);
    server.files.set("/bad/shard-0.safetensors", randomBytes(SIZE));
    const seen = await open(url);
    assert.equal(seen.error.code, "integrity");
    assert.deepEqual(
      (await keys()).filter((key) => key.includes("sha256")),
      [],
    );
  });

  await check(
    "a new version takes the old one's place when it is complete",
    async ({ context, open, storage, keys }) => {
      const shared = randomBytes(SIZE);
      const [old, next] = [makePackage("old", [shared, SIZE]), makePackage("next", [shared, SIZE])];
      const url = server.put("update", old);
      await open(url);
      server.put("update", next);
      server.moods.set(
        "/update/shard-1.safetensors",
        Array(9).fill((request, response) => response.destroy()),
      );
      assert.equal((await open(url)).error.code, "io");
      server.moods.delete("/update/shard-1.safetensors");
      await context.setOffline(true);
      const offline = await open(url);
      assert.deepEqual(offline.hashes, hashesOf(old));
      assert.equal((await storage("list"))[0].name, "old");
      await context.setOffline(false);
      server.asked();
      const updated = await open(url);
      assert.deepEqual(updated.hashes, hashesOf(next));
      assert.ok(updated.stored);
      assert.equal(server.asked("shard-0").length, 0);
      assert.deepEqual(
        (await storage("list")).map(({ name, complete }) => [name, complete]),
        [["next", true]],
      );
      assert.equal((await storage("size")).bytes, bytesOf(next));
      assert.equal((await keys()).length, 3);
    },
  );

  await check("a version that was taken back leaves nothing", async ({ open, storage }) => {
    const [old, next] = [makePackage("old", [SIZE]), makePackage("next", [SIZE, SIZE])];
    const url = server.put("back", old);
    await open(url);
    server.put("back", next);
    await open(url, { only: 1 });
    assert.ok((await storage("size")).bytes > bytesOf(old) + SIZE);
    server.put("back", old);
    assert.ok((await open(url)).stored);
    assert.equal((await storage("size")).bytes, bytesOf(old));
  });

  await check(
    "no room: the package is in memory, and that is told once",
    async ({ context, page, open, storage, damaged }) => {
      const pack = makePackage("big", [SIZE, 3_000_000, 3_000_000]);
      const url = server.put("big", pack);
      const devtools = await context.newCDPSession(page);
      await devtools.send("Storage.overrideQuotaForOrigin", { origin: server.url, quotaSize: 1_000_000 });
      const seen = await open(url);
      assert.deepEqual(seen.hashes, hashesOf(pack));
      assert.equal(seen.stored, false);
      assert.equal(seen.events.length, 1, JSON.stringify(seen.events));
      assert.equal(seen.events[0].type, "unstored");
      assert.match(seen.events[0].message, /no room/);
      assert.deepEqual(await damaged(), []);
      assert.equal((await storage("list"))[0].complete, false);
      server.asked();
      await open(url);
      assert.equal(server.asked("shard-0").length, 0); // What found room serves.
      await devtools.send("Storage.overrideQuotaForOrigin", { origin: server.url });
      const later = await open(url);
      assert.ok(later.stored);
      assert.deepEqual(later.events, []);
      await page.evaluate(async (hash) => {
        await (await caches.open("samlora")).delete(`https://samlora.invalid/sha256/${hash}`);
      }, hashesOf(pack)[1]);
      await devtools.send("Storage.overrideQuotaForOrigin", { origin: server.url, quotaSize: 1 });
      server.asked();
      const gap = await open(url);
      assert.deepEqual(gap.hashes, hashesOf(pack));
      assert.deepEqual([gap.stored, gap.events.length], [false, 1]);
      assert.deepEqual(server.asked(), ["GET /big/samlora.json", "GET /big/shard-1.safetensors"]);
      await devtools.send("Storage.overrideQuotaForOrigin", { origin: server.url });
      assert.ok((await open(url)).stored);
      await devtools.send("Storage.overrideQuotaForOrigin", { origin: server.url, quotaSize: 1 });
      const full = await open(url); // Nothing more can be written, but all is there.
      assert.ok(full.stored);
      assert.deepEqual(full.events, []);
    },
  );

  await check("no storage at all", async ({ open, page, storage }) => {
    const pack = makePackage("bare", [SIZE, SIZE]);
    const url = server.put("bare", pack);
    for (const hide of [
      () =>
        Object.defineProperty(globalThis, "caches", {
          value: { open: () => Promise.reject(new DOMException("denied", "SecurityError")) },
          configurable: true,
        }),
      () => Object.defineProperty(globalThis, "caches", { value: undefined, configurable: true }),
    ]) {
      await page.evaluate(hide);
      const seen = await open(url);
      assert.deepEqual(seen.hashes, hashesOf(pack));
      assert.equal(seen.events.length, 1);
      assert.match(seen.events[0].message, /cannot be used/);
    }
    assert.deepEqual(await storage("list"), []);
    assert.equal(await storage("evict", url), false);
    assert.equal((await storage("size")).bytes, 0);
    await storage("clear");
  });

  await check("a page without https", async ({ context }) => {
    const pack = makePackage("plain", [SIZE, SIZE]);
    server.put("plain", pack);
    await context.route("http://plain.test/**", async (route) => {
      const { pathname } = new URL(route.request().url());
      await route.fulfill({ response: await route.fetch({ url: server.url + pathname }) });
    });
    const page = await libraryPage(context, "http://plain.test");
    const { secure, bytes, seen } = await page.evaluate(async () => {
      const events = [];
      const source = globalThis.lib.normalise("plain/");
      const pack = await globalThis.lib.openPackage(source, { store: true, onEvent: (event) => events.push(event) });
      const shards = [await pack.read("shard-0.safetensors", 200_000), await pack.read("shard-1.safetensors", 200_000)];
      return {
        secure: isSecureContext,
        bytes: shards.map((b) => Array.from(b.subarray(0, 99))),
        seen: { events, stored: pack.stored() },
      };
    });
    assert.equal(secure, false);
    assert.deepEqual(
      bytes,
      [0, 1].map((i) => [...pack.get(`shard-${i}.safetensors`).subarray(0, 99)]),
    );
    assert.equal(seen.stored, false);
    assert.equal(seen.events.length, 1);
    assert.match(seen.events[0].message, /https/);
  });

  await check("storage that fails in the middle", async ({ open, page, damaged }) => {
    const pack = makePackage("flaky", [SIZE, SIZE, SIZE]);
    await page.evaluate(() => {
      const put = Cache.prototype.put;
      let calls = 0;
      Cache.prototype.put = function (...args) {
        return ++calls === 3 ? Promise.reject(new DOMException("disk", "UnknownError")) : put.apply(this, args);
      };
    });
    const seen = await open(server.put("flaky", pack));
    assert.deepEqual(seen.hashes, hashesOf(pack));
    assert.equal(seen.events.length, 1);
    assert.equal(seen.stored, false);
    assert.deepEqual(await damaged(), []);
  });

  await check("two tabs put the same package at once", async ({ open, tab, damaged, storage }) => {
    const pack = makePackage("both", [SIZE, SIZE, SIZE, SIZE]);
    const url = server.put("both", pack);
    const other = await tab();
    for (const seen of await Promise.all([open(url), other.open(url), open(url)])) {
      assert.deepEqual(seen.hashes, hashesOf(pack));
      assert.ok(seen.stored);
      assert.deepEqual(seen.events, []);
    }
    assert.deepEqual(await damaged(), []);
    assert.equal((await storage("size")).bytes, bytesOf(pack));
  });

  for (const method of ["evict", "clear"]) {
    await check(`${method} in another tab during a load`, async ({ open, tab, storage, keys }) => {
      const pack = makePackage("moving", [SIZE, SIZE, SIZE]);
      const url = server.put("moving", pack);
      const other = await tab();
      let resume;
      const asked = new Promise((resolve) => {
        server.moods.set("/moving/shard-1.safetensors", [
          (request, response, bytes) => {
            resume = () => serveFile(request, response, bytes);
            resolve();
          },
        ]);
      });
      const loading = open(url, { only: 2 });
      await asked;
      await other.storage(method, url);
      resume();
      const seen = await loading;
      assert.deepEqual(seen.hashes, hashesOf(pack).slice(0, 2));
      assert.equal(seen.stored, false);
      assert.deepEqual(seen.events, []);
      assert.deepEqual(await keys(), []);
      assert.ok((await open(url)).stored);
      assert.equal((await storage("size")).bytes, bytesOf(pack));
    });
  }

  await check("shards that were read are not held", async ({ context, page }) => {
    const size = 8 << 20;
    const url = server.put("large", makePackage("large", Array(8).fill(size)));
    const devtools = await context.newCDPSession(page);
    const held = async () => {
      await devtools.send("HeapProfiler.collectGarbage");
      return (await devtools.send("Runtime.getHeapUsage")).backingStorageSize;
    };
    const before = await held();
    await page.evaluate(
      async ([url, size]) => {
        globalThis.pack = await globalThis.lib.openPackage(globalThis.lib.normalise(url), { store: true });
        for (let i = 0; i < 8; i++) await globalThis.pack.read(`shard-${i}.safetensors`, size);
      },
      [url, size],
    );
    const after = await held();
    assert.ok(after - before < 1.5 * size, `${after - before} bytes are held`);
  });

  await check(
    "abort at any moment leaves whole entries only, and the next load goes on",
    async ({ open, damaged, storage }) => {
      const pack = makePackage("stop", [SIZE, SIZE, SIZE]);
      const url = server.put("stop", pack);
      for (let at = 0; at < bytesOf(pack); at += SIZE / 3) {
        const seen = await open(url, { abortAt: at });
        assert.equal(seen.error.name, "AbortError", `${at}`);
        assert.deepEqual(await damaged(), []);
      }
      const [entry] = await storage("list");
      assert.ok(!entry.complete && entry.bytes >= 2 * SIZE);
      server.asked();
      server.moods.set("/stop/shard-2.safetensors", [breakAfter(50_000)]);
      assert.ok((await open(url)).stored);
      assert.equal(server.asked("shard-0").length, 0);
      assert.equal((await storage("list"))[0].complete, true);
    },
  );
});
