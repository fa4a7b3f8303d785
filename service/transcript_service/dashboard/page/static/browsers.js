// Whether the browsers leak: memory of each worker against its threshold, and how they are reused.
import { FLAT, chips, fact, fill, h } from "./dom.js";
import { DASH, bytes, count, percent, seconds, worker } from "./format.js";
import { empty } from "./states.js";

export function drawBrowsers(answer) {
  const block = answer.blocks.browser_contexts;
  if (empty("browsers", block, "No browser pool reported. The youtubei stage may be off.")) return;
  const { data } = block;
  const held = data.contexts.reduce((sum, entry) => sum + entry.count, 0);
  fill("browsers",
    data.workers.length ? null : h("p", { class: "quiet", text: "No browser is running; the first lease starts one." }),
    h("ul", { class: "workers" }, data.workers.map((entry) => memory(entry, data.memory_threshold_bytes))),
    h("dl", { class: "facts" },
      fact("Reused", percent(data.reuse_ratio)), fact("Leases", count(data.leases)),
      fact("Contexts", `${data.contexts.length ? count(held) : DASH}${data.limit === null ? "" : ` of ${count(data.limit)}`}`),
      fact("Growth", grown(data.series)),
      fact("Wait P95", seconds(data.wait_p95_s)), fact("Age P95", seconds(data.age_p95_s))),
    Object.values(data.closed ?? {}).some((value) => value >= FLAT) ? h("p", {}, "Closed because of ", chips(data.closed)) : null);
}

function memory({ worker: id, bytes: size }, limit) {
  const full = limit ? size / limit : null;
  const kind = full === null ? "" : full > 1 ? "bad" : full > 0.8 ? "warn" : "good";
  return h("li", {},
    h("span", {}, "Worker ", h("code", { title: id, text: worker(id) })),
    full === null ? null : h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: `level ${kind}`, style: { width: `${Math.min(1, full) * 100}%` } })),
    h("b", { text: bytes(size) }),
    h("span", { class: "quiet", text: limit ? `of ${bytes(limit)}, ${percent(full)}` : "no threshold known" }));
}

/** By how much the memory of all workers grew or shrank from the first to the last value. */
function grown(series) {
  const known = (series.find(({ name }) => name === "memory")?.values ?? []).filter((value) => value !== null);
  if (known.length < 2) return DASH;
  const change = known.at(-1) - known[0];
  return `${change < 0 ? "−" : "+"}${bytes(Math.abs(change))}`;
}
