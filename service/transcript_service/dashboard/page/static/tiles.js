// The key figures. Each leads to the card that says more.
import { $, h } from "./dom.js";
import { DASH, bytes, count, level, percent, rate, seconds } from "./format.js";

const TRIPPED = ["open", "half_open", "forced_open"];

export function drawTiles({ blocks }, { stage }) {
  const { performance, alerts, circuit_breaker: breakers, browser_contexts: browsers } = blocks;
  const whole = performance.data?.requests;
  const part = performance.data?.stages.find((entry) => entry.stage === stage);
  const of = stage ? part : whole;
  const total = stage ? part?.attempts : whole?.total;
  const window = performance.data && whole.total ? whole.rate_per_s / whole.total : null;
  const what = stage ? "attempts" : "requests";
  const rejected = performance.data && (whole.errors?.overloaded ?? (whole.errors ? 0 : null));
  const states = breakers.data?.breakers.map((breaker) => breaker.state);
  const open = states?.filter((state) => TRIPPED.includes(state)).length;
  const firing = alerts.data?.firing;
  const fullest = Math.max(...(browsers.data?.workers ?? []).map((worker) => worker.bytes));
  const limit = browsers.data?.memory_threshold_bytes;
  const all = stage ? ", all stages" : "";
  const critical = alerts.data?.active.filter((a) => a.state === "firing" && a.severity === "critical").length;
  $("#tiles").replaceChildren(
    tile("#rate", stage ? `Attempts of ${stage}` : "Requests", count(total), total && window ? rate(total * window, what) : ""),
    tile("#failures", "Success", percent(of?.success_ratio), "of those that could", level(of?.success_ratio)),
    tile("#latency", "Median time", seconds(of?.p50_s), `P50 of all ${what}`),
    tile("#slow", "Slow time", seconds(of?.p95_s), `P95 of all ${what}`),
    tile("#failures", "Rejected", count(rejected), `for want of room${all}`, rejected >= 0.5 ? "warn" : ""),
    tile("#breakers", "Breakers open", open ?? DASH, states ? `of ${states.length}` : "", open ? "warn" : open === 0 ? "good" : ""),
    tile("#browsers", "Browser memory", Number.isFinite(fullest) ? bytes(fullest) : DASH,
      Number.isFinite(fullest) ? `${limit ? `of ${bytes(limit)}` : "of one worker"}${all}` : "", limit && fullest > limit ? "bad" : limit && fullest > 0.8 * limit ? "warn" : ""),
    tile("#alerts", "Alerts firing", firing ?? DASH, alerts.reason === "scope" ? "not for this token" : firing ? `${critical} critical` : "", firing ? "bad" : firing === 0 ? "good" : ""));
}

const tile = (target, name, value, detail, kind = "") => h("a", { class: `tile ${kind}`, href: target },
  h("span", { class: "tile-name", text: name }), h("span", { class: "value", text: value }), h("span", { class: "quiet", title: detail, text: detail }));
