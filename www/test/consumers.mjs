// Stands in for the people who install the package: packs it, installs it into a copy of an example, and serves that.

import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import { createServer as createPort } from "node:net";
import { homedir } from "node:os";
import { extname, join, normalize } from "node:path";
import { promisify } from "node:util";
import { until, www } from "./support.mjs";

// Installed bundlers are kept between runs: Next alone has 400 MB.
const kept = join(process.env.CARGO_TARGET_DIR ?? join(homedir(), ".samlora-target"), "consumers");

const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".wasm": "application/wasm",
  ".png": "image/png",
};

/** Runs a program in a folder; what it printed, which is also in the error if it fails. */
export async function execute(folder, command, ...args) {
  try {
    const { stdout, stderr } = await promisify(execFile)(command, args, {
      cwd: folder,
      maxBuffer: 1 << 26,
      env: { ...process.env, NO_COLOR: "1", NEXT_TELEMETRY_DISABLED: "1" },
    });
    return stdout + stderr;
  } catch (error) {
    throw new Error(`${[command, ...args].join(" ")} in ${folder}:\n${error.stdout}${error.stderr || error.message}`);
  }
}

/** The tarball that `npm publish` would send. Its content is in its name, so that npm installs it anew when it changes. */
export async function pack(folder) {
  mkdirSync(folder, { recursive: true });
  await execute(www, "npm", "pack", "--pack-destination", folder, "--loglevel=error");
  const tarball = join(
    folder,
    readdirSync(folder).find((file) => file.endsWith(".tgz")),
  );
  const named = join(
    folder,
    `samlora-${createHash("sha256").update(readFileSync(tarball)).digest("hex").slice(0, 16)}.tgz`,
  );
  renameSync(tarball, named);
  return named;
}

/** A copy of `example` with `shared` as its public folder and the tarball installed; undefined without a registry. */
export async function install(t, example, tarball, shared, more = {}) {
  const folder = reserve(t, example);
  for (const file of readdirSync(folder)) {
    if (file !== "node_modules") rmSync(join(folder, file), { recursive: true });
  }
  rmSync(join(folder, "node_modules/.vite"), { recursive: true, force: true });
  const source = join(www, "examples", example);
  if (existsSync(source)) cpSync(source, folder, { recursive: true, filter: (file) => !file.includes("node_modules") });
  cpSync(shared, join(folder, "public"), { recursive: true });

  const manifest = join(folder, "package.json");
  const project = existsSync(manifest) ? JSON.parse(readFileSync(manifest, "utf8")) : { private: true, type: "module" };
  project.dependencies = { ...project.dependencies, ...more, samlora: `file:${tarball}` };
  writeFileSync(manifest, JSON.stringify(project));
  try {
    await execute(
      folder,
      "npm",
      "install",
      "--prefer-offline",
      "--no-package-lock",
      "--no-audit",
      "--no-fund",
      "--loglevel=error",
    );
  } catch (error) {
    const reachable = await execute(folder, "npm", "ping", "--fetch-retries=0").then(
      () => true,
      () => false,
    );
    if (reachable || process.env.CI) throw error;
    console.log(`left out: the package in ${example}, npm's registry cannot be reached`);
    t.skip("npm's registry cannot be reached");
    return undefined;
  }
  return folder;
}

/** Serves files of the first of `folders` that has them, with types, CORS and `headers`; the address. */
export async function serveFiles(t, folders, headers = {}) {
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    const file = folders
      .map((folder) => join(folder, path.endsWith("/") ? `${path}index.html` : path))
      .find((candidate) => existsSync(candidate) && statSync(candidate).isFile());
    if (!file) return response.writeHead(404).end();
    response.writeHead(200, {
      "content-type": TYPES[extname(file)] ?? "application/octet-stream",
      "access-control-allow-origin": "*",
      ...headers,
    });
    response.end(request.method === "HEAD" ? undefined : readFileSync(file));
  });
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${server.address().port}`;
}

/** The folder that is kept for `example`; one of its own beside it while another run has that. */
function reserve(t, example) {
  mkdirSync(kept, { recursive: true });
  const lock = join(kept, `${example}.lock`);
  const mine = join(kept, `${example}.${process.pid}`);
  writeFileSync(mine, String(process.pid));
  try {
    for (;;) {
      try {
        linkSync(mine, lock); // Made as a whole, or not at all.
        t.after(() => rmSync(lock, { force: true }));
        mkdirSync(join(kept, example), { recursive: true });
        return join(kept, example);
      } catch (error) {
        if (error.code !== "EEXIST") throw error;
      }
      const holder = existsSync(lock) ? Number(readFileSync(lock, "utf8")) : process.pid;
      if (holder !== process.pid && isAlive(holder)) {
        const folder = mkdtempSync(join(kept, `${example}-`));
        t.after(() => rmSync(folder, { recursive: true, force: true }));
        return folder;
      }
      if (holder !== process.pid) rmSync(lock, { force: true }); // Of a run that was killed.
    }
  } finally {
    rmSync(mine);
  }
}

function isAlive(process_) {
  try {
    return process_ > 0 && process.kill(process_, 0);
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** Starts a bundler's own server, `script` of its package, and waits until it says that it listens; its address. */
export async function startServer(t, folder, script, ...args) {
  let said = "";
  // Between the search for a free port and its use another program may take it: then the next one.
  for (let attempt = 0; attempt < 5; attempt++) {
    const port = await freePort();
    const server = spawn(process.execPath, [join(folder, "node_modules", script), ...args, String(port)], {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1", NEXT_TELEMETRY_DISABLED: "1" },
    });
    t.after(() => server.kill());
    const listens = await new Promise((resolve) => {
      server.on("exit", () => resolve(false));
      for (const stream of [server.stdout, server.stderr]) {
        stream.on("data", (chunk) => {
          said += chunk;
          if (new RegExp(`http://localhost:${port}\\b`).test(said)) resolve(true);
        });
      }
    });
    const url = `http://localhost:${port}`;
    const answers = () =>
      fetch(url).then(
        ({ ok }) => ok && url,
        () => false,
      );
    if (listens) return until(() => (server.exitCode === null ? answers() : Promise.reject(new Error(said))), url);
  }
  throw new Error(`${script} does not listen: ${said}`);
}

async function freePort() {
  const probe = createPort();
  await new Promise((resolve) => probe.listen(0, resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
