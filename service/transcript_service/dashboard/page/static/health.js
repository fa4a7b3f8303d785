// The checks behind the word about the whole.
import { fill, h } from "./dom.js";
import { words } from "./format.js";
import { empty } from "./states.js";

const SIGNS = { ok: "✓", warn: "!", fail: "✕", unknown: "?" };

export function drawHealth({ blocks: { health } }) {
  if (empty("health", health)) return;
  // Alerts have a tile and a card, which are up to a minute ahead of the samples behind this check.
  const checks = health.data.checks.filter((check) => check.name !== "alerts");
  fill("health", h("ul", { class: "checks" }, checks.map((check) =>
    h("li", { class: check.level },
      h("span", { class: "sign", "aria-label": check.level, role: "img", text: SIGNS[check.level] }),
      h("span", {}, h("b", { text: words(check.name) }), ` ${check.text}`)))));
}
