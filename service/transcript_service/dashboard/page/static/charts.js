// Time charts by plotly.js, each with the same numbers as a table for those who cannot see it.
import { $, clock, h, table, cell, heading } from "./dom.js";

const library = new Promise((resolve, reject) => {
  if (window.Plotly) return resolve(window.Plotly);
  const script = $("#chart-library");
  script.addEventListener("load", () => resolve(window.Plotly));
  script.addEventListener("error", () => reject(new Error("The chart library did not load.")));
});

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const ROWS = 12; // of the table beneath a chart

const drawn = new Map(); // card id → how to draw it again in another theme

export function redraw() {
  for (const draw of drawn.values()) draw();
}

/**
 * Draws a chart into a card.
 * `lines`: [{label, color (css variable), series, dash, axis}], `unit`: formats a value.
 */
export function chart(id, { label, lines, format, stacked = false, log = false, second = null }) {
  const body = $(`#${id} .body`);
  let plot = body.querySelector(".plot");
  if (!plot) {
    plot = h("div", { class: "plot", role: "img" });
    body.replaceChildren(plot, h("details", { class: "as-table" }, h("summary", { text: "As a table" }), h("div")));
  }
  plot.setAttribute("aria-label", described(label, lines, format));
  body.querySelector(".as-table > div").replaceChildren(asTable(label, lines, format, second));
  const draw = () => library.then(
    (plotly) => plotly.react(plot, traces(lines, stacked), layout({ lines, log, format, second }), CONFIG),
    (error) => { plot.textContent = error.message; });
  drawn.set(id, draw);
  draw();
}

export function clear(id) {
  const plot = $(`#${id} .plot`);
  if (plot && window.Plotly) window.Plotly.purge(plot);
  drawn.delete(id);
}

const CONFIG = { displayModeBar: false, responsive: true, showTips: false, scrollZoom: false, doubleClick: "reset" };

const times = (series) => {
  const start = Date.parse(series.start);
  return series.values.map((_, index) => new Date(start + index * series.step_s * 1000));
};

function traces(lines, stacked) {
  return lines.map((line) => ({
    name: line.label,
    x: times(line.series),
    y: line.series.values,
    yaxis: line.axis ?? "y",
    hovertemplate: "%{y}<extra>%{fullData.name}</extra>",
    ...(stacked ? asBars(line) : asLine(line)),
  }));
}

// Stacked areas would draw a missing value as 0; a bar that is missing is just not there.
const asBars = ({ color, series }) => ({
  type: "bar",
  width: series.step_s * 1000,
  marker: { color: css(color), line: { width: 0 } },
});

const asLine = ({ color, dash, series }) => ({
  type: "scatter",
  mode: "lines+markers",
  connectgaps: false,
  line: { color: css(color), width: 2, dash: dash ?? "solid" },
  // Single measurements between gaps would be invisible as a line.
  marker: { size: series.values.map((_, i) => (lonely(series.values, i) ? 5 : 0)), color: css(color) },
});

const lonely = (values, i) => (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null;

// Ticks at 1, 2, 5, or closer where there is little between lowest and highest, or at powers of ten.
function logAxis(lines, format) {
  const values = lines.flatMap((line) => line.series.values).filter((value) => value > 0);
  const decades = Math.log10(Math.max(...values) / Math.min(...values));
  const steps = decades < 0.8 ? [1, 1.5, 2, 3, 4, 5, 7] : decades < 2.5 ? [1, 2, 5] : [1];
  const ticks = [-4, -3, -2, -1, 0, 1, 2, 3].flatMap((power) => steps.map((step) => Number(`${step}e${power}`)));
  return { type: "log", tickvals: ticks, ticktext: ticks.map(short(format)) };
}

const short = (format) => (value) => format(value).replace(/\.0+(?= )/, "");

function layout({ lines, log, format, second }) {
  const axis = { gridcolor: css("--grid"), linecolor: css("--grid"), zeroline: false, tickfont: { color: css("--quiet") }, fixedrange: true, automargin: true };
  return {
    height: 260,
    margin: { l: 46, r: second ? 52 : 12, t: 8, b: 64 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: css("--font"), size: 12, color: css("--text") },
    showlegend: true, // also of a single line, whose colour would mean nothing without
    barmode: "stack",
    bargap: 0,
    hovermode: "x unified",
    hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--text") } },
    legend: { orientation: "h", traceorder: "normal", x: 0, y: -0.2, font: { color: css("--text") } },
    xaxis: { ...axis, type: "date", showgrid: false },
    yaxis: {
      ...axis,
      rangemode: "tozero",
      hoverformat: log ? ".3s" : ".3~s",
      ...(log ? logAxis(lines, format) : { nticks: 5 }),
    },
    ...(second ? { yaxis2: { ...axis, overlaying: "y", side: "right", showgrid: false, rangemode: "tozero", ticksuffix: second.suffix, hoverformat: ",.0f", tickmode: "auto", tickformat: ",.0f", nticks: 5 } } : {}),
    transition: { duration: 0 },
  };
}

const lastOf = (values) => values.findLast((value) => value !== null) ?? null;

function described(label, lines, format) {
  const parts = lines.map((line) => `${line.label} ${(line.format ?? format)(lastOf(line.series.values))}`);
  return `${label}, over time. Latest: ${parts.join(", ") || "nothing"}.`;
}

function asTable(label, lines, format) {
  if (!lines.length) return h("p", { text: "Nothing." });
  const at = times(lines[0].series);
  const step = Math.max(1, Math.floor(at.length / ROWS));
  const rows = [];
  for (let index = at.length - 1; index >= 0 && rows.length < ROWS; index -= step) {
    rows.push(h("tr", {}, heading(clock(at[index])),
      lines.map((line) => cell("number", (line.format ?? format)(line.series.values[index])))));
  }
  return table(label, [["Time"], ...lines.map((line) => [line.label, "number"])], rows);
}
