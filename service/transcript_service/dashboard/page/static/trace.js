// One request: its spans as a waterfall, its log lines beneath.
import { Refusal, get } from "./api.js";
import { $, LEVELS, cell, chip, fill, h, moment, note, searchLink, table } from "./dom.js";
import { DASH, seconds, words } from "./format.js";
import { banners, busy, setUpShell, verdict } from "./shell.js";

const id = $("#trace-id").dataset.traceId;
// A trace arrives over some seconds (batching in the process and in the collector).
const PATIENCE = 10;
const PAUSE_MS = 3000;

const REQUEST = "transcript.fetch";

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function load(tries = PATIENCE) {
  busy(true);
  for (let left = tries; ; left -= 1) {
    try {
      draw(await get(`/api/dashboard/traces/${encodeURIComponent(id)}`));
      break;
    } catch (error) {
      const waiting = error instanceof Refusal && error.code === "trace_not_found" && left > 0;
      banners([[waiting ? "warn" : "fail", waiting ? "Not there yet: spans and lines take some seconds to arrive. Looking again…" : error instanceof Refusal ? error.message : "The service does not answer."]]);
      verdict("unknown", waiting ? "waiting" : "not found");
      if (!waiting) {
        for (const card of ["spans", "logs"]) fill(card, note("Nothing to show."));
        break;
      }
      await wait(PAUSE_MS);
    }
  }
  busy(false);
}

function draw(trace) {
  banners(trace.partial ? [["warn", "Partial: one of the stores did not answer, so spans or log lines are missing."]] : []);
  const spans = trace.spans.data ?? [];
  const lines = trace.logs.data ?? [];
  const failed = spans.filter((span) => span.error);
  // An attempt that the next one made good is part of a success: the first span tells the end.
  const whole = spans.find((span) => span.name === REQUEST) ?? spans[0];
  const end = whole?.attributes.outcome ?? (whole?.error ? "error" : "no error");
  verdict(...(whole ? [whole.error ? "unhealthy" : "healthy", words(end)] : ["unknown", "no spans"]));
  const video = whole?.attributes.video_id;
  $("#tiles").replaceChildren(
    tile("Duration", seconds(trace.duration_s)), tile("Started", trace.start ? moment(trace.start) : DASH),
    tile("Video", video ? searchLink({ video, hours: "168" }, video) : DASH),
    tile("Spans", h("a", { href: "#spans", text: String(spans.length) })),
    tile("Failed spans", String(failed.length), !failed.length ? "good" : whole.error ? "bad" : "warn"),
    tile("Log lines", h("a", { href: "#logs", text: String(lines.length) })));
  if (spans.length) fill("spans", scale(trace.duration_s), h("ol", { class: "waterfall" }, spans.map((span) => row(span, trace.duration_s, lines))));
  else fill("spans", note(trace.spans.status === "unavailable" ? "The trace store did not answer." : "No span by this id: not arrived yet, or too old."));
  drawLines(trace, spans, lines);
}

const tile = (name, value, kind = "") => h("div", { class: `tile ${kind}` }, h("h2", { class: "tile-name", text: name }), h("p", { class: "value" }, value));

const scale = (total) => h("div", { class: "scale", "aria-hidden": "true" }, h("span"), h("div", {}, [0, 0.25, 0.5, 0.75, 1].map((part) => h("span", { text: seconds(total * part) }))), h("span"));

function row(span, total, lines) {
  const left = total > 0 ? span.start_s / total : 0;
  const width = total > 0 ? span.duration_s / total : 1;
  const own = lines.filter((line) => line.span_id === span.span_id).length;
  const facts = ["transcript.stage", "stage", "outcome", "error.type", "http.response.status_code"]
    .map((key) => span.attributes[key]).filter((value) => value !== undefined).map(String);
  return h("li", {}, h("details", { id: `span-${span.span_id}` },
    h("summary", {},
      h("span", { class: "name", style: { paddingLeft: `${span.depth * 14}px` } },
        h("b", { class: span.error ? "error" : "", text: span.name }), " ",
        h("span", { class: "quiet", text: [...new Set(facts)].join(" · ") }),
        span.error ? h("span", { class: "hidden", text: " failed" }) : null),
      h("span", { class: "lane", "aria-hidden": "true" }, h("span", { class: `bar-span ${span.error ? "error" : ""} ${span.kind}`, style: { left: `${Math.min(left, 0.997) * 100}%`, width: `${Math.max(0.3, Math.min(width, 1 - left) * 100)}%` } })),
      h("span", { class: "took", text: seconds(span.duration_s) })),
    h("div", { class: "inside" },
      h("p", { class: "quiet", text: `${span.service ?? "unknown service"}, ${span.kind}, starts after ${seconds(span.start_s)}${own ? `, ${own} log line${own > 1 ? "s" : ""}` : ""}` }),
      span.status_message ? h("p", { class: "error", text: span.status_message }) : null,
      pairs("Attributes", span.attributes),
      span.events.map((event) => h("div", { class: "event" }, h("p", {}, h("b", { text: event.name }), ` after ${seconds(event.at_s)}`), pairs("Event attributes", event.attributes))))));
}

function pairs(caption, values) {
  const entries = Object.entries(values);
  if (!entries.length) return null;
  return table(caption, [["Name"], ["Value"]], entries.map(([name, value]) =>
    h("tr", {}, h("th", { scope: "row" }, h("code", { text: name })), cell("value", h("pre", { text: typeof value === "string" ? value : JSON.stringify(value) })))));
}

function drawLines(trace, spans, lines) {
  if (!lines.length) {
    return fill("logs", note(trace.logs.status === "unavailable" ? "The log store did not answer." : "No log line carries this id."));
  }
  const names = new Map(spans.map((span) => [span.span_id, span.name]));
  fill("logs", table("Log lines of this trace", [["After", "number"], ["Level"], ["Line", "grow"], ["Span"]], lines.map((line) =>
    h("tr", {},
      cell("number", h("time", { datetime: line.at, title: line.at, text: trace.start ? seconds(line.offset_s) : line.at })),
      cell("", chip(line.level, LEVELS[line.level])),
      cell("grow", h("details", {}, h("summary", {}, h("code", { text: line.text }), " ", h("span", { class: "quiet", text: gist(line.attributes) })), pairs("Fields", line.attributes))),
      cell("", names.has(line.span_id) ? h("a", { href: `#span-${line.span_id}`, onclick: () => { $(`#span-${CSS.escape(line.span_id)}`).open = true; }, text: names.get(line.span_id) }) : DASH)))));
}

function gist(fields) {
  const words = ["stage", "source", "outcome", "error_type", "reason"].map((key) => fields[key]).filter(Boolean);
  if (fields.duration_s) words.push(seconds(Number(fields.duration_s)));
  return words.join(" · ");
}

setUpShell();
$("#reload").addEventListener("click", () => load(0));
$("#copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(id);
  $("#copy").textContent = "Copied";
});
load();
