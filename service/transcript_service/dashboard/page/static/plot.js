// The chart library and what all charts have in common: colours, axes, dragging, clicking.
import { $ } from "./dom.js";

const library = new Promise((resolve, reject) => {
  if (window.Plotly) return resolve(window.Plotly);
  const script = $("#chart-library");
  script.addEventListener("load", () => resolve(window.Plotly));
  script.addEventListener("error", () => reject(new Error("The chart library did not load.")));
});

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const drawn = new Map(); // plot element → how to draw it again in another theme

export function redraw() {
  for (const draw of drawn.values()) draw();
}

const CONFIG = { displayModeBar: false, responsive: true, showTips: false, scrollZoom: false, doubleClick: false };

/**
 * Draws into `plot`, and again whenever the theme changes.
 * `traces()` and `layout()` are asked each time; `zoom(start, end)` gets milliseconds, `pick`
 * the points that were clicked.
 */
export function draw(plot, { traces, layout, zoom, pick }) {
  const now = () => library.then(async (plotly) => {
    await plotly.react(plot, traces(), { ...common(), ...layout() }, CONFIG);
    plot.removeAllListeners("plotly_relayout");
    plot.removeAllListeners("plotly_click");
    plot.on("plotly_relayout", (change) => {
      const [start, end] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      if (start && end && zoom) zoom(at(start), at(end));
    });
    plot.on("plotly_click", (event) => pick?.(event.points));
  }).catch((error) => { plot.textContent = error.message; });
  drawn.set(plot, now);
  return now();
}

export function forget(plot) {
  drawn.delete(plot);
  if (window.Plotly) window.Plotly.purge(plot);
}

// Plotly writes moments of the axis in this browser's zone, without naming it.
const at = (text) => new Date(String(text).replace(" ", "T")).getTime();

export const axis = (title) => ({
  gridcolor: css("--grid"), linecolor: css("--grid"), zeroline: false, automargin: true,
  tickfont: { color: css("--quiet") }, fixedrange: true,
  title: { text: title, standoff: 6, font: { color: css("--quiet"), size: 12 } },
});

const common = () => ({
  height: 270,
  margin: { l: 52, r: 12, t: 14, b: 0 },
  paper_bgcolor: "rgba(0,0,0,0)",
  plot_bgcolor: "rgba(0,0,0,0)",
  font: { family: css("--font"), size: 12, color: css("--text") },
  showlegend: true, // also of a single line, whose colour would mean nothing without
  dragmode: "zoom",
  hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--text") } },
  legend: { orientation: "h", traceorder: "normal", x: 0, yref: "container", y: 0, yanchor: "bottom", font: { color: css("--text") } },
  transition: { duration: 0 },
});

// Ticks at 1, 2, 5, or closer where there is little between lowest and highest, or at powers of ten.
export function logTicks(values, format) {
  const above = values.filter((value) => value > 0);
  const decades = Math.log10(Math.max(...above) / Math.min(...above));
  const steps = decades < 0.8 ? [1, 1.5, 2, 3, 4, 5, 7] : decades < 2.5 ? [1, 2, 5] : [1];
  const ticks = [-4, -3, -2, -1, 0, 1, 2, 3].flatMap((power) => steps.map((step) => Number(`${step}e${power}`)));
  return { type: "log", tickvals: ticks, ticktext: ticks.map((value) => format(value).replace(/\.0+(?= )/, "")) };
}
