// Numbers and times as people read them; what is not known is a dash, never 0.

export const DASH = "–";
const unknown = (value) => value === null || value === undefined;

export const words = (text) => String(text ?? "").replaceAll("_", " ");

export function seconds(value) {
  if (unknown(value)) return DASH;
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 0.001) return `${(value * 1e6).toFixed(0)} µs`;
  if (size < 1) return `${(value * 1000).toFixed(size < 0.01 ? 1 : 0)} ms`;
  if (size < 100) return `${value.toFixed(2)} s`;
  return `${Math.floor(value / 60)} m ${Math.round(value % 60)} s`;
}

/** `3.1 requests/s`; seldom ones by the minute. */
export function rate(value, what = "requests") {
  if (unknown(value)) return DASH;
  return value > 0 && value < 0.1 ? `${(value * 60).toFixed(1)} ${what}/min` : `${value.toFixed(value < 10 ? 1 : 0)} ${what}/s`;
}

export function percent(value) {
  if (unknown(value)) return DASH;
  return `${(Math.floor(value * 1000) / 10).toFixed(1)} %`; // 99.97 % is not 100 %
}

export function count(value) {
  if (unknown(value)) return DASH;
  if (value > 0 && value < 0.5) return "<1";
  return Math.round(value).toLocaleString("en");
}

export function bytes(value) {
  if (unknown(value)) return DASH;
  return `${Math.round(value / 2 ** 20).toLocaleString("en")} MiB`;
}

/** Workers are UUIDs; eight digits tell them apart. */
export const worker = (id) => (id ? id.slice(0, 8) : DASH);

export const level = (ratio) => (unknown(ratio) ? "" : ratio >= 0.95 ? "good" : ratio >= 0.8 ? "warn" : "bad");

export function span(milliseconds) {
  const s = Math.max(0, Math.round(milliseconds / 1000));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

export const ago = (milliseconds) => `${span(milliseconds)} ago`;

export const clock = (text) => new Date(text).toLocaleTimeString([], { hour12: false });

/** The clock time of today, date and time of other days. */
export function when(text) {
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  return today ? clock(at) : at.toLocaleString([], { dateStyle: "short", timeStyle: "short", hour12: false });
}
