// Failures by kind, the loudest first; each leads to its traces.
import { $, cell, fill, h, heading, moment, note, searchLink, table, traceLink } from "./dom.js";
import { count, words } from "./format.js";
import { Refusal } from "./api.js";

const SHOWN = 6;

export function drawFailures({ groups, partial }, { range }) {
  if (!groups.length) return fill("failures", note("No failure in this window.", "good"));
  const rows = groups.map((group) => h("tr", {},
    heading(searchLink({ stage: group.stage, outcome: group.outcome, error_type: group.error_type, ...range },
      `${group.stage ?? "whole request"}: ${group.error_type ?? words(group.outcome)}`)),
    cell("number", h("b", { text: count(group.count) })),
    cell("", traceLink(group.trace_id)), // in sight on a phone too
    cell("number wide-only", moment(group.first)), cell("number", moment(group.last))));
  const more = rows.length - SHOWN;
  const columns = [["Kind"], ["Count", "number"], ["Example"], ["First", "number wide-only"], ["Last", "number"]];
  fill("failures", table("Failures by kind", columns, rows.slice(0, SHOWN)),
    more > 0 ? h("details", {}, h("summary", { text: `${more} more kind${more > 1 ? "s" : ""}` }), table("Rarer failures", columns, rows.slice(SHOWN))) : null,
    partial ? h("p", { class: "quiet", text: "Partial: there are more kinds than fifty." }) : null);
}

export function noFailures(error) {
  if (!$("#failures table") || error instanceof Refusal) {
    fill("failures", note(error instanceof Refusal ? error.message : "The service does not answer.", "fail"));
  }
}
