// Builds elements without ever parsing text as HTML.
import { DASH, count, when } from "./format.js";

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
  const body = $(`#${id} .body`);
  const held = body.contains(document.activeElement) ? document.activeElement : null;
  body.replaceChildren(...content.flat().filter(Boolean));
  // Whoever uses the keyboard stays where they are when the card is drawn anew.
  const same = (other) => other.href === held.href && other.textContent === held.textContent;
  if (held) [...body.querySelectorAll("a, button, summary")].find(same)?.focus({ preventScroll: true });
}

/** A moment as an element: the clock time, the full date on demand. */
export function moment(text) {
  if (!text) return DASH;
  return h("time", { datetime: text, title: new Date(text).toLocaleString(), text: when(text) });
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

const query = (values) => String(new URLSearchParams(Object.entries(values).filter(([, value]) => value)));

export const traceLink = (id, text) => (id
  ? h("a", { href: `${ROOT}/dashboard/trace/${encodeURIComponent(id)}`, "aria-label": `Trace ${id}` }, h("code", { text: text ?? `${id.slice(0, 8)}…` }))
  : DASH);

export const searchLink = (values, ...content) => h("a", { href: `${ROOT}/dashboard/traces?${query(values)}` }, ...content);

/** A table in a box that scrolls sideways on a phone. `columns`: [heading, class]. */
export function table(caption, columns, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: "hidden", text: caption }),
      h("thead", {}, h("tr", {}, columns.map(([text, kind]) => h("th", { scope: "col", class: kind }, text)))),
      h("tbody", {}, rows)));
}

export const cell = (kind, ...content) => h("td", { class: kind || null }, ...content);
export const heading = (...content) => h("th", { scope: "row" }, ...content);
export const note = (text, kind = "") => h("p", { class: `note ${kind}`, text });
export const chip = (text, kind = "") => h("span", { class: `chip ${kind}`, text });
export const fact = (name, ...value) => h("div", {}, h("dt", { text: name }), h("dd", {}, ...value));

/** How chips of log levels look. */
export const LEVELS = { error: "bad", warning: "warn" };

const GOOD = { success: "good", no_captions: "", skipped: "warn" };
export const outcome = (word) => chip((word ?? "unknown").replaceAll("_", " "), GOOD[word] ?? "bad");

export const FLAT = 0.05; // extrapolated counts of less are none

/** `blocked 12 · timeout 3` as chips, at most so many of them. */
export function chips(counts, kind = "", most = Infinity) {
  const known = Object.entries(counts ?? {}).filter(([, value]) => value >= FLAT);
  if (!known.length) return h("span", { class: "quiet", text: DASH });
  const rest = known.slice(most);
  return h("span", { class: "chips" },
    known.slice(0, most).map(([word, value]) => h("span", { class: `chip ${kind}` }, `${word} `, h("b", { text: count(value) }))),
    rest.length ? h("span", { class: "quiet", title: rest.map(([word, value]) => `${word} ${count(value)}`).join(", "), text: `+${rest.length} more` }) : null);
}
