// A card's chart over time, with the same numbers as a table for those who cannot see it, and as
// a file. Dragging chooses a stretch of time; a click opens the nearest traced request.
import { $, ROOT, cell, h, heading, table } from "./dom.js";
import { clock, seconds } from "./format.js";
import { download } from "./csv.js";
import { drawn as drawnMarks } from "./marks.js";
import { axis, css, draw, forget, logTicks } from "./plot.js";

const ROWS = 12; // of the table beneath a chart

/**
 * `lines`: [{label, color (css variable), format, series, dash, faint, axis}];
 * `answer`: whose window is shown; `marks`: from marks.js; `points`: traced requests, drawn where
 * `pointsOnAxis`, reached by a click in any case; `zoom(start, end)`: what a drag does.
 */
export function chart(id, options) {
  const { label, lines, marks = [], points = [], answer } = options;
  const body = $(`#${id} .body`);
  let plot = body.querySelector(".plot");
  if (!plot) {
    plot = h("div", { class: "plot", role: "img" });
    body.replaceChildren(plot, h("details", { class: "as-table" }, h("summary", { text: "As a table" }), h("div")));
  }
  const own = lines.filter((line) => !line.faint);
  plot.setAttribute("aria-label", described(label, own, marks));
  body.querySelector(".as-table > div").replaceChildren(asTable(label, own), ...marks.map(({ text }) => h("p", { text })));
  $(`#${id} .tools`).replaceChildren(
    h("button", { type: "button", class: "small", onclick: () => download(id, lines), "aria-label": `${label} as CSV` }, "CSV"));
  draw(plot, {
    traces: () => [...lines.map((line) => trace(line, options)), ...(options.pointsOnAxis ? [dots(points)] : [])],
    layout: () => layout(options, marks, answer.window),
    zoom: options.zoom,
    pick: (picked) => follow(picked, points, lines[0]?.series.step_s ?? 0),
  });
}

export function clear(id) {
  const plot = $(`#${id} .plot`);
  if (plot) forget(plot);
  $(`#${id} .tools`)?.replaceChildren();
}

export const times = (series) => {
  const start = Date.parse(series.start);
  return series.values.map((_, index) => new Date(start + index * series.step_s * 1000));
};

function trace(line, { stacked }) {
  return {
    name: line.label,
    x: times(line.series),
    y: line.series.values,
    yaxis: line.axis ?? "y",
    customdata: line.series.values.map(line.format),
    hovertemplate: "%{customdata}<extra>%{fullData.name}</extra>",
    ...(stacked && !line.faint ? asBars(line) : asLine(line)),
  };
}

// Stacked areas would draw a missing value as 0; a bar that is missing is just not there.
const asBars = ({ color, series }) => ({
  type: "bar",
  width: series.step_s * 1000,
  marker: { color: css(color), line: { width: 0 } },
});

const asLine = ({ color, dash, faint, series }) => ({
  type: "scatter",
  mode: "lines+markers",
  connectgaps: false,
  opacity: faint ? 0.45 : 1,
  line: { color: css(color), width: faint ? 1.5 : 2, dash: dash ?? "solid" },
  // Single measurements between gaps would be invisible as a line.
  marker: { size: series.values.map((_, i) => (lonely(series.values, i) ? 5 : 0)), color: css(color) },
});

const lonely = (values, i) => (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null;

const dots = (points) => ({
  type: "scatter", mode: "markers", name: "traced requests",
  x: points.map((point) => new Date(point.at)),
  y: points.map((point) => point.duration_s),
  ids: points.map((point) => point.trace_id),
  customdata: points.map((point) => `${seconds(point.duration_s)}, ${point.outcome ?? "unknown"}: click for its trace`),
  hovertemplate: "%{customdata}<extra>a request</extra>",
  marker: { symbol: "diamond", size: 7, color: css("--card"), line: { width: 1.5, color: css("--text") } },
});

/** Opens the trace that was clicked, or of the requests about that time the slowest. */
function follow(picked, points, step) {
  const direct = picked.find((point) => point.id)?.id;
  const at = new Date(String(picked[0].x).replace(" ", "T")).getTime();
  const near = points.filter((point) => Math.abs(Date.parse(point.at) - at) <= Math.max(step, 60) * 1000);
  const id = direct ?? near.sort((a, b) => b.duration_s - a.duration_s)[0]?.trace_id;
  if (id) location.href = `${ROOT}/dashboard/trace/${encodeURIComponent(id)}`;
}

function layout({ lines, log, format, yTitle, second, stacked, points, pointsOnAxis }, marks, window) {
  const values = [...lines.flatMap((line) => line.series.values), ...(pointsOnAxis ? points.map((point) => point.duration_s) : [])];
  return {
    margin: { l: 52, r: second ? 56 : 12, t: 18, b: 0 },
    barmode: stacked ? "stack" : undefined,
    bargap: 0,
    hovermode: "x unified",
    xaxis: { ...axis("time"), type: "date", showgrid: false, fixedrange: false, range: [new Date(window.start), new Date(window.end)] },
    yaxis: { ...axis(yTitle), rangemode: "tozero", ...(log ? logTicks(values, format) : { nticks: 5 }) },
    ...(second ? { yaxis2: { ...axis(second), overlaying: "y", side: "right", showgrid: false, rangemode: "tozero", nticks: 5 } } : {}),
    ...drawnMarks(marks),
  };
}

const lastOf = (values) => values.findLast((value) => value !== null) ?? null;

function described(label, lines, marks) {
  const parts = lines.map((line) => `${line.label} ${line.format(lastOf(line.series.values))}`);
  return [`${label}, over time. Latest: ${parts.join(", ") || "nothing"}.`, ...marks.map(({ text }) => `${text}.`)].join(" ");
}

function asTable(label, lines) {
  const at = times(lines[0].series);
  const step = Math.max(1, Math.floor(at.length / ROWS));
  const rows = [];
  for (let index = at.length - 1; index >= 0 && rows.length < ROWS; index -= step) {
    rows.push(h("tr", {}, heading(clock(at[index])),
      lines.map((line) => cell("number", line.format(line.series.values[index])))));
  }
  return table(label, [["Time"], ...lines.map((line) => [line.label, "number"])], rows);
}
