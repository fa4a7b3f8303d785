// The three charts: requests, times, browsers.
import { chart, clear } from "./charts.js";
import { fill, note } from "./dom.js";
import { bytes, count, rate, seconds, words } from "./format.js";
import { marksOf } from "./marks.js";
import { empty } from "./states.js";

const OUTCOMES = { success: "--good", no_captions: "--muted", blocked: "--bad", timeout: "--warn", error: "--bad-2", skipped: "--c4" };
export const STAGES = { youtube_api: "--c1", timedtext: "--c2", youtubei: "--c3", asr: "--c4" };

const seriesOf = (data, name) => (data?.series ?? []).filter((series) => series.name === name);

function nothing(id, text) {
  clear(id);
  fill(id, note(text));
}

/** The series of an earlier window, put where the present one is. */
function shifted(series, hours) {
  return { ...series, start: new Date(Date.parse(series.start) + hours * 3_600_000).toISOString() };
}

const BEFORE = { 24: "a day before", 168: "a week before" };

export function drawRate(answer, state) {
  const block = answer.blocks.performance;
  if (empty("rate", block)) return;
  const order = Object.keys(OUTCOMES);
  const what = state.stage ? "attempts" : "requests";
  const format = (value) => rate(value, what);
  const lines = seriesOf(block.data, "request_rate")
    .sort((a, b) => order.indexOf(a.labels.outcome) - order.indexOf(b.labels.outcome))
    .filter((series) => series.values.some((value) => value))
    .map((series) => ({ label: words(series.labels.outcome), color: OUTCOMES[series.labels.outcome] ?? "--line", series, format }));
  if (!lines.length) return nothing("rate", `No ${what} in this window.`);
  const before = seriesOf(state.before, "request_rate");
  if (before.length) {
    const sums = before[0].values.map((_, i) => before.reduce((sum, series) => sum + (series.values[i] ?? 0), 0));
    lines.push({ label: `all, ${BEFORE[state.compare]}`, color: "--text", dash: "dot", faint: true, format, series: shifted({ ...before[0], values: sums }, state.compare) });
  }
  chart("rate", {
    label: `${state.stage ? `Attempts of ${state.stage}` : "Requests"} per second by outcome`,
    lines, stacked: true, answer, yTitle: `${what} per second`, marks: marksOf(answer), points: block.data.points, zoom: state.zoom,
  });
}

export function drawLatency(answer, state) {
  const block = answer.blocks.performance;
  if (empty("latency", block)) return;
  const of = (data) => seriesOf(data, `stage_${state.quantile}`).filter((series) => series.values.some((value) => value !== null));
  const line = (series, more) => ({ label: series.labels.stage, color: STAGES[series.labels.stage] ?? "--muted", format: seconds, series, ...more });
  const lines = of(block.data).map((series) => line(series));
  if (!lines.length) return nothing("latency", "No stage ran in this window.");
  lines.push(...of(state.before).map((series) =>
    line(shifted(series, state.compare), { label: `${series.labels.stage}, ${BEFORE[state.compare]}`, dash: "dot", faint: true })));
  chart("latency", {
    label: `${state.quantile.toUpperCase()} of the time per stage`,
    lines, log: true, format: seconds, answer, yTitle: "time", marks: marksOf(answer), points: block.data.points, pointsOnAxis: true, zoom: state.zoom,
  });
}

export function drawMemory(answer, state) {
  const block = answer.blocks.browser_contexts;
  if (empty("memory", block, "No browser pool reported. The youtubei stage may be off.")) return;
  const mib = (series) => ({ ...series, unit: "MiB", values: series.values.map((value) => (value === null ? null : value / 2 ** 20)) });
  const lines = [
    ...seriesOf(block.data, "contexts").map((series) => ({ label: `${series.labels.state} contexts`, color: series.labels.state === "leased" ? "--c1" : "--c2", series, format: count })),
    ...seriesOf(block.data, "memory").map((series) => ({ label: "memory", color: "--c4", axis: "y2", dash: "dot", series: mib(series), format: (value) => bytes(value === null ? null : value * 2 ** 20) })),
  ];
  if (!lines.some(({ series }) => series.values.some((value) => value))) return nothing("memory", "No browser in this window.");
  chart("memory", { label: "Browser contexts and memory", lines, answer, yTitle: "contexts", second: "MiB, all workers", marks: marksOf(answer), zoom: state.zoom });
}
