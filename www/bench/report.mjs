// The report: medians and ratios, and the tables of them.

/** Above this, somebody else was using the machine: the largest over the median of a contender's warm runs. */
const STEADY = 1.5;

const median = (values) => {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
};

/** Cold, and median, least and most of the warm runs, of one number of the runs; none where it was not measured. */
function summary({ cold, warm }, key) {
  if (cold[key] === undefined) return undefined;
  const values = warm.map((run) => run[key]);
  return { cold: cold[key], median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/**
 * Adds to each result its summaries, the encoder's GFLOP/s where `operations` knows them of its model, and how its times relate to
 * those of its peers.
 */
export function evaluate(results, contenders, operations) {
  const found = results.map((result, i) => {
    const encode = summary(result, "encode");
    const { engine, model } = contenders[i];
    const work = operations[model]?.[engine === "ours" ? "work" : "reference"];
    return {
      ...result,
      total: summary(result, "total"),
      ...(encode && { encode, ...(work && { gflops: work / 1e6 / encode.median }) }),
    };
  });
  const ratio = (own, other) =>
    own && other && { cold: own.cold / other.cold, median: own.median / other.median, min: own.min / other.min };
  return found.map((result, i) => {
    const peers = (contenders[i].peers ?? []).map((peer) => found.find(({ name }) => name === peer));
    const ratios = peers.map((peer) => ({
      peer: peer.name,
      encode: ratio(result.encode, peer.encode),
      total: ratio(result.total, peer.total),
    }));
    return { ...result, ratios };
  });
}

const row = (...cells) => `| ${cells.join(" | ")} |`;
const rule = (count) => `|---|${"---:|".repeat(count - 1)}`;
const ms = (value) => (value === undefined ? "" : value.toFixed(value < 100 ? 1 : 0));
const times = (value) => (value === undefined ? "" : value.toFixed(2));
const megabytes = (bytes) => (bytes / 1e6).toFixed(2);

/** The report in Markdown. */
export function markdown({ settings, machine, operations, results, bytes }) {
  const gflop = (value) => (value / 1e9).toFixed(1);
  const counted = Object.entries(operations).map(
    ([model, { work, reference }]) =>
      `; the encoder of ${model} is ${gflop(work)} GFLOP here, ${gflop(reference)} in the reference's graph, which also ` +
      "multiplies filled-up windows",
  );
  const lines = [
    `${settings.backbones.join(", ")}, ${settings.size} px, float32${counted.join("")}`,
    `${machine.cpu}, ${machine.cores} cores, load ${machine.loadBefore} before and ${machine.loadAfter} after; ${machine.browser}`,
    `samlora ${machine.samlora}, wasm of ${machine.wasm.cpu.revision.slice(0, 12)}${machine.wasm.cpu.dirty ? " and changes" : ""}` +
      `${machine.wasm.cpu.wasmOpt ? "" : ", not optimised"}; onnxruntime-web ${machine.onnxruntime}; ${settings.rounds} warm runs each, in turns, on one page`,
  ];
  const unsteady = results.filter(({ total }) => total.max > STEADY * total.median).map(({ name }) => name);
  if (unsteady.length > 0)
    lines.push(`The machine was busy (${unsteady.join("; ")}): repeat when it is idle before quoting these figures.`);

  const head = [
    "milliseconds an image",
    "load",
    "encoder cold",
    "warm",
    "least",
    "GFLOP/s",
    "whole cold",
    "warm",
    "least",
    "error",
  ];
  lines.push("", row(...head), rule(head.length));
  for (const { name, load, encode, gflops, total, error } of results) {
    const [e, t] = [encode ?? {}, total];
    lines.push(
      row(
        name,
        ms(load),
        ms(e.cold),
        ms(e.median),
        ms(e.min),
        ms(gflops),
        ms(t.cold),
        ms(t.median),
        ms(t.min),
        error.toExponential(0),
      ),
    );
  }

  const ratios = ["samlora's time is x", "encoder cold", "warm", "least", "whole cold", "warm", "least"];
  lines.push("", row(...ratios), rule(ratios.length));
  for (const { name, peer, encode, total } of results.flatMap(({ name, ratios }) =>
    ratios.map((ratio) => ({ name, ...ratio })),
  )) {
    const [e, t] = [encode ?? {}, total];
    lines.push(
      row(
        `${name} / ${peer}`,
        times(e.cold),
        times(e.median),
        times(e.min),
        times(t.cold),
        times(t.median),
        times(t.min),
      ),
    );
  }

  const sizes = ["bytes to the first mask, MB", "runtime, gzip", "model", "together"];
  lines.push("", row(...sizes), rule(sizes.length));
  for (const { name, runtime, model } of bytes) {
    lines.push(
      row(
        name,
        megabytes(runtime),
        model === undefined ? "" : megabytes(model),
        model === undefined ? "" : megabytes(runtime + model),
      ),
    );
  }
  return lines.join("\n");
}
