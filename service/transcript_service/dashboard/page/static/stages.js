// Which stage is slow or blocked, and why.
import { cell, chips, fill, h, heading, searchLink, table } from "./dom.js";
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

function why({ errors, skipped, success_ratio: success }) {
  const known = Object.values({ ...errors, ...skipped }).some((value) => value >= 0.05);
  if (!known) return h("span", { class: "quiet", text: DASH });
  // What YouTube says about a video is no failure, and then nothing failed.
  const kind = success === 1 ? "" : "bad";
  return [
    Object.keys(errors ?? {}).length ? h("div", {}, chips(errors, kind, SHOWN)) : null,
    Object.keys(skipped ?? {}).length ? h("div", { class: "quiet", text: `not tried: ${Object.entries(skipped).map(([reason, times]) => `${reason} ${count(times)}`).join(", ")}` }) : null,
  ];
}

function meter(ratio) {
  if (ratio === null) return h("span", { class: "quiet", text: DASH });
  return h("span", { class: "meter" },
    h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: `level ${level(ratio)}`, style: { width: `${ratio * 100}%` } })),
    percent(ratio));
}
