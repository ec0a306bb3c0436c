// Areas that go on: a page that is reloaded, another plan under the same name, damaged blocks, two tabs, no room.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { data, lacks, openAreas, startTiles } from "./areas.mjs";
import { exportTiny, LIMIT, scratch } from "./support.mjs";

/** Runs in the page: what a job is made of, and what came of it. */
function prepare() {
  const digest = async (bytes) =>
    [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))]
      .map((b) => b.toString(16).padStart(2, "0"))
      .join("");
  globalThis.begin = async (address, more = {}) => {
    globalThis.model ??= await Segmenter.load("/models/tiny/", { device: "cpu", workers: 1 });
    globalThis.source ??= await sources.pmtiles(address);
    // Ten blocks of it.
    const area = [124.2636, 13.969, 124.2664, 13.9705];
    return model.segmentArea({
      source,
      area,
      resolution: "native",
      onProgress: (p) => (globalThis.progress = p),
      ...more,
    });
  };
  globalThis.resultOf = async (job) => {
    const { classMask, confidenceMask, width, height } = await job.result();
    const stats = (await job.stats()).map(({ pixels }) => pixels);
    return {
      classes: await digest(classMask),
      confidence: await digest(confidenceMask),
      width,
      height,
      stats,
      progress,
    };
  };
}

test("areas that go on", { timeout: LIMIT, skip: lacks("data") }, async (t) => {
  const areas = await openAreas(t, [exportTiny(scratch())]);
  const server = await startTiles(t);
  server.files.set("/area.pmtiles", readFileSync(join(data, "tiles/philippines.pmtiles")));
  const address = `${server.url}/area.pmtiles`;
  const open = async (context) => {
    const page = await areas.open(context);
    await page.run(prepare);
    return page;
  };
  const first = await open();
  const { context } = first;
  const undisturbed = await first.run(async (address) => resultOf(await begin(address)), address);
  const { total } = undisturbed.progress;
  assert.ok(total >= 8, `${total} blocks`);
  await first.page.close();

  await t.test("a reload at any moment loses nothing and does nothing twice", async (t) => {
    let windows = 0;
    let stored = 0;
    const moments = [0, 1, 3, 4, 6];
    for (const moment of moments) {
      const { page } = await open(context);
      // Somewhere in the middle of the block after that.
      await page.evaluate(
        async ([address, moment]) => {
          const job = await begin(address, { resume: "a district" });
          globalThis.reached = new Promise((resolve) => {
            (async () => {
              let count = 0;
              for await (const block of job) if (!block.stored && ++count > 3) resolve();
              resolve();
            })();
          });
          await globalThis.reached;
          await new Promise((resolve) => setTimeout(resolve, 20 * moment));
        },
        [address, moment],
      );
      const seen = await page.evaluate(() => progress);
      assert.ok(seen.stored >= stored, "blocks were lost");
      stored = seen.stored;
      windows += seen.windows;
      if (moment % 2) await page.close();
      else await page.reload();
      await page.close();
    }
    const { run, page } = await open(context);
    const found = await run(async (address) => resultOf(await begin(address, { resume: "a district" })), address);
    assert.ok(found.progress.stored > 2, `${found.progress.stored} blocks were kept`);
    for (const what of ["classes", "confidence", "width", "height"]) assert.equal(found[what], undisturbed[what], what);
    assert.deepEqual(found.stats, undisturbed.stats);
    windows += found.progress.windows;
    const most = undisturbed.progress.windows;
    assert.ok(found.progress.windows < most, "the last run saw every window again");
    t.diagnostic(
      `${moments.length} reloads: ${found.progress.stored} of ${total} blocks from storage at the end, ${windows} windows in all runs, ${most} in one`,
    );

    // All of it is there now: not one window more.
    const again = await run(async (address) => resultOf(await begin(address, { resume: "a district" })), address);
    assert.deepEqual([again.progress.windows, again.progress.stored], [0, total]);
    assert.equal(again.classes, undisturbed.classes);
    await page.close();
  });

  await t.test("another plan under the name is refused by what differs; forget() makes room", async () => {
    const { run, page } = await open(context);
    const found = await run(async (address) => {
      const of = async (more) => failing((await begin(address, { resume: "a district", ...more })).result());
      const area = await of({ area: [124.2636, 13.969, 124.266, 13.9705] });
      const thresholds = await of({ thresholds: { building: 0.9 } });
      const resolution = await of({ resolution: 0.3 });
      const size = await storage.size();
      const job = await begin(address, { resume: "a district" });
      await job.forget();
      const after = await storage.size();
      const fresh = await resultOf(await begin(address, { resume: "a district" }));
      const nothing = await failing((await begin(address)).forget());
      return { area, thresholds, resolution, freed: size.bytes - after.bytes, fresh, nothing };
    }, address);
    for (const [what, { message, remedy }] of Object.entries(found).filter(
      ([, value]) => value.code === "invalid" && value !== found.nothing,
    )) {
      assert.ok(message.includes(what), `${what}: ${message}`);
      assert.match(remedy, /forget/);
    }
    for (const what of ["area", "thresholds", "resolution"]) assert.equal(found[what].code, "invalid");
    assert.ok(found.freed > 1000, `${found.freed} bytes were freed`);
    assert.deepEqual([found.fresh.progress.stored, found.fresh.classes], [0, undisturbed.classes]);
    assert.equal(found.nothing.code, "invalid");
    await page.close();
  });

  await t.test("damaged blocks are computed anew, two tabs do not meet, and a full disk is told", async () => {
    const { run, page } = await open(context);
    const other = await open(context);
    await run(async (address) => {
      const job = await begin(address, { resume: "a district" });
      globalThis.iterator = job[Symbol.asyncIterator]();
      await iterator.next();
    }, address);
    const second = await other.run(
      async (address) => failing((await begin(address, { resume: "a district" })).result()),
      address,
    );
    assert.equal(second.code, "io");
    assert.match(second.message, /running already/);
    const found = await run(async (address) => {
      await iterator.return();
      const cache = await caches.open("samlora");
      const keys = (await cache.keys()).filter(({ url }) => url.includes("/area/a%20district/block/"));
      const bytes = new Uint8Array(await (await cache.match(keys[0])).arrayBuffer());
      bytes[bytes.length >> 1] ^= 0x55;
      await cache.put(keys[0], new Response(bytes));
      await cache.put(keys[1], new Response(bytes.slice(0, 40)));
      const mended = await resultOf(await begin(address, { resume: "a district" }));
      // No room.
      const { put } = Cache.prototype;
      Cache.prototype.put = function (key, ...rest) {
        return String(key.url ?? key).includes("/block/")
          ? Promise.reject(new DOMException("no room", "QuotaExceededError"))
          : put.call(this, key, ...rest);
      };
      const full = await resultOf(await begin(address, { resume: "another" }));
      Cache.prototype.put = put;
      return { mended, full, blocks: keys.length };
    }, address);
    assert.equal(found.blocks, total);
    assert.deepEqual([found.mended.progress.stored, found.mended.classes], [total - 2, undisturbed.classes]);
    assert.equal(found.full.classes, undisturbed.classes);
    assert.match(found.full.progress.unstored, /no room/);
    await page.close();
    await other.page.close();
  });
});
