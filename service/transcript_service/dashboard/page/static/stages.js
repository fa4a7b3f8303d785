// Which stage is slow or blocked, and why.
import { $, FLAT, cell, chips, fill, h, heading, searchLink, table } from "./dom.js";
import { DASH, count, level, percent, seconds } from "./format.js";
import { STAGES } from "./curves.js";
import { empty } from "./states.js";

const SHOWN = 2; // errors of a stage; the failures beside it are complete

export function drawStages(answer, state) {
  const block = answer.blocks.performance;
  if (empty("stages", block)) return;
  const { requests, stages } = block.data;
  fill("stages", table("Attempts and times by stage",
    [["Stage"], ["Tries", "number"], ["Success"], ["P50", "number"], ["P95", "number"], ["Why", "why"]],
    [...stages.map((stage) => row(stage, stage.attempts, state, stage.stage)), row(requests, requests.total, state)]));
}

const row = (entry, total, { range }, stage) => h("tr", {},
  stage ? heading(h("span", { class: "dot", style: { background: `var(${STAGES[stage]})` }, "aria-hidden": "true" }), searchLink({ stage, ...range }, stage)) : heading("requests"),
  cell("number", count(total)), cell("", meter(entry.success_ratio)),
  cell("number", seconds(entry.p50_s)), cell("number", seconds(entry.p95_s)),
  cell("why", why(entry)));

// What YouTube says about a video, and callers' mistakes: no failures.
const ANSWERS = new Set($("#stages").dataset.answers.split(" "));

/** What went wrong, the loudest first; answers only where nothing did. */
function why({ errors, skipped }) {
  const known = Object.entries(errors ?? {}).filter(([, value]) => value >= FLAT);
  const failures = known.filter(([type]) => !ANSWERS.has(type));
  const untried = Object.entries(skipped ?? {}).filter(([, value]) => value >= FLAT);
  if (!known.length && !untried.length) return h("span", { class: "quiet", text: DASH });
  const answers = known.filter(([type]) => ANSWERS.has(type));
  return [
    known.length ? h("div", {}, chips(Object.fromEntries([...failures, ...answers]), failures.length ? "bad" : "", Math.min(SHOWN, failures.length || SHOWN))) : null,
    untried.length ? h("div", { class: "quiet", text: `not tried: ${untried.map(([reason, times]) => `${reason} ${count(times)}`).join(", ")}` }) : null,
  ];
}

function meter(ratio) {
  if (ratio === null) return h("span", { class: "quiet", text: DASH });
  return h("span", { class: "meter" },
    h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: `level ${level(ratio)}`, style: { width: `${ratio * 100}%` } })),
    percent(ratio));
}
