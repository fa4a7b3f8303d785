// What every page has: the theme, the banners, the word about the whole, the forgetting of a token.
import { forgetToken, hasToken } from "./api.js";
import { $, h } from "./dom.js";

export function setUpShell(themed = () => {}) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const label = () => { $("#theme").textContent = isDark() ? "Light" : "Dark"; };
  $("#theme").addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
    label();
    themed();
  });
  dark.addEventListener("change", () => { label(); themed(); });
  label();
  $("#forget").addEventListener("click", () => { forgetToken(); location.reload(); });
}

export function busy(yes) {
  $("#main").setAttribute("aria-busy", String(yes));
  $("#forget").hidden = !hasToken();
}

export function verdict(kind, text) {
  const pill = $("#verdict");
  if (pill.textContent === text) return; // the same word again would interrupt a screen reader
  pill.textContent = text;
  pill.className = `pill ${kind}`;
}

let shown = "[]";

/** Lines above the page: [kind, text, trace id]. */
export function banners(list) {
  const key = JSON.stringify(list);
  if (key === shown) return;
  shown = key;
  $("#banners").replaceChildren(...list.map(([kind, text, traceId]) =>
    h("p", { class: `banner ${kind}` }, text,
      traceId && !/^0+$/.test(traceId) ? h("span", { class: "quiet" }, " Trace ", h("code", { text: traceId })) : null)));
}
