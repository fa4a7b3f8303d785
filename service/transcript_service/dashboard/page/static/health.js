// The checks behind the word about the whole.
import { fill, h } from "./dom.js";
import { words } from "./format.js";
import { empty } from "./states.js";

const SIGNS = { ok: "✓", warn: "!", fail: "✕", unknown: "?" };

export function drawHealth({ blocks: { health, alerts } }) {
  if (empty("health", health)) return;
  fill("health", h("ul", { class: "checks" }, health.data.checks.map((check) => {
    const { level, text } = check.name === "alerts" && alerts.data ? firing(alerts.data.active) : check;
    return h("li", { class: level },
      h("span", { class: "sign", "aria-label": level, role: "img", text: SIGNS[level] }),
      h("span", {}, h("b", { text: words(check.name) }), ` ${text}`));
  })));
}

/** The check by the alerts themselves, which are up to a minute ahead of the samples of them. */
function firing(active) {
  const loud = active.filter((alert) => alert.state === "firing" && alert.severity !== "none");
  const [first, ...others] = new Set(loud.map((alert) => alert.alertname)); // the most urgent first
  if (!first) return { level: "ok", text: "No alert is firing." };
  const more = others.length ? ` and ${others.length} more` : "";
  return { level: loud.some((alert) => alert.severity === "critical") ? "fail" : "warn", text: `${first}${more}.` };
}
