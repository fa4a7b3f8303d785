// Alerts, a line for each name: what fires first, the rest folded away.
import { cell, chip, fill, h, heading, link, moment, table } from "./dom.js";
import { empty } from "./states.js";
import { when } from "./format.js";

const QUIET_LABELS = ["job", "instance", "severity"];

export function drawAlerts({ blocks: { alerts } }, { stage }) {
  if (empty("alerts", alerts)) return;
  const watchdogs = alerts.data.active.filter((alert) => alert.severity === "none");
  const real = alerts.data.active.filter((alert) => alert.severity !== "none");
  const elsewhere = (alert) => { const of = alert.labels.stage ?? alert.labels.name; return Boolean(stage && of && of !== stage); };
  const loud = real.filter((alert) => alert.state === "firing" && !alert.inhibited && !alert.silenced && !elsewhere(alert));
  const pending = real.filter((alert) => alert.state !== "firing" && !elsewhere(alert));
  const muted = real.filter((alert) => alert.state === "firing" && (alert.inhibited || alert.silenced) && !elsewhere(alert));
  fill("alerts",
    loud.length ? lines(loud) : h("p", { class: "calm", text: `No alert is firing${stage ? ` for ${stage}` : ""}.` }),
    folded(pending, "pending"), folded(muted, "firing but silenced or inhibited"), folded(real.filter(elsewhere), "of other stages"),
    watchdogs.length ? h("p", { class: "quiet", text: `${watchdogs.map((a) => a.alertname).join(", ")} fires on purpose: alerting works.` }) : null,
    history(alerts.data.history.filter((entry) => entry.severity !== "none")));
}

function lines(alerts) {
  const groups = new Map();
  for (const alert of alerts) groups.set(alert.alertname, [...(groups.get(alert.alertname) ?? []), alert]);
  return h("ul", { class: "alerts" }, [...groups.values()].map(line));
}

const folded = (alerts, what) => alerts.length
  ? h("details", {}, h("summary", { text: `${alerts.length} ${what}` }), lines(alerts)) : null;

function line(alerts) {
  const [first] = alerts;
  const since = alerts.map((alert) => alert.since).filter(Boolean).sort()[0];
  return h("li", { class: `alert ${first.severity ?? ""} ${first.state}` },
    h("details", {},
      h("summary", {},
        chip(first.severity ?? "alert", first.severity === "critical" ? "bad" : "warn"), " ",
        h("b", { text: first.alertname }), alerts.length > 1 ? ` ×${alerts.length}` : "", " ",
        h("span", { class: "quiet" }, `${first.state} since `, moment(since)), " ",
        alerts.map((alert) => chip(labels(alert)))),
      alerts.map(one)),
    link(first.runbook_url, "Runbook"));
}

const labels = (alert) => Object.entries(alert.labels).filter(([name]) => !QUIET_LABELS.includes(name)).map(([, value]) => value).join(" ") || "whole service";

const one = (alert) => h("p", {}, alert.description ?? alert.summary ?? "", " ", link(alert.dashboard_url, "Dashboard"),
  h("span", { class: "quiet" }, alert.silenced ? " · silenced" : "", alert.inhibited ? " · inhibited" : "",
    ...(alert.last_notified ? [" · notified ", moment(alert.last_notified)] : []),
    ...(alert.next_repeat_at_earliest ? [", again at the earliest ", moment(alert.next_repeat_at_earliest)] : [])));

function history(entries) {
  if (!entries.length) return null;
  const oldest = entries.map((entry) => entry.since).filter(Boolean).sort()[0];
  return h("details", {}, h("summary", { text: `The last ${entries.length} notified${oldest ? `, since ${when(oldest)}` : ""}` }),
    table("Alert history", [["Alert"], ["State"], ["Since"], ["Notified"]],
      entries.map((entry) => h("tr", {}, heading(entry.alertname), cell("", entry.state), cell("", moment(entry.since)), cell("", moment(entry.last_notified))))));
}
