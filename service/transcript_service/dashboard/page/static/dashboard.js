// The dashboard: asks the API, draws what it says, and says what it does not know.
import { $, setUpTheme, ago, clock, h, note } from "./dom.js";
import { Refusal, forgetToken, get, hasToken } from "./api.js";
import { redraw } from "./charts.js";
import { CARDS, drawTiles, drawVerdict } from "./cards.js";

const REFRESH_MS = 30_000; // the API's cache time; asking more often would show the same numbers
const state = { hours: "1", stage: "", quantile: "p95", paused: false, fetchedAt: null, age: 0, latest: null, running: null };

function readAddress() {
  const query = new URLSearchParams(location.search);
  const hours = query.get("hours") ?? "1";
  state.hours = document.querySelector(`input[name=hours][value="${CSS.escape(hours)}"]`) ? hours : "1";
  state.stage = [...$("#stage").options].some((o) => o.value === query.get("stage")) ? query.get("stage") : "";
  document.querySelector(`input[name=hours][value="${CSS.escape(state.hours)}"]`).checked = true;
  $("#stage").value = state.stage;
}

function writeAddress() {
  const query = new URLSearchParams({ hours: state.hours });
  if (state.stage) query.set("stage", state.stage);
  history.pushState(null, "", `?${query}`);
}

async function refresh() {
  state.running?.abort();
  const running = (state.running = new AbortController());
  const query = new URLSearchParams({ hours: state.hours });
  if (state.stage) query.set("stage", state.stage);
  $("#main").setAttribute("aria-busy", "true");
  try {
    const answer = await get(`/api/dashboard/metrics?${query}`, { signal: running.signal });
    state.fetchedAt = Date.now();
    state.age = (answer.age_s ?? 0) * 1000;
    state.latest = answer;
    draw(answer);
    banners(answer);
  } catch (error) {
    if (error.name === "AbortError") return;
    failed(error);
  } finally {
    if (state.running === running) {
      $("#main").setAttribute("aria-busy", "false");
      $("#forget").hidden = !hasToken();
      tick();
    }
  }
}

function draw(answer) {
  drawVerdict(answer);
  drawTiles(answer);
  for (const [block, draws] of Object.entries(CARDS)) {
    for (const drawCard of draws) drawCard(answer.blocks[block], answer, state);
  }
}

function banners(answer) {
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
  show(list);
}

const asOf = (answer) => Object.values(answer.blocks).map((block) => block.as_of).filter(Boolean).sort()[0];

function failed(error) {
  const known = error instanceof Refusal;
  const text = known ? error.message : "The service does not answer.";
  const old = state.latest ? ` The numbers below are from ${clock(state.fetchedAt)}.` : "";
  show([["fail", `${text}${old} Trying again every ${REFRESH_MS / 1000} s.`, known && error.traceId]]);
  if (!state.latest) {
    $("#verdict").className = "pill unknown";
    $("#verdict").textContent = known && error.status === 403 ? "refused" : "unreachable";
    for (const body of document.querySelectorAll(".card .body")) body.replaceChildren(note("No numbers yet."));
    $("#tiles").replaceChildren();
  }
}

let shown = "";

function show(list) {
  const key = JSON.stringify(list);
  if (key === shown) return; // the same words again would only interrupt a screen reader
  shown = key;
  $("#banners").replaceChildren(...list.map(([kind, text, traceId]) =>
    h("p", { class: `banner ${kind}` }, text,
      traceId && !/^0+$/.test(traceId) ? h("span", { class: "quiet" }, " Trace ", h("code", { text: traceId })) : null)));
}

function tick() {
  const age = $("#age");
  if (state.fetchedAt === null) return;
  const old = Date.now() - state.fetchedAt + state.age;
  age.textContent = `${state.paused ? "Paused · " : ""}updated ${ago(old)}`;
  age.classList.toggle("old", old > 3 * REFRESH_MS);
}

function setUp() {
  readAddress();
  setUpTheme(redraw);
  $("#zone").textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
  $("#controls").addEventListener("submit", (event) => event.preventDefault());
  $("#controls").addEventListener("change", () => {
    state.hours = document.querySelector("input[name=hours]:checked").value;
    state.stage = $("#stage").value;
    writeAddress();
    refresh();
  });
  $("#latency").addEventListener("change", (event) => {
    state.quantile = event.target.value;
    if (state.latest) draw(state.latest);
  });
  addEventListener("popstate", () => { readAddress(); refresh(); });
  $("#pause").addEventListener("click", () => {
    state.paused = !state.paused;
    $("#pause").setAttribute("aria-pressed", String(state.paused));
    $("#pause").textContent = state.paused ? "Resume" : "Pause";
    tick();
    if (!state.paused) refresh();
  });
  $("#forget").addEventListener("click", () => { forgetToken(); location.reload(); });
  setInterval(tick, 1000);
  setInterval(() => { if (!state.paused && !document.hidden) refresh(); }, REFRESH_MS);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !state.paused && Date.now() - (state.fetchedAt ?? 0) > REFRESH_MS) refresh();
  });
  refresh();
}

setUp();
