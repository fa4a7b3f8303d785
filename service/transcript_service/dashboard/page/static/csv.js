// A chart's numbers as a file: a row per moment, a column per line.
import { h } from "./dom.js";

const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;

export function csv(lines) {
  const [{ series }] = lines;
  const start = Date.parse(series.start);
  const head = ["time", ...lines.map((line) => `${line.label} (${line.series.unit})`)].map(quoted);
  const rows = series.values.map((_, index) =>
    [new Date(start + index * series.step_s * 1000).toISOString(), ...lines.map((line) => line.series.values[index] ?? "")]);
  return [head, ...rows].map((row) => row.join(",")).join("\r\n") + "\r\n";
}

export function download(name, lines) {
  const url = URL.createObjectURL(new Blob([csv(lines)], { type: "text/csv" }));
  h("a", { href: url, download: `${name}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
