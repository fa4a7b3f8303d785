// Search for traced requests. What is looked for stands in the address, and is the API's to judge.
import { hoursText, localTime, read, select, stretch, write } from "./address.js";
import { Refusal, get } from "./api.js";
import { $, ROOT, chip, fill, moment, note, outcome, traceLink } from "./dom.js";
import { DASH, seconds, words, worker } from "./format.js";
import { axis, css, draw, forget, logTicks, redraw } from "./plot.js";
import { banners, busy, setUpShell, verdict } from "./shell.js";
import { sortable } from "./sortable.js";

const form = $("#search");
const COLOURS = { success: "--good", no_captions: "--muted", blocked: "--bad", timeout: "--warn", skipped: "--c4" };
const SYMBOLS = { success: "circle", no_captions: "circle-open", blocked: "x", timeout: "diamond", skipped: "square" };
const NEWEST = "-time";
const SHOWN = "100"; // unless another limit is chosen

const COLUMNS = [
  { name: "time", value: (t) => t.at, show: (t) => moment(t.at) },
  { name: "duration", kind: "number", value: (t) => t.duration_s, show: (t) => seconds(t.duration_s) },
  { name: "video", value: (t) => t.video_id, show: (t) => t.video_id ?? DASH },
  { name: "outcome", value: (t) => t.outcome, show: (t) => outcome(t.outcome) },
  { name: "error type", value: (t) => t.error_type, show: (t) => t.error_type ?? DASH },
  { name: "source", value: (t) => t.source, show: (t) => t.source ?? DASH },
  { name: "stages", value: (t) => t.stages.length, show: (t) => attempts(t.stages) },
  { name: "worker", value: (t) => t.worker, show: (t) => worker(t.worker) },
  { name: "trace", value: (t) => t.trace_id, show: (t) => traceLink(t.trace_id) },
];

const attempts = (stages) => stages.length
  ? stages.map((a) => chip(`${a.stage} ${a.error_type ?? words(a.outcome)}`, a.outcome === "success" ? "good" : "bad")).reduce((all, one) => (all.append(" ", one), all), document.createElement("span"))
  : DASH;

let latest = null;
let running = null;

function fromAddress() {
  const given = read();
  for (const field of form.elements) {
    if (!field.name || field.name === "until" || field.name === "hours") continue;
    field.value = given[field.name] ?? "";
  }
  select(form.elements.hours, given.hours ?? "1", hoursText(given.hours));
  form.elements.until.value = given.end ? localTime(given.end) : "";
}

function search(changed = {}) {
  const { until, ...values } = Object.fromEntries(new FormData(form));
  const end = until ? new Date(until).toISOString() : "";
  write({ ...values, video: values.video.trim(), end, sort: read().sort, ...changed });
  fromAddress();
  load();
}

async function load() {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const { sort, ...asked } = read(); // the order is this page's own
  busy(true);
  try {
    latest = await get(`/api/dashboard/traces?${new URLSearchParams({ limit: SHOWN, ...asked })}`, { signal });
    banners(latest.partial ? [["warn", "Partial: there may be more, or a trace whose request has not arrived yet. Narrow the search, or show more."]] : []);
    verdict("healthy", `${latest.traces.length} found`);
    show();
  } catch (error) {
    if (error.name === "AbortError") return;
    latest = null;
    const known = error instanceof Refusal;
    banners([["fail", known ? error.message : "The service does not answer.", known && error.traceId]]);
    verdict("unknown", known && error.status < 500 ? "refused" : "no answer");
    clearChart();
    fill("scatter", note("No answer."));
    fill("found", note("No answer."));
  }
  busy(false);
}

function clearChart() {
  const plot = $("#scatter .plot");
  if (plot) forget(plot);
}

function show() {
  if (!latest.traces.length) {
    clearChart();
    const nothing = "No trace is as you asked. A request is here some seconds after it ended, if it was sampled.";
    fill("scatter", note(nothing));
    return fill("found", note(nothing));
  }
  scatter(latest);
  const order = read().sort ?? NEWEST;
  fill("found", sortable("Traces", COLUMNS, latest.traces, order, (sort) => {
    write({ ...read(), sort });
    show();
    [...document.querySelectorAll("#found .sort")].find((b) => b.textContent.startsWith(sort.replace("-", "")))?.focus();
  }));
}

function scatter({ traces, start, end }) {
  let plot = $("#scatter .plot");
  if (!plot) {
    plot = document.createElement("div");
    plot.className = "plot";
    plot.setAttribute("role", "img");
    fill("scatter", plot);
  }
  plot.setAttribute("aria-label", `${traces.length} requests by time and duration; the table below has the same.`);
  const kinds = [...new Set(traces.map((trace) => trace.outcome))];
  draw(plot, {
    traces: () => kinds.map((kind) => {
      const of = traces.filter((trace) => trace.outcome === kind);
      return {
        type: "scatter", mode: "markers", name: words(kind ?? "unknown"),
        x: of.map((trace) => new Date(trace.at)), y: of.map((trace) => trace.duration_s),
        ids: of.map((trace) => trace.trace_id),
        customdata: of.map((trace) => `${seconds(trace.duration_s)} · ${trace.video_id ?? "unknown video"}${trace.error_type ? ` · ${trace.error_type}` : ""}`),
        hovertemplate: "%{x|%H:%M:%S}<br>%{customdata}<extra></extra>",
        marker: { size: 9, color: css(COLOURS[kind] ?? "--bad-2"), symbol: SYMBOLS[kind] ?? "triangle-up", line: { width: 1, color: css("--card") } },
      };
    }),
    layout: () => ({
      hovermode: "closest",
      xaxis: { ...axis("time"), type: "date", showgrid: false, fixedrange: false, range: [new Date(start), new Date(end)] },
      yaxis: { ...axis("duration"), ...logTicks(traces.map((trace) => trace.duration_s), seconds) },
    }),
    zoom: (from, to) => search(stretch(from, to)),
    pick: ([point]) => { location.href = `${ROOT}/dashboard/trace/${encodeURIComponent(point.id)}`; },
  });
}

setUpShell(redraw);
form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
form.addEventListener("reset", () => setTimeout(() => { write({}); fromAddress(); load(); }));
addEventListener("popstate", () => { fromAddress(); load(); });
fromAddress();
load();
