// The proxy pool by masked id.
import { FLAT, cell, chips, fact, fill, h, heading, note, table } from "./dom.js";
import { count, percent, seconds } from "./format.js";
import { empty } from "./states.js";

const NONE = "None configured: every request goes out directly.";

export function drawProxies({ blocks: { proxy, health } }) {
  // A worker that has proxies reports them; one that reports and has none shows none.
  if (empty("proxies", proxy, health.data?.workers ? NONE : "No worker reported any proxy in this window.")) return;
  const { pool, rotations, proxies, success_ratio: success } = proxy.data;
  if (pool && !Object.keys(pool).length && !proxies.length) return fill("proxies", note(NONE));
  fill("proxies",
    h("dl", { class: "facts" },
      fact("Healthy", count(pool && (pool.healthy ?? 0))), fact("Quarantined", count(pool && (pool.quarantined ?? 0))),
      fact("Success with proxy", percent(success.with_proxy)), fact("Success direct", percent(success.direct))),
    Object.values(rotations ?? {}).some((value) => value >= FLAT) ? h("p", {}, "Changed because of ", chips(rotations)) : null,
    proxies.length ? table("Proxies", [["Proxy"], ["Probes"], ["P50", "number"], ["P95", "number"]],
      proxies.map((entry) => h("tr", {}, heading(h("code", { text: entry.proxy })), cell("", chips(entry.probes)),
        cell("number", seconds(entry.p50_s)), cell("number", seconds(entry.p95_s))))) : null);
}
