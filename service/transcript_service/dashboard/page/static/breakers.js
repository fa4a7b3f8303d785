// Every breaker: its state over the window, and why it is not closed.
import { FLAT, chip, chips, fill, h, moment, traceLink } from "./dom.js";
import { clock, count, percent, span, words, worker } from "./format.js";
import { empty } from "./states.js";

const SHOWN = ["closed", "half_open", "open"];

export function drawBreakers(answer) {
  const block = answer.blocks.circuit_breaker;
  if (empty("breakers", block, "No breaker reported in this window.")) return;
  fill("breakers",
    h("ul", { class: "breakers" }, block.data.breakers.map((breaker) => h("li", {},
      h("div", { class: "breaker" },
        h("b", { text: breaker.name }),
        chip(words(breaker.state ?? "unknown"), `state-${breaker.state}`),
        strip(breaker.name, segmentsOf(block, breaker), answer.window),
        h("span", { class: "quiet", text: did(breaker, segmentsOf(block, breaker)) })),
      breaker.opening ? cause(breaker, answer.window) : null))),
    h("p", { class: "legend", "aria-hidden": "true" }, SHOWN.map((state) => h("span", {}, h("i", { class: `state ${state}` }), words(state)))));
}

const segmentsOf = (block, { name }) => block.data.timeline.find((line) => line.name === name)?.segments ?? [];

/** What it did in the window, in words. */
function did({ calls, transitions, recovery_p95_s: recovery }, segments) {
  const opened = transitions?.filter((t) => t.from === "closed").reduce((sum, t) => sum + t.count, 0);
  const refused = calls?.["not_permitted"] ?? 0;
  return [
    opened > FLAT ? `opened ${count(opened)}×` : segments.some((s) => s.state !== "closed") ? "opened before" : transitions ? "not opened" : null,
    refused > FLAT ? `${count(refused)} refused` : null,
    recovery ? `recovers in ${span(recovery * 1000)}` : null,
  ].filter(Boolean).join(" · ");
}

function cause({ state, opening }, window) {
  const now = Date.parse(window.end);
  const rates = opening.reason === "slow_call_rate" ? `${percent(opening.slow_call_rate)} of calls were slow`
    : opening.failure_rate !== null ? `${percent(opening.failure_rate)} of calls failed` : words(opening.reason);
  return h("p", { class: "cause" },
    h("b", { text: `${words(state)} since ` }), h("b", {}, moment(opening.since)), ` (${span(now - Date.parse(opening.since))})`,
    " in worker ", h("code", { title: opening.worker, text: worker(opening.worker) }), `: ${rates}, after `,
    Object.keys(opening.errors ?? {}).length ? chips(opening.errors, "bad") : "errors that no log line tells",
    ". ", state === "half_open" ? "Probes are under way." : probe(opening.next_probe_at), " ",
    opening.trace_id ? ["Opened by ", traceLink(opening.trace_id)] : null);
}

function probe(at) {
  if (!at) return "No probe is planned.";
  const left = Date.parse(at) - Date.now();
  return left > 0 ? `Next probe at ${clock(at)}, in ${span(left)}.` : `Probe due since ${clock(at)}, waiting for the next call.`;
}

function strip(name, segments, window) {
  const start = Date.parse(window.start);
  const length = Date.parse(window.end) - start;
  const told = segments.filter((s) => s.state !== "closed").map((s) => `${words(s.state)} from ${clock(s.start)} to ${clock(s.end)}`);
  return h("div", { class: "strip", role: "img", "aria-label": told.length ? `${name}: ${told.join(", ")}` : `${name}: closed all the time it was seen` },
    segments.map((segment) => {
      const left = Math.max(0, (Date.parse(segment.start) - start) / length);
      const right = Math.min(1, (Date.parse(segment.end) - start) / length);
      return h("span", { class: `state ${segment.state}`, title: `${words(segment.state)}, ${clock(segment.start)} – ${clock(segment.end)}`, style: { left: `${left * 100}%`, width: `${Math.max(0.3, (right - left) * 100)}%` } });
    }));
}
