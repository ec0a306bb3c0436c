// Where packages may come from beside a folder on a server: archives, good and hostile, files, folders and functions.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { bytesOf, libraryPage, makePackage, makeZip, READ, serveFile, sha256, startServer } from "./packages.mjs";
import { browser, exportTiny, LIMIT, scratch } from "./support.mjs";

const SIZE = 200_000;

test("sources", { timeout: LIMIT }, async (t) => {
  const server = await startServer(t);
  const foreign = await startServer(t, { cors: true });
  const chrome = await browser(t);
  const context = await chrome.newContext();
  const page = await libraryPage(context, server.url);
  const open = (input, options) =>
    page.evaluate(([input, options]) => globalThis.open(input, options), [input, options]);
  const pack = makePackage("zipped", [SIZE, SIZE]);
  const hashes = ["shard-0.safetensors", "shard-1.safetensors"].map((file) => sha256(pack.get(file)));
  const zip = makeZip(pack);

  /** Opens `work(bytes)` of bytes that are handed to the page. */
  const openBytes = (bytes, work) =>
    page.evaluate(
      async ([base64, work]) => {
        const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
        return globalThis.open(await new Function(`return (${work})`)()(bytes));
      },
      [bytes.toString("base64"), work.toString()],
    );
  const asBlob = (bytes) => new Blob([bytes]);
  /** Asserts which parts of which length were asked for. */
  const parts = (lines) =>
    lines.map((line) => line.replace(/bytes=(\d+)-(\d+)$/, (_, a, b) => `${Number(b) - Number(a) + 1} bytes`));

  await t.test("what export writes", async () => {
    const folder = scratch();
    const archive = readFileSync(exportTiny(folder, { name: "tiny.samlora" }));
    const plain = exportTiny(folder, { name: "tiny" });
    server.put(
      "tiny",
      readdirSync(plain).map((file) => [file, readFileSync(join(plain, file))]),
    );
    server.files.set("/tiny.samlora", archive);
    const wanted = await open("tiny");
    assert.ok(wanted.hashes.length > 0 && !wanted.error);
    assert.deepEqual((await openBytes(archive, asBlob)).hashes, wanted.hashes);
    assert.deepEqual((await open("tiny.samlora")).hashes, wanted.hashes);
  });

  await t.test(
    "an archive as Blob, File, list with one file, bytes and buffer; in a folder; with a comment",
    async () => {
      const kinds = [
        asBlob,
        (bytes) => new File([bytes], "m.samlora"),
        (bytes) => [new File([bytes], "m.samlora")],
        (bytes) => bytes,
        (bytes) => bytes.buffer,
      ];
      for (const kind of kinds) assert.deepEqual((await openBytes(zip, kind)).hashes, hashes);
      for (const other of [
        makeZip(pack, { prefix: "model/" }),
        makeZip(pack, { comment: "PK\x05\x06 x".repeat(5000) }),
      ]) {
        assert.deepEqual((await openBytes(other, asBlob)).hashes, hashes);
      }
      // Bytes are copied: what the page does with them afterwards is of no interest.
      const seen = await openBytes(zip, (bytes) => {
        const { blob } = globalThis.lib.normalise(bytes);
        bytes.fill(0);
        return blob;
      });
      assert.deepEqual(seen.hashes, hashes);
    },
  );

  await t.test("an archive on a server: its directory, then one part a file; then from storage", async () => {
    for (const host of [server, foreign]) {
      host.files.set("/m.samlora", zip);
      host.asked();
      const url = `${host.url}/m.samlora`;
      const seen = await open(url);
      assert.deepEqual(seen.hashes, hashes);
      assert.ok(seen.stored === true, JSON.stringify(seen));
      assert.deepEqual(seen.progress.at(-1), { loadedBytes: bytesOf(pack), totalBytes: bytesOf(pack) });
      const part = (file) => `GET /m.samlora ${34 + file.length + pack.get(file).length} bytes`;
      const shards = host === server ? [part("shard-0.safetensors"), part("shard-1.safetensors")] : []; // Stored already.
      assert.deepEqual(parts(host.asked()), [
        "HEAD /m.samlora bytes=0-",
        `GET /m.samlora ${22 + 0xffff} bytes`,
        part("samlora.json"),
        ...shards,
      ]);
      assert.deepEqual((await open(url)).hashes, hashes);
      // The other origin does not show its tag, so that the manifest is read again.
      assert.equal(host.asked().length, host === server ? 1 : 3);
      await context.setOffline(true);
      const offline = await open(url);
      await context.setOffline(false);
      assert.ok(offline.stored);
      assert.deepEqual(offline.hashes, hashes);
      assert.equal((await page.evaluate(() => globalThis.lib.storage.list()))[0].url, url);
    }
    await page.evaluate(() => globalThis.lib.storage.clear());
  });

  await t.test("a part of an archive goes on where it broke", async () => {
    const cut = (request, response, bytes) => {
      const [start, end] = /(\d+)-(\d+)/.exec(request.headers.range).slice(1).map(Number);
      response.writeHead(206, {
        "content-range": `bytes ${start}-${end}/${bytes.length}`,
        "content-length": end - start + 1,
      });
      response.write(bytes.subarray(start, start + 70_000), () => setTimeout(() => response.destroy(), READ));
    };
    server.moods.set("/m.samlora", [serveFile, serveFile, serveFile, cut]);
    server.asked();
    assert.deepEqual((await open(`${server.url}/m.samlora`, { store: false })).hashes, hashes);
    const [, , , first, second] = server.asked().map((line) => /(\d+)-(\d+)/.exec(line)?.slice(1).map(Number));
    assert.deepEqual(second, [first[0] + 70_000, first[1]]);
  });

  await t.test("a server without ranges or HEAD sends the archive once", async () => {
    const plain = (request, response, bytes) => {
      if (request.method === "HEAD") return response.writeHead(405).end();
      response.writeHead(200, { "content-length": bytes.length });
      response.write(bytes.subarray(0, 100_000), () => setTimeout(() => response.end(bytes.subarray(100_000)), READ));
    };
    server.files.set("/plain.samlora", zip);
    server.moods.set("/plain.samlora", Array(9).fill(plain));
    server.asked();
    const seen = await open(`${server.url}/plain.samlora`);
    assert.deepEqual(seen.hashes, hashes);
    assert.deepEqual(server.asked(), ["HEAD /plain.samlora bytes=0-", "GET /plain.samlora"]);
    assert.ok(seen.stored && seen.progress.length > 1, JSON.stringify(seen.progress));
    seen.progress.forEach(({ loadedBytes, totalBytes }, i) => {
      assert.ok(loadedBytes <= totalBytes && (i === 0 || loadedBytes > seen.progress[i - 1].loadedBytes), `step ${i}`);
    });

    const noRanges = (request, response, bytes) => {
      response
        .writeHead(200, { "content-length": bytes.length, etag: '"1"' })
        .end(request.method === "HEAD" ? undefined : bytes);
    };
    server.files.set("/whole.samlora", zip);
    server.moods.set("/whole.samlora", Array(9).fill(noRanges));
    assert.deepEqual((await open(`${server.url}/whole.samlora`)).hashes, hashes);
    const asked = server.asked();
    assert.deepEqual([asked.length, asked.at(-1)], [3, "GET /whole.samlora"]);
    assert.ok((await open(`${server.url}/whole.samlora`)).stored);
    assert.deepEqual(server.asked(), ["HEAD /whole.samlora bytes=0-"]); // The tag says that nothing is new.
  });

  await t.test("an archive that changes while it is read", async () => {
    const other = makeZip(makePackage("other", [SIZE, SIZE]));
    const changed = (request, response) => serveFile(request, response, other);
    server.moods.set("/m.samlora", [serveFile, serveFile, changed]);
    const { error } = await open(`${server.url}/m.samlora`, { store: false });
    assert.match(error.message, /changed on the server/);
    assert.match(error.remedy, /again/);
  });

  await t.test("no archive there", async () => {
    const { error } = await open(`${server.url}/none.samlora`);
    assert.equal(error.code, "not_found");
    assert.match(error.message, /answered 404/);
    assert.match(error.remedy, /\.samlora/);
    server.moods.set(
      "/page.samlora",
      Array(9).fill((request, response) => {
        response
          .writeHead(200, { "content-type": "text/html", "content-length": 6 })
          .end(request.method === "HEAD" ? undefined : "<html>");
      }),
    );
    assert.match((await open(`${server.url}/page.samlora`)).error.message, /web page/);
  });

  const lie = (change) =>
    makeZip(pack, { change: (entry) => entry.name.includes("shard-1") && Object.assign(entry, change(entry)) });
  const end = (write) => makeZip(pack, { end: write });
  const renamed = (from, to, change) =>
    makeZip(new Map([...pack].map(([file, bytes]) => [file === from ? to : file, bytes])), { change });
  const flipped = Buffer.from(zip).fill(0, zip.indexOf('"version"'), zip.indexOf('"version"') + 4);
  const hostile = {
    "that is none": [Buffer.from("hello"), "format", /is not a \.samlora file/],
    "that is empty": [Buffer.alloc(0), "format", /is not a \.samlora file/],
    "that is cut off": [zip.subarray(0, zip.length - 100), "format", /cut off/],
    "without its beginning": [zip.subarray(1000), "format", /directory is not where/],
    "with compressed entries": [
      lie(() => ({ method: 8 })),
      "unsupported",
      /shard-1\.safetensors is compressed/,
      /zip -0/,
    ],
    "with encrypted entries": [lie(() => ({ flags: 1 })), "unsupported", /is encrypted/],
    "with an entry beyond the end": [lie(() => ({ start: 0x7fffffff })), "format", /reaches beyond its place/],
    "with an entry longer than the file": [
      lie(({ size }) => ({ size: size + 4000, storedSize: size + 4000 })),
      "format",
      /reaches beyond/,
    ],
    "with overlapping entries": [lie(() => ({ start: 0 })), "format", /reaches beyond its place/],
    "with an entry inside another": [
      lie(({ start }) => ({ start: start - 5000 })),
      "format",
      /reaches beyond its place/,
    ],
    "with two lengths": [lie(({ size }) => ({ size: size - 1 })), "format", /two lengths/],
    "with another header than its directory": [
      lie(({ start }) => ({ start: start + 4, size: 1, storedSize: 1 })),
      "format",
      /not where the directory says/,
    ],
    "with another name in its header": [
      renamed("shard-1.safetensors", "shard-x.safetensors", (entry) => {
        entry.name = entry.name.replace("x", "1");
      }),
      "format",
      /not where the directory says/,
    ],
    "with a manifest that fails its checksum": [flipped, "format", /samlora\.json does not match its checksum/],
    "of 64 bits": [lie(() => ({ size: 0xffffffff })), "unsupported", /64-bit/, /export/],
    "of 64 bits as a whole": [end((tail) => tail.writeUInt32LE(0xffffffff, 16)), "unsupported", /64-bit/],
    "in parts": [end((tail) => tail.writeUInt16LE(1, 4)), "unsupported", /one part of several/],
    "with more entries than it has": [
      end((tail) => {
        tail.writeUInt16LE(9, 8);
        tail.writeUInt16LE(9, 10);
      }),
      "format",
      /directory is wrong/,
    ],
    "with fewer entries than it has": [
      end((tail) => {
        tail.writeUInt16LE(1, 8);
        tail.writeUInt16LE(1, 10);
      }),
      "format",
      /directory is wrong/,
    ],
    "with a path upwards": [renamed("shard-1.safetensors", "../shard-1.safetensors"), "format", /reaches outside/],
    "with an absolute path": [renamed("shard-1.safetensors", "/etc/passwd"), "format", /reaches outside/],
    "with a drive": [renamed("shard-1.safetensors", "c:shard-1.safetensors"), "format", /reaches outside/],
    "with a backslash": [renamed("shard-1.safetensors", "a\\b"), "format", /reaches outside/],
    "with two entries of one name": [lie(() => ({ name: "shard-0.safetensors" })), "format", /two entries of one name/],
    "without a manifest": [renamed("samlora.json", "other.json"), "not_found", /holds no samlora\.json/],
    "with a manifest too deep": [makeZip(pack, { prefix: "a/b/" }), "not_found", /holds no samlora\.json/],
    "with several packages": [
      makeZip(
        new Map([
          ["a/samlora.json", Buffer.from("{}")],
          ["b/samlora.json", Buffer.from("{}")],
        ]),
      ),
      "not_found",
      /several packages/,
    ],
    "that lacks a shard": [renamed("shard-1.safetensors", "extra"), "not_found", /shard-1\.safetensors is missing/],
  };
  for (const [name, [bytes, code, message, remedy = /./]] of Object.entries(hostile)) {
    await t.test(`an archive ${name}`, async () => {
      server.files.set("/hostile.samlora", bytes);
      for (const { error } of [
        await openBytes(bytes, asBlob),
        await open(`${server.url}/hostile.samlora`, { store: false }),
      ]) {
        assert.ok(error?.ours, JSON.stringify(error));
        assert.equal(error.code, code, error.message);
        assert.match(error.message, message);
        assert.match(error.remedy, remedy);
      }
    });
  }

  await t.test("a folder's handle", async () => {
    const opened = (files, name) =>
      page.evaluate(
        async ([files, name]) => {
          const root = await navigator.storage.getDirectory();
          const folder = await root.getDirectoryHandle(name, { create: true });
          for (const [file, base64] of files) {
            const writer = await (await folder.getFileHandle(file, { create: true })).createWritable();
            await writer.write(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)));
            await writer.close();
          }
          return globalThis.open(folder);
        },
        [files.map(([file, bytes]) => [file, bytes.toString("base64")]), name],
      );
    const seen = await opened([...pack], "model");
    assert.deepEqual(seen.hashes, hashes);
    assert.equal(seen.stored, false);
    const partial = await opened(
      [...pack].filter(([file]) => file !== "shard-1.safetensors"),
      "partial",
    );
    assert.deepEqual(
      [partial.error.code, /shard-1\.safetensors is missing/.test(partial.error.message)],
      ["not_found", true],
    );
    assert.match((await opened([], "empty")).error.message, /samlora\.json is missing/);
  });

  await t.test("a source can be sent to a worker, unless it is a function", async () => {
    const kept = await page.evaluate(async () => {
      const { normalise, nameOf } = globalThis.lib;
      const root = await navigator.storage.getDirectory();
      const inputs = [
        "a",
        new URL("http://x/a.samlora?k=1#h"),
        [new File(["{}"], "samlora.json")],
        root,
        new Blob(["x"]),
        new Uint8Array(3),
      ];
      return inputs.map((input) => {
        const source = normalise(input);
        return [Object.keys(source)[0], nameOf(source), Object.keys(structuredClone(source))[0]];
      });
    });
    assert.deepEqual(kept, [
      ["base", `${server.url}/a/`, "base"],
      ["archive", "http://x/a.samlora?k=1", "archive"],
      ["files", "package", "files"],
      ["directory", "package", "directory"],
      ["blob", "package", "blob"],
      ["blob", "package", "blob"],
    ]);
  });

  await t.test("what is no package", async () => {
    const errors = await page.evaluate(() => {
      const inputs = [null, undefined, 7, {}, "http://[", "blob:http://x/1", [], [new File(["x"], "notes.txt")]];
      return inputs.map((input) => {
        try {
          return { none: globalThis.lib.normalise(input) };
        } catch (e) {
          return { code: e.code, message: e.message, remedy: e.remedy };
        }
      });
    });
    assert.deepEqual(
      errors.map((e) => e.code),
      [...Array(6).fill("invalid"), "not_found", "not_found"],
      JSON.stringify(errors),
    );
    for (const { remedy } of errors) assert.ok(remedy);
  });
});
