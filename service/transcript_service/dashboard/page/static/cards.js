// One function per card: from a block of the API to what a person reads.
import { $, DASH, ROOT, bytes, cell, chips, count, fill, h, heading, link, moment, note, percent, seconds, table } from "./dom.js";
import { chart, clear } from "./charts.js";

const OUTCOMES = { success: "--good", no_captions: "--muted", blocked: "--bad", timeout: "--warn", error: "--bad-2", skipped: "--c4" };
const STAGES = { youtube_api: "--c1", timedtext: "--c2", youtubei: "--c3", asr: "--c4" };
const SIGNS = { ok: "✓", warn: "!", fail: "✕", unknown: "?" };
const REASONS = {
  scope: "Your token may not see this.",
  upstream_unreachable: "The metrics store cannot be reached.",
  upstream_timeout: "The metrics store did not answer in time.",
  upstream_busy: "The metrics store is overloaded.",
  upstream_invalid: "The metrics store sent something unusable.",
  query_defect: "A query of this service is defective; its operators find it in the log.",
};
const words = (text) => String(text ?? "").replaceAll("_", " ");

/** Says why a card is empty, or returns false when there is data to draw. */
function empty(id, block, nothing) {
  if (block.data !== null) return false;
  clear(id);
  if (block.status === "no_data") fill(id, note(nothing ?? "Nothing was measured in this window."));
  else fill(id, note(REASONS[block.reason] ?? "This cannot be shown now.", block.reason === "scope" ? "refused" : "fail"));
  return true;
}

export function drawVerdict(answer) {
  const verdict = answer.blocks.health.data?.verdict ?? "unknown";
  const pill = $("#verdict");
  if (pill.textContent !== verdict) {
    pill.textContent = verdict;
    pill.className = `pill ${verdict}`;
  }
}

export function drawTiles(answer) {
  const { performance, alerts, circuit_breaker: breakers } = answer.blocks;
  const requests = performance.data?.requests;
  const open = breakers.data?.breakers.filter((b) => ["open", "half_open", "forced_open"].includes(b.state)).length;
  const firing = alerts.data?.firing;
  const level = (ratio) => (ratio === null || ratio === undefined ? "" : ratio >= 0.95 ? "good" : ratio >= 0.8 ? "warn" : "bad");
  const rate = requests?.rate_per_s;
  const tiles = [
    ["Requests", count(requests?.total), rate || rate === 0 ? `${rate < 0.1 ? `${(rate * 60).toFixed(1)} a minute` : `${rate.toFixed(1)} a second`}` : ""],
    ["Success", percent(requests?.success_ratio), "of those that could", level(requests?.success_ratio)],
    ["Median time", seconds(requests?.p50_s), "P50 of all requests"],
    ["Slow time", seconds(requests?.p95_s), "P95 of all requests"],
    ["Breakers open", open === undefined ? DASH : String(open), breakers.data ? `of ${breakers.data.breakers.length}` : "", open ? "warn" : open === 0 ? "good" : ""],
    ["Alerts firing", firing === undefined ? DASH : String(firing), alerts.reason === "scope" ? "not for this token" : "", firing ? "bad" : firing === 0 ? "good" : ""],
  ];
  $("#tiles").replaceChildren(...tiles.map(([name, value, detail, kind]) =>
    h("div", { class: `tile ${kind ?? ""}` }, h("h3", { text: name }), h("p", { class: "value", text: value }), h("p", { class: "quiet", text: detail }))));
}

function drawHealth(block) {
  if (empty("health", block)) return;
  const engines = Object.entries(block.data.engines ?? {});
  // Alerts have a tile and a card, which are up to a minute ahead of the samples behind this check.
  const checks = block.data.checks.filter((check) => check.name !== "alerts");
  fill("health",
    h("ul", { class: "checks" }, checks.map((check) =>
      h("li", { class: check.level },
        h("span", { class: "sign", "aria-label": check.level, role: "img", text: SIGNS[check.level] }),
        h("span", {}, h("b", { text: words(check.name) }), ` ${check.text}`)))),
    engines.length ? h("p", { class: "quiet" }, "Engines: ", engines.map(([name, up], i) =>
      h("span", { class: up ? "" : "down", text: `${i ? ", " : ""}${name}${up ? "" : " (down)"}` }))) : null);
}

const seriesOf = (block, name) => block.data.series.filter((series) => series.name === name);

function drawRate(block) {
  if (empty("rate", block)) return;
  const order = Object.keys(OUTCOMES);
  const lines = seriesOf(block, "request_rate")
    .sort((a, b) => order.indexOf(a.labels.outcome) - order.indexOf(b.labels.outcome))
    .filter((series) => series.values.some((value) => value))
    .map((series) => ({ label: words(series.labels.outcome), color: OUTCOMES[series.labels.outcome] ?? "--line", series }));
  if (!lines.length) { clear("rate"); return fill("rate", note("No request in this window.")); }
  chart("rate", { label: "Requests per second by outcome", lines, stacked: true, format: (v) => (v === null ? DASH : `${v.toFixed(2)}/s`) });
}

function drawLatency(block, _answer, state) {
  if (empty("latency", block)) return;
  const lines = seriesOf(block, `stage_${state.quantile}`)
    .filter((series) => series.values.some((value) => value !== null))
    .map((series) => ({ label: words(series.labels.stage), color: STAGES[series.labels.stage] ?? "--muted", series }));
  if (!lines.length) { clear("latency"); return fill("latency", note("No stage ran in this window.")); }
  chart("latency", { label: `${state.quantile.toUpperCase()} of the time per stage`, lines, log: true, format: seconds });
}

function meter(ratio) {
  if (ratio === null) return h("span", { class: "quiet", text: DASH });
  const kind = ratio >= 0.95 ? "good" : ratio >= 0.8 ? "warn" : "bad";
  return h("span", { class: "meter" },
    h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: `level ${kind}`, style: { width: `${ratio * 100}%` } })),
    percent(ratio));
}

function drawStages(block) {
  if (empty("stages", block)) return;
  const { requests, stages } = block.data;
  const row = (name, entry, total, color) => h("tr", {},
    heading(color ? h("span", { class: "dot", style: { background: `var(${color})` }, "aria-hidden": "true" }) : null, name),
    cell("number", count(total)), cell("", meter(entry.success_ratio)),
    cell("number", seconds(entry.p50_s)), cell("number", seconds(entry.p95_s)),
    cell("", chips(entry.errors, "bad")), cell("", chips(entry.skipped)));
  fill("stages", table("Attempts and times by stage",
    [["Stage"], ["Attempts", "number"], ["Success"], ["P50", "number"], ["P95", "number"], ["Errors"], ["Not tried"]],
    [...stages.map((stage) => row(stage.stage, stage, stage.attempts, STAGES[stage.stage])),
      row("whole requests", requests, requests.total)]));
}

function requestsTable(id, block, list, nothing) {
  if (empty(id, block)) return;
  if (!list.length) return fill(id, note(nothing));
  fill(id, table("Requests with their traces", [["Time", "number"], ["Outcome"], ["When"], ["Trace"]],
    list.slice(0, 10).map((request) => h("tr", {},
      cell("number", h("b", { text: seconds(request.duration_s) })),
      cell("", h("span", { class: `chip ${request.outcome === "success" ? "good" : "bad"}`, text: words(request.outcome ?? "unknown") }),
        request.source ? h("span", { class: "quiet", text: ` by ${request.source}` }) : null),
      cell("", moment(request.at)),
      cell("", h("a", { href: `${ROOT}/dashboard/trace/${encodeURIComponent(request.trace_id)}`, "aria-label": `Trace ${request.trace_id}` }, h("code", { text: `${request.trace_id.slice(0, 10)}…` })))))));
}

const drawSlow = (block) => requestsTable("slow", block, block.data?.slow_requests ?? [], "No sampled request in this window.");
const drawFailed = (block) => requestsTable("failed", block, block.data?.failed_requests ?? [], "No failed request among the sampled ones.");

function drawBreakers(block, answer) {
  if (empty("breakers", block, "No breaker reported in this window.")) return;
  const start = Date.parse(answer.window.start);
  const length = Date.parse(answer.window.end) - start;
  const strip = (name) => {
    const segments = block.data.timeline.find((line) => line.name === name)?.segments ?? [];
    const told = segments.filter((s) => s.state !== "closed").map((s) => `${words(s.state)} from ${new Date(s.start).toLocaleTimeString()} to ${new Date(s.end).toLocaleTimeString()}`);
    return h("div", { class: "strip", role: "img", "aria-label": told.length ? `${name}: ${told.join(", ")}` : `${name}: closed all the time it was seen` },
      segments.map((segment) => {
        const left = Math.max(0, (Date.parse(segment.start) - start) / length);
        const right = Math.min(1, (Date.parse(segment.end) - start) / length);
        return h("span", { class: `state ${segment.state}`, title: `${words(segment.state)}, ${new Date(segment.start).toLocaleTimeString()} – ${new Date(segment.end).toLocaleTimeString()}`, style: { left: `${left * 100}%`, width: `${Math.max(0.3, (right - left) * 100)}%` } });
      }));
  };
  fill("breakers",
    table("Circuit breakers", [["Breaker"], ["State"], ["Over the window", "grow"], ["Calls"], ["Opened", "number"], ["Recovery P95", "number"]],
      block.data.breakers.map((breaker) => h("tr", {},
        heading(breaker.name),
        cell("", h("span", { class: `chip state-${breaker.state}`, text: words(breaker.state ?? "unknown") })),
        cell("grow", strip(breaker.name)),
        cell("", chips(breaker.calls)),
        cell("number", count(breaker.transitions?.filter((t) => t.to === "open").reduce((sum, t) => sum + t.count, 0))),
        cell("number", seconds(breaker.recovery_p95_s))))),
    h("p", { class: "legend", "aria-hidden": "true" }, ["closed", "half_open", "open"].map((s) => h("span", {}, h("i", { class: `state ${s}` }), words(s)))));
}

function drawBrowsers(block) {
  if (empty("browsers", block, "No browser pool reported. The youtubei stage may be off.")) return;
  const data = block.data;
  const held = data.contexts.reduce((sum, entry) => sum + entry.count, 0);
  const facts = h("dl", { class: "facts" },
    fact("Contexts", `${data.contexts.length ? count(held) : DASH}${data.limit === null ? "" : ` of ${count(data.limit)}`}`), fact("Memory", bytes(data.memory_bytes)),
    fact("Leases", count(data.leases)), fact("Reused", percent(data.reuse_ratio)),
    fact("Wait P95", seconds(data.wait_p95_s)), fact("Age P95", seconds(data.age_p95_s)));
  const memory = seriesOf(block, "memory").map((series) => ({ label: "memory (MiB, right)", color: "--c4", axis: "y2", dash: "dot", format: (v) => bytes(v === null ? null : v * 2 ** 20), series: { ...series, values: series.values.map((v) => (v === null ? null : v / 2 ** 20)) } }));
  const lines = [...seriesOf(block, "contexts").map((series) => ({ label: series.labels.state, color: series.labels.state === "leased" ? "--c1" : "--c2", series })), ...memory];
  if (lines.some(({ series }) => series.values.some((value) => value))) {
    chart("browsers", { label: "Browser contexts and memory", lines, format: count, second: { suffix: "" } });
  } else { clear("browsers"); fill("browsers"); }
  const body = $("#browsers .body");
  body.querySelector(".facts")?.remove();
  body.querySelector(".closed")?.remove();
  body.prepend(facts);
  body.append(because("Closed", data.closed));
}

/** Why something came to an end; nothing where nothing did. */
const because = (what, reasons) => h("p", { class: "closed" },
  Object.values(reasons ?? {}).some((value) => value >= 0.05) ? [`${what} because of `, chips(reasons)] : []);

const fact = (name, value) => h("div", {}, h("dt", { text: name }), h("dd", { text: value }));

function drawProxies(block) {
  if (empty("proxies", block, "No proxy is configured, or none reported.")) return;
  const data = block.data;
  fill("proxies",
    h("dl", { class: "facts" },
      fact("Healthy", count(data.pool && (data.pool.healthy ?? 0))), fact("Quarantined", count(data.pool && (data.pool.quarantined ?? 0))),
      fact("Success with proxy", percent(data.success_ratio.with_proxy)), fact("Success direct", percent(data.success_ratio.direct))),
    because("Changed", data.rotations),
    data.proxies.length ? table("Proxies", [["Proxy"], ["Probes"], ["P50", "number"], ["P95", "number"]],
      data.proxies.map((proxy) => h("tr", {}, heading(h("code", { text: proxy.proxy })), cell("", chips(proxy.probes)),
        cell("number", seconds(proxy.p50_s)), cell("number", seconds(proxy.p95_s))))) : null);
}

function drawAlerts(block) {
  if (empty("alerts", block)) return;
  const watchdogs = block.data.active.filter((alert) => alert.severity === "none");
  const active = block.data.active.filter((alert) => alert.severity !== "none");
  fill("alerts",
    active.length ? h("ul", { class: "alerts" }, active.map(oneAlert)) : h("p", { class: "calm", text: "No alert is active." }),
    watchdogs.length ? h("p", { class: "quiet", text: `${watchdogs.map((a) => a.alertname).join(", ")} fires on purpose: alerting works.` }) : null,
    history(block.data.history));
}

function oneAlert(alert) {
  const flags = [alert.silenced && "silenced", alert.inhibited && "inhibited"].filter(Boolean);
  return h("li", { class: `alert ${alert.severity ?? ""} ${alert.state}` },
    h("p", {},
      h("span", { class: `chip ${alert.severity === "critical" ? "bad" : "warn"}`, text: alert.severity ?? "alert" }), " ",
      h("b", { text: alert.alertname }), " ",
      h("span", { class: "quiet" }, `${alert.state} since `, moment(alert.since), flags.length ? `, ${flags.join(", ")}` : ""), " ",
      Object.entries(alert.labels).filter(([k]) => !["job", "instance"].includes(k)).map(([k, v]) => h("span", { class: "chip", text: `${k} ${v}` }))),
    h("p", { text: alert.description ?? alert.summary ?? "" }),
    h("p", { class: "quiet" },
      link(alert.runbook_url, "What to do (runbook)"), " ", link(alert.dashboard_url, "Dashboard"),
      alert.last_notified ? h("span", {}, " · notified ", moment(alert.last_notified)) : null,
      alert.next_repeat_at_earliest ? h("span", {}, ", again at the earliest ", moment(alert.next_repeat_at_earliest)) : null));
}

function history(entries) {
  if (!entries.length) return null;
  return h("details", {}, h("summary", { text: `History (${entries.length})` }),
    table("Alert history", [["Alert"], ["State"], ["Since"], ["Notified"]],
      entries.map((entry) => h("tr", {}, heading(entry.alertname), cell("", entry.state), cell("", moment(entry.since)), cell("", moment(entry.last_notified))))));
}

export const CARDS = {
  health: [drawHealth],
  performance: [drawRate, drawLatency, drawStages, drawSlow, drawFailed],
  circuit_breaker: [drawBreakers],
  browser_contexts: [drawBrowsers],
  proxy: [drawProxies],
  alerts: [drawAlerts],
};
