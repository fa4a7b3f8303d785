// Builds elements without ever parsing text as HTML, and writes numbers as people read them.

/** An element; attributes by name, `on…` as listeners, `text` as its text. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value); // CSSOM: allowed by the policy
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** The path below which the service is served: empty, or that of a reverse proxy. */
export const ROOT = document.documentElement.dataset.root ?? "";

export const $ = (selector) => document.querySelector(selector);

/** Replaces the body of a card. */
export function fill(id, ...content) {
  $(`#${id} .body`).replaceChildren(...content.flat().filter(Boolean));
}

export const DASH = "–";

export function seconds(value) {
  if (value === null || value === undefined) return DASH;
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 0.001) return `${(value * 1e6).toFixed(0)} µs`;
  if (size < 1) return `${(value * 1000).toFixed(size < 0.01 ? 1 : 0)} ms`;
  if (size < 100) return `${value.toFixed(2)} s`;
  return `${Math.floor(value / 60)} m ${Math.round(value % 60)} s`;
}

export function percent(value) {
  if (value === null || value === undefined) return DASH;
  return `${(Math.floor(value * 1000) / 10).toFixed(1)} %`; // 99.97 % is not 100 %
}

export function count(value) {
  if (value === null || value === undefined) return DASH;
  if (value > 0 && value < 0.5) return "<1";
  return Math.round(value).toLocaleString("en");
}

export function bytes(value) {
  if (value === null || value === undefined) return DASH;
  return `${Math.round(value / 2 ** 20).toLocaleString("en")} MiB`;
}

export function ago(milliseconds) {
  const s = Math.max(0, Math.round(milliseconds / 1000));
  if (s < 90) return `${s} s ago`;
  if (s < 5400) return `${Math.round(s / 60)} min ago`;
  if (s < 129600) return `${Math.round(s / 3600)} h ago`;
  return `${Math.round(s / 86400)} d ago`;
}

export const clock = (text) => new Date(text).toLocaleTimeString([], { hour12: false });

/** A moment as an element: the clock time, the full date on demand. */
export function moment(text) {
  if (!text) return DASH;
  const at = new Date(text);
  const sameDay = at.toDateString() === new Date().toDateString();
  const shown = sameDay ? clock(text) : at.toLocaleString([], { dateStyle: "short", timeStyle: "short", hour12: false });
  return h("time", { datetime: text, title: at.toLocaleString(), text: shown });
}

/** A link where the target is http(s); alerts come from outside, so `javascript:` must not pass. */
export function link(url, text) {
  try {
    if (["http:", "https:"].includes(new URL(url, location.href).protocol)) {
      return h("a", { href: url?.startsWith("/") ? ROOT + url : url, text, rel: "noreferrer" });
    }
  } catch { /* not a URL */ }
  return null;
}

/** A table in a box that scrolls sideways on a phone. `columns`: [heading, class]. */
export function table(caption, columns, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: "hidden", text: caption }),
      h("thead", {}, h("tr", {}, columns.map(([text, kind]) => h("th", { scope: "col", class: kind, text })))),
      h("tbody", {}, rows)));
}

export const cell = (kind, ...content) => h("td", { class: kind || null }, ...content);
export const heading = (...content) => h("th", { scope: "row" }, ...content);
export const note = (text, kind = "") => h("p", { class: `note ${kind}`, text });

/** `blocked 12 · timeout 3` as chips. */
export function chips(counts, kind = "") {
  const shown = Object.entries(counts ?? {}).filter(([, value]) => value >= 0.05);
  if (!shown.length) return h("span", { class: "quiet", text: DASH });
  return h("span", { class: "chips" }, shown.map(([word, value]) =>
    h("span", { class: `chip ${kind}` }, `${word} `, h("b", { text: count(value) }))));
}

export function setUpTheme(changed = () => {}) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const label = () => { $("#theme").textContent = isDark() ? "Light" : "Dark"; };
  $("#theme").addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
    label();
    changed();
  });
  dark.addEventListener("change", () => { label(); changed(); });
  label();
}
