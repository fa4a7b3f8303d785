// Single requests that are worth looking at, with their traces.
import { cell, fill, h, moment, note, outcome, table, traceLink } from "./dom.js";
import { DASH, seconds, worker } from "./format.js";
import { empty } from "./states.js";

const SHOWN = 10;

export function drawRequests(answer, { stage }) {
  const block = answer.blocks.performance;
  const what = stage ? `attempt of ${stage}` : "request";
  list("slow", block, block.data?.slow_requests, `No sampled ${what} in this window.`);
  list("failed", block, block.data?.failed_requests, `No failed ${what} among the sampled ones.`);
}

function list(id, block, requests, nothing) {
  if (empty(id, block)) return;
  if (!requests.length) return fill(id, note(nothing));
  fill(id, table("Requests with their traces",
    [["Time", "number"], ["Outcome"], ["Trace"], ["Video"], ["Stage"], ["When"], ["Worker", "wide-only"]],
    requests.slice(0, SHOWN).map((request) => h("tr", {},
      cell("number", h("b", { text: seconds(request.duration_s) })),
      cell("", outcome(request.outcome), request.error_type ? h("span", { class: "quiet", text: ` ${request.error_type}` }) : null),
      cell("", traceLink(request.trace_id)), // in sight on a phone too
      cell("", h("code", { text: request.video_id ?? DASH })),
      cell("", request.stage ?? DASH),
      cell("", moment(request.at)),
      cell("wide-only", h("code", { title: request.worker, text: worker(request.worker) }))))));
}
