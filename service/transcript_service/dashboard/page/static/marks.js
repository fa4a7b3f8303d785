// What happened beside the requests and may explain a curve: breakers that opened, alerts,
// deploys, the demo's faults.
import { clock, words } from "./format.js";
import { css } from "./plot.js";

const COLOURS = { breaker: "--warn", alert: "--bad", deploy: "--accent", demo_fault: "--c4" };

/** The marks of an answer: [{kind, start, end, text}], those inside of its window. */
export function marksOf({ blocks, window }) {
  const breakers = (blocks.circuit_breaker.data?.timeline ?? []).flatMap(({ name, segments }) =>
    segments.filter((segment, i) => segment.state === "open" && segments[i - 1]?.state !== "half_open")
      .map(({ start }) => ({ kind: "breaker", start, text: `Breaker ${name} opened ${clock(start)}` })));
  const told = [...(blocks.alerts.data?.active ?? []).filter((a) => a.state === "firing"), ...(blocks.alerts.data?.history ?? [])];
  const alerts = [...new Map(told.filter((a) => a.since && a.severity !== "none").map((a) => [`${a.alertname} ${a.since}`, a])).values()]
    .map(({ alertname, since }) => ({ kind: "alert", start: since, text: `Alert ${alertname} ${clock(since)}` }));
  const others = (blocks.performance.data?.marks ?? []).map(({ kind, name, start, end }) =>
    ({ kind, start, end, text: kind === "deploy" ? `Version ${name} deployed ${clock(start)}` : `Demo: ${words(name)} ${clock(start)} to ${clock(end)}` }));
  const [from, to] = [Date.parse(window.start), Date.parse(window.end)];
  return [...breakers, ...alerts, ...others].filter(({ start, end }) => Date.parse(end ?? start) >= from && Date.parse(start) <= to);
}

/** Bands for what lasts, lines for what happens; their names are read by pointing at the sign. */
export function drawn(marks) {
  return {
    shapes: marks.map(({ kind, start, end }) => ({
      layer: "below", yref: "paper", y0: 0, y1: 1, x0: new Date(start), x1: new Date(end ?? start),
      ...(end ? { type: "rect", fillcolor: css(COLOURS[kind]), opacity: 0.12, line: { width: 0 } }
        : { type: "line", line: { color: css(COLOURS[kind]), width: 1.5, dash: "dot" } }),
    })),
    annotations: marks.map(({ kind, start, text }) => ({
      x: new Date(start), yref: "paper", y: 1, yanchor: "bottom", showarrow: false, text: "▼",
      font: { color: css(COLOURS[kind]), size: 13 }, hovertext: text, captureevents: true,
    })),
  };
}
