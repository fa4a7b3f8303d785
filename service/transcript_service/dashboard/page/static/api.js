// Talks to the dashboard API. The token lives in sessionStorage: this tab only, never in a URL.
import { $, ROOT } from "./dom.js";

const KEY = "dashboard-token";

export class Refusal extends Error {
  constructor(problem, status) {
    super(problem.detail ?? `The service answered ${status}.`);
    this.status = status;
    this.code = problem.code ?? "";
    this.traceId = problem.trace_id ?? "";
  }
}

export const hasToken = () => sessionStorage.getItem(KEY) !== null;
export const forgetToken = () => sessionStorage.removeItem(KEY);

/** JSON of a path. Asks for a token when the service wants one; throws `Refusal` otherwise. */
export async function get(path, { signal } = {}) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const response = await fetch(ROOT + path, {
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      signal,
      credentials: "omit",
    });
    if (response.ok) return response.json();
    const problem = await response.json().catch(() => ({}));
    if (response.status !== 401) throw new Refusal(problem, response.status);
    // Several questions may be under way: only the first refusal of a token asks for another.
    if (sessionStorage.getItem(KEY) !== token) continue;
    forgetToken();
    await askForToken(token ? problem.detail : "");
  }
}

let asking = null;

function askForToken(reason) {
  asking ??= new Promise((resolve) => {
    const dialog = $("#token-dialog");
    $("#token-reason").textContent = reason;
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    $("#token-form").addEventListener("submit", () => {
      sessionStorage.setItem(KEY, $("#token").value.trim());
      $("#token").value = "";
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
    $("#token").focus();
  });
  return asking;
}
