// The overview: asks the API, draws what it says, and says what it does not know.
import { read, stretch, write } from "./address.js";
import { Refusal, get } from "./api.js";
import { drawAlerts } from "./alerts.js";
import { drawBreakers } from "./breakers.js";
import { drawBrowsers } from "./browsers.js";
import { drawLatency, drawMemory, drawRate } from "./curves.js";
import { $, fill, h, note } from "./dom.js";
import { drawFailures, noFailures } from "./failures.js";
import { ago, clock, when } from "./format.js";
import { drawHealth } from "./health.js";
import { redraw } from "./plot.js";
import { drawProxies } from "./proxies.js";
import { drawRequests } from "./requests.js";
import { banners, busy, setUpShell, verdict } from "./shell.js";
import { drawStages } from "./stages.js";
import { drawTiles } from "./tiles.js";

const REFRESH_MS = 30_000; // the API's cache time; asking more often would show the same numbers
const RECORDED_STEP_S = 300; // from here on the API adds up records
const CARDS = [drawTiles, drawHealth, drawStages, drawBreakers, drawBrowsers, drawAlerts, drawRate, drawLatency, drawRequests, drawMemory, drawProxies];
// What a stage cannot narrow, because its numbers know no stage.
const WHOLE = ["health", "browsers", "memory", "proxies"];
const form = $("#controls");
const state = { hours: "1", end: "", stage: "", compare: "", quantile: "p95", paused: false, fetchedAt: null, age: 0, latest: null, before: null, running: null, zoom };

function readAddress() {
  const given = read();
  state.hours = given.hours ?? "1";
  state.end = given.end ?? "";
  state.stage = given.stage ?? "";
  state.compare = ["24", "168"].includes(given.compare) ? given.compare : "";
  for (const radio of form.querySelectorAll("[name=hours]")) radio.checked = !state.end && radio.value === state.hours;
  form.elements.stage.value = state.stage;
  form.elements.compare.value = state.compare;
}

/** Looks at something else, and says so in the address. */
function look(changed) {
  const { hours, stage, end, compare } = { ...state, ...changed };
  write({ hours, stage, end, compare });
  readAddress();
  refresh();
}

function zoom(start, end) {
  look(stretch(start, end));
}

async function refresh() {
  state.running?.abort();
  const running = (state.running = new AbortController());
  const { signal } = running;
  const range = Object.fromEntries(Object.entries({ hours: state.hours, end: state.end }).filter(([, value]) => value));
  const query = new URLSearchParams({ ...range, ...(state.stage ? { stage: state.stage } : {}) });
  state.range = range;
  busy(true);
  const failures = showFailures(query, signal);
  try {
    const answer = await get(`/api/dashboard/metrics?${query}`, { signal });
    state.fetchedAt = Date.now();
    state.age = (answer.age_s ?? 0) * 1000;
    state.latest = answer;
    state.before = await before(answer, signal);
    draw();
    banners([...gaps(answer), ...(state.compare && !state.before ? [["warn", "There is nothing to compare with: no numbers that old."]] : [])]);
    await failures;
  } catch (error) {
    if (error.name === "AbortError") return;
    failed(error);
  } finally {
    if (state.running === running) {
      busy(false);
      tick();
    }
  }
}

async function showFailures(query, signal) {
  try {
    drawFailures(await get(`/api/dashboard/failures?${query}`, { signal }), state);
  } catch (error) {
    if (error.name !== "AbortError") noFailures(error);
  }
}

/** The same window a day or a week before, where that is asked for and known. */
async function before(answer, signal) {
  if (!state.compare) return null;
  const end = new Date(Date.parse(answer.window.end) - state.compare * 3_600_000).toISOString();
  const query = new URLSearchParams({ hours: state.hours, end, ...(state.stage ? { stage: state.stage } : {}) });
  try {
    return (await get(`/api/dashboard/metrics/performance?${query}`, { signal })).data;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return null;
  }
}

function draw() {
  const answer = state.latest;
  const word = answer.blocks.health.data?.verdict ?? "unknown";
  verdict(word, word);
  for (const drawCard of CARDS) drawCard(answer, state);
  for (const id of WHOLE) {
    const title = $(`#${id} > h2`);
    title.querySelector(".whole")?.remove();
    if (state.stage) title.append(h("span", { class: "hint whole", text: "whole service, whatever the stage" }));
  }
  $("#records").hidden = answer.window.step_s < RECORDED_STEP_S;
  $("#unzoom").hidden = !state.end;
  $("#unzoom").textContent = `${when(answer.window.start)} – ${when(answer.window.end)} ✕`;
}

function gaps(answer) {
  const list = [];
  if (answer.stale) {
    list.push(["warn", `Stale: the metrics store does not answer. These numbers are from ${clock(asOf(answer))}; trying again every ${REFRESH_MS / 1000} s.`]);
  }
  if (answer.partial) {
    const missing = Object.entries(answer.blocks)
      .filter(([, block]) => (block.partial && !block.stale) || (block.status === "unavailable" && block.reason !== "scope"))
      .map(([name]) => name.replaceAll("_", " "));
    list.push(["warn", `Partial: some numbers could not be had${missing.length ? ` (${missing.join(", ")})` : ""}.`]);
  }
  return list;
}

const asOf = (answer) => Object.values(answer.blocks).map((block) => block.as_of).filter(Boolean).sort()[0];

function failed(error) {
  const known = error instanceof Refusal;
  const text = known ? error.message : "The service does not answer.";
  const old = state.latest ? ` The numbers below are from ${clock(state.fetchedAt)}.` : "";
  banners([["fail", `${text}${old} Trying again every ${REFRESH_MS / 1000} s.`, known && error.traceId]]);
  if (!state.latest) {
    verdict("unknown", known && error.status < 500 ? "refused" : "unreachable");
    for (const { id } of document.querySelectorAll(".card")) fill(id, note("No numbers yet."));
    $("#tiles").replaceChildren();
  }
}

function tick() {
  const age = $("#age");
  if (state.fetchedAt === null) return;
  const old = Date.now() - state.fetchedAt + state.age;
  age.textContent = state.end ? "a window of the past" : `${state.paused ? "Paused · " : ""}updated ${ago(old)}`;
  age.classList.toggle("old", !state.end && old > 3 * REFRESH_MS);
}

const follows = () => !state.paused && !state.end && !document.hidden;

function setUp() {
  readAddress();
  setUpShell(redraw);
  $("#zone").textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", ({ target }) =>
    look({ [target.name]: target.value, ...(target.name === "hours" ? { end: "" } : {}) }));
  $("#unzoom").addEventListener("click", () => look({ hours: "1", end: "" }));
  $("#latency").addEventListener("change", (event) => {
    state.quantile = event.target.value;
    if (state.latest) drawLatency(state.latest, state);
  });
  addEventListener("popstate", () => { readAddress(); refresh(); });
  $("#pause").addEventListener("click", () => {
    state.paused = !state.paused;
    $("#pause").setAttribute("aria-pressed", String(state.paused));
    $("#pause").textContent = state.paused ? "Resume" : "Pause";
    tick();
    if (!state.paused) refresh();
  });
  setInterval(tick, 1000);
  setInterval(() => { if (follows()) refresh(); }, REFRESH_MS);
  document.addEventListener("visibilitychange", () => {
    if (follows() && Date.now() - (state.fetchedAt ?? 0) > REFRESH_MS) refresh();
  });
  refresh();
}

setUp();
