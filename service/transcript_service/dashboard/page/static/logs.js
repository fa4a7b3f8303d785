// The service's log as it is written, newest line first.
import { read, write } from "./address.js";
import { Refusal, get } from "./api.js";
import { $, LEVELS, cell, chip, h, moment, note, table, traceLink } from "./dom.js";
import { DASH, worker } from "./format.js";
import { banners, busy, setUpShell, verdict } from "./shell.js";

const PAUSE_MS = 2000;
const AFTER_FAILURE_MS = 5000;
const MOST = 1000; // lines kept on the page
const REPEATED = ["event", "logger"]; // what the line's text says already
const ASKED = ["stage", "level", "video"];

const form = $("#filter");
const body = $("#lines .body");
let paused = false;
let timer = null;
let running = null;
let since = null;
let seen = new Set();

/** Forgets what is shown and begins anew, as after another choice. */
function begin() {
  const given = read();
  for (const name of ASKED) form.elements[name].value = given[name] ?? "";
  since = null;
  seen = new Set();
  body.replaceChildren();
  follow();
}

async function follow() {
  clearTimeout(timer);
  running?.abort();
  const mine = (running = new AbortController());
  const query = new URLSearchParams({ ...read(), ...(since ? { since, limit: "500" } : {}) });
  busy(true);
  let wait = PAUSE_MS;
  try {
    const answer = await get(`/api/dashboard/logs?${query}`, { signal: mine.signal });
    // The first answer is a beginning, of which there is nearly always more.
    banners(answer.partial && since ? [["warn", "Partial: there were more lines than could be shown at once."]] : []);
    since = answer.next_since;
    show(answer.lines.filter((line) => !seen.has(line.id)));
    // The answers overlap by seconds: only the ids of the last one can come again.
    seen = new Set(answer.lines.map((line) => line.id));
    verdict("healthy", "following");
  } catch (error) {
    if (error.name === "AbortError") return;
    wait = AFTER_FAILURE_MS;
    const known = error instanceof Refusal;
    const refused = known && error.status < 500;
    banners([["fail", `${known ? error.message : "The service does not answer."}${refused ? "" : " Trying again."}`, known && error.traceId]]);
    verdict("unknown", refused ? "refused" : "no answer");
    if (!body.firstChild) body.replaceChildren(note("No answer."));
    if (refused) return busy(false); // the same question would be refused again
  }
  busy(false);
  if (!paused) timer = setTimeout(follow, wait);
}

function show(lines) {
  let rows = body.querySelector("tbody");
  if (!rows) {
    if (!lines.length) return body.replaceChildren(note("No such line in the last minutes. New ones appear here."));
    body.replaceChildren(table("Log lines, newest first", [["Time"], ["Level"], ["Line", "grow"], ["Worker"], ["Trace"]], []));
    rows = body.querySelector("tbody");
  }
  rows.prepend(...lines.map(row).reverse());
  while (rows.rows.length > MOST) rows.lastChild.remove();
}

const row = (line) => h("tr", {},
  cell("", moment(line.at)),
  cell("", chip(line.level, LEVELS[line.level])),
  cell("grow", h("code", { text: line.text }), " ", Object.entries(line.attributes).filter(([name]) => !REPEATED.includes(name)).flatMap(([name, value]) =>
    [h("span", { class: "quiet", text: `${name}=` }), `${value} `])),
  cell("", h("code", { title: line.worker, text: worker(line.worker) })),
  cell("", line.trace_id ? traceLink(line.trace_id) : DASH));

function choose() {
  const values = Object.fromEntries(new FormData(form));
  write({ ...values, video: values.video.trim() });
  begin();
}

$("#pause").addEventListener("click", () => {
  paused = !paused;
  $("#pause").setAttribute("aria-pressed", String(paused));
  $("#pause").textContent = paused ? "Resume" : "Pause";
  clearTimeout(timer);
  if (!paused) return follow();
  running?.abort();
  busy(false);
  verdict("unknown", "paused");
});
$("#clear").addEventListener("click", () => body.replaceChildren());
form.addEventListener("submit", (event) => { event.preventDefault(); choose(); });
form.addEventListener("change", choose);
addEventListener("popstate", begin);
setUpShell();
begin();
