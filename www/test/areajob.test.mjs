// `segmentArea` as a job: order, work ahead, failing tiles, pause, abort, and errors.

import assert from "node:assert/strict";
import { test } from "node:test";
import { prepare } from "./areafake.mjs";
import { openAreas } from "./areas.mjs";
import { exportTiny, LIMIT, scratch } from "./support.mjs";

test("jobs of areas", { timeout: LIMIT }, async (t) => {
  const areas = await openAreas(t, [exportTiny(scratch())]);
  const open = async () => {
    const page = await areas.open();
    await page.run(prepare);
    return page;
  };

  await t.test("blocks come one by one, nearest to the view first; few windows run beside, each once", async () => {
    const { run } = await open();
    const found = await run(async () => {
      const source = ground({ size: 3000 });
      const model = fake({ groundResolution: 1 });
      const degree = 1 / 111_320;
      const [x, y] = [2300, 900];
      const view = [
        10 + ((x - 50) * degree) / Math.cos((50 / 180) * Math.PI),
        50 - (y + 50) * degree,
        10 + ((x + 50) * degree) / Math.cos((50 / 180) * Math.PI),
        50 - (y - 50) * degree,
      ];
      const progress = [];
      const job = segmentArea(model, { source, view: () => view, onProgress: (p) => progress.push(p) });
      const distances = [];
      let seenAtFirst;
      let covered = 0;
      for await (const block of job) {
        seenAtFirst ??= model.seen.length;
        distances.push(Math.hypot(block.x + block.width / 2 - x, block.y + block.height / 2 - y));
        covered += block.width * block.height;
        // Whoever looks at a block for long holds the work up: it does not pile up in memory.
        if (distances.length === 3) {
          await new Promise((resolve) => setTimeout(resolve, 400));
          globalThis.held = model.seen.length;
          await new Promise((resolve) => setTimeout(resolve, 200));
          globalThis.stillHeld = model.seen.length;
        }
      }
      const { windows, blocks } = await estimateArea(model, { source });
      return {
        distances,
        seenAtFirst,
        covered,
        held: [held, stillHeld],
        seen: model.seen.length,
        windows,
        blocks,
        last: progress.at(-1),
        reads: source.log.length,
      };
    });
    const { distances } = found;
    assert.equal(distances.length, found.blocks);
    assert.ok(distances[0] < 500 && distances.every((d, i) => i === 0 || d > distances[i - 1] - 1), `${distances}`);
    assert.equal(found.covered, 3000 * 3000);
    assert.ok(found.seenAtFirst < found.seen / 8, `${found.seenAtFirst} of ${found.seen} before the first block`);
    assert.equal(found.held[0], found.held[1], "the work goes on although nobody takes its blocks");
    assert.equal(found.reads, found.seen, "a window was read twice");
    assert.ok(Math.abs(found.windows / found.seen - 1) < 0.1, `${found.windows} planned, ${found.seen} seen`);
    assert.deepEqual(found.last, {
      done: found.blocks,
      total: found.blocks,
      stored: 0,
      postponed: 0,
      windows: found.seen,
    });
  });

  await t.test("failed tiles are tried again at the end; what stays missing is no data and is named", async () => {
    const { run } = await open();
    const found = await run(async () => {
      const out = {};
      for (const [name, times] of [
        ["once", 1],
        ["for ever", Infinity],
      ]) {
        let failures = 0;
        // Whatever window covers this pixel.
        const fails = (left, top, right, bottom) => {
          if (!(left <= 900 && right > 900 && top <= 300 && bottom > 300)) return undefined;
          return failures < times && (failures++, true)
            ? { tile: "7/2", message: "the server answered 500" }
            : undefined;
        };
        const source = ground({ size: 1500, fails });
        const order = [];
        const progress = [];
        const job = segmentArea(fake({ groundResolution: 1 }), {
          source,
          onProgress: ({ postponed }) => progress.push(postponed),
        });
        for await (const block of job) order.push([block.x, block.y, block.missing.map(({ tile }) => tile).join()]);
        const whole = await segmentArea(fake({ groundResolution: 1 }), { source: ground({ size: 1500 }) }).result();
        const again = await segmentArea(fake({ groundResolution: 1 }), {
          source: ground({ size: 1500, fails: times > 1 ? fails : undefined }),
        }).result();
        let wrong = 0;
        for (let at = 0; at < whole.classMask.length; at++)
          if (again.classMask[at] !== NO_DATA && again.classMask[at] !== whole.classMask[at]) wrong++;
        out[name] = {
          order,
          most: Math.max(...progress),
          last: progress.at(-1),
          none: again.classMask.filter((c) => c === NO_DATA).length,
          missing: again.missing,
          wrong,
        };
      }
      return out;
    });
    for (const { order, most, last } of Object.values(found)) {
      assert.ok(most > 0, "nothing was postponed");
      assert.equal(last, 0);
      assert.equal(new Set(order.map(([x, y]) => `${x},${y}`)).size, order.length, "a block came twice");
    }
    assert.equal(found.once.none, 0);
    assert.ok(found.once.order.every(([, , missing]) => missing === ""));
    const forever = found["for ever"];
    assert.ok(forever.order.some(([, , missing]) => missing === "7/2"));
    assert.deepEqual(forever.missing, [{ tile: "7/2", message: "the server answered 500" }]);
    assert.ok(forever.none > 0);
  });

  await t.test("pause, resume, abort, leaving the loop and failures", async () => {
    const { run } = await open();
    const found = await run(async () => {
      const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time));
      const out = {};
      const model = fake({ groundResolution: 1 });
      const job = segmentArea(model, { source: ground({ size: 2000 }) });
      const blocks = [];
      const work = (async () => {
        for await (const block of job) blocks.push(block.x);
      })();
      while (blocks.length < 2) await sleep(5);
      job.pause();
      await sleep(150);
      const paused = [model.seen.length, blocks.length];
      await sleep(250);
      out.paused = [job.paused, model.seen.length - paused[0], blocks.length - paused[1]];
      job.resume();
      await work;
      out.total = blocks.length;
      out.stats = (await job.stats()).map(({ pixels, hectares }) => [pixels, hectares]);

      // An abort while paused, and one while running.
      for (const isPaused of [true, false]) {
        const controller = new AbortController();
        const model = fake({ groundResolution: 1 });
        const job = segmentArea(model, { source: ground({ size: 2000 }), signal: controller.signal });
        const ended = failing(async () => {
          for await (const _ of job) {
            if (isPaused) job.pause();
            setTimeout(() => controller.abort(new Error("enough")), 20);
          }
        });
        out[isPaused ? "abortPaused" : "abort"] = (await ended).message;
        const seen = model.seen.length;
        await sleep(100);
        out[isPaused ? "afterPaused" : "after"] = model.seen.length - seen;
      }

      const left = fake({ groundResolution: 1 });
      for await (const _ of segmentArea(left, { source: ground({ size: 2000 }) })) break;
      const seen = left.seen.length;
      await sleep(150);
      out.left = left.seen.length - seen;

      const broken = { ...ground(), read: () => Promise.reject(new SamloraError("unsupported", "no key")) };
      out.broken = await failing(segmentArea(fake(), { source: broken }).result());
      out.late = await failing(
        segmentArea(fake(), { source: Promise.reject(new SamloraError("format", "no archive")) }).result(),
      );
      const dead = { ...fake(), logits: () => Promise.reject(new SamloraError("device", "the GPU is gone")) };
      out.dead = await failing(segmentArea(dead, { source: ground() }).result());
      const huge = { ...ground(), levels: [{ ...ground().levels[0], width: 2 ** 28, height: 2 ** 28 }] };
      out.huge = await failing(segmentArea(fake(), { source: huge }).result());
      const large = { ...ground(), levels: [{ ...ground().levels[0], width: 9000, height: 9000 }] };
      out.large = await failing(segmentArea(fake(), { source: large }).result());
      out.aborted = await failing(
        segmentArea(fake(), { source: ground(), signal: AbortSignal.abort(new Error("before")) }).result(),
      );
      return out;
    });
    assert.deepEqual(found.paused, [true, 0, 0]);
    assert.equal(found.total, 16);
    const pixels = found.stats.reduce((sum, [pixels]) => sum + pixels, 0);
    const hectares = found.stats.reduce((sum, [, hectares]) => sum + hectares, 0);
    assert.equal(pixels, 2000 * 2000);
    // A square of 2000 m on the sphere of Web Mercator, 0.3 % off on the ellipsoid.
    assert.ok(Math.abs(hectares / 400 - 1) < 0.01, `${hectares}`);
    assert.deepEqual([found.abort, found.abortPaused], ["enough", "enough"]);
    assert.deepEqual([found.after, found.afterPaused, found.left], [0, 0, 0]);
    assert.deepEqual(
      [found.broken.message, found.late.message, found.dead.message],
      ["no key", "no archive", "the GPU is gone"],
    );
    assert.deepEqual([found.huge.code, found.large.code], ["limit", "limit"]);
    assert.equal(found.aborted.message, "before");
  });
});
