// What YouTube's own page does when its transcript is opened: ask the server, show the rows.
(() => {
  "use strict";
  const options = $options;
  const mobile = options.mobile;
  const one = (selector, root = document) => root.querySelector(selector);
  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  // YouTube was seen to ignore clicks that come from a script; so does this page.
  const onRealClick = (target, act) => {
    if (!target) return;
    target.addEventListener("click", (event) => { if (event.isTrusted) act(event); });
    target.addEventListener("keydown", (event) => {
      if (event.isTrusted && event.key === "Enter" && target.tagName !== "BUTTON") act(event);
    });
  };

  // Finds every value under a key, however deep, in document order.
  const findAll = (value, key, found = []) => {
    if (value && typeof value === "object") {
      for (const [name, item] of Object.entries(value)) {
        if (name === key) found.push(item);
        findAll(item, key, found);
      }
    }
    return found;
  };
  const first = (value, key) => findAll(value, key)[0];

  const classicRow = (timestamp, text) =>
    element(mobile ? "ytm-transcript-segment-renderer" : "ytd-transcript-segment-renderer", { role: "button", tabindex: "0" },
      element("div", { class: "segment-start-offset" }, element("div", { class: "segment-timestamp" }, timestamp)),
      element("yt-formatted-string", { class: "segment-text", dir: "auto" }, text));

  const spoken = (timestamp) => timestamp.split(":").length > 2 ? "hours, minutes, seconds" : "minutes, seconds";
  const modernRow = (timestamp, text) =>
    element("transcript-segment-view-model", { class: "ytwTranscriptSegmentViewModelHost", role: "button", tabindex: "0" },
      element("div", { class: "ytwTranscriptSegmentViewModelTimestamp", "aria-hidden": "true" }, timestamp),
      element("div", { class: "ytwTranscriptSegmentViewModelTimestampA11yLabel" }, spoken(timestamp)),
      element("span", { class: "ytAttributedStringHost yt-core-attributed-string", role: "text", dir: "auto" }, text));

  const rowsOf = (answer) => {
    if (answer.payload) return answer.payload.rows.map(([time, text]) => options.classic ? classicRow(time, text) : modernRow(time, text));
    const modern = findAll(answer, "transcriptSegmentViewModel");
    if (modern.length) return modern.map((row) => modernRow(row.timestamp, row.simpleText));
    return (first(answer, "initialSegments") || []).map((entry) => {
      const header = entry.transcriptSectionHeaderRenderer;
      if (header) return element("ytd-transcript-section-header-renderer", {}, header.snippet.simpleText);
      const row = entry.transcriptSegmentRenderer;
      return classicRow(row.startTimeText.simpleText, row.snippet.runs.map((run) => run.text).join(""));
    });
  };

  const commandOfPage = () => {
    for (const panel of ytInitialData.engagementPanels || []) {
      const endpoint = first(panel, "continuationEndpoint");
      if (!endpoint) continue;
      if (endpoint.getTranscriptEndpoint) return { path: "get_transcript", body: { params: endpoint.getTranscriptEndpoint.params } };
      const show = endpoint.showEngagementPanelEndpoint;
      if (show) return { path: "get_panel", body: { panelId: show.identifier.tag, params: show.globalConfiguration.params } };
    }
    return null;
  };

  let asked = false;
  const loadTranscript = async () => {
    if (asked) return;
    asked = true;
    const place = one("[data-rows]");
    const command = commandOfPage();
    place.replaceChildren(element("tp-yt-paper-spinner", { active: "" }, "…"));
    while (options.endlessScript) { /* a page that never comes back */ }
    try {
      const response = await fetch(`/youtubei/v1/${command.path}?prettyPrint=false`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ context: ytcfg.get("INNERTUBE_CONTEXT"), ...command.body }),
      });
      if (!response.ok) throw new Error(`status ${response.status}`);
      const rows = rowsOf(await response.json());
      if (!rows.length) throw new Error("no rows");
      place.replaceChildren(...rows);
    } catch (error) {
      asked = false;
      const retry = element("button", { "aria-label": "Tap to retry" }, "TAP TO RETRY");
      onRealClick(retry, loadTranscript);
      place.replaceChildren(element("yt-formatted-string", { class: "transcript-error" }, "Something went wrong"), retry);
    }
  };

  const selectTab = (tab) => {
    for (const other of document.querySelectorAll("yt-tab-shape")) other.setAttribute("aria-selected", String(other === tab));
    const transcript = tab.getAttribute("tab-title") === "Transcript";
    one("[data-rows]").hidden = !transcript;
    one("[data-chapters]").hidden = transcript;
    if (transcript) loadTranscript();
  };

  const openPanel = () => {
    const panel = one("[data-panel]");
    if (!panel) return;
    panel.setAttribute("visibility", "ENGAGEMENT_PANEL_VISIBILITY_EXPANDED");
    const tab = one('yt-tab-shape[aria-selected="true"]', panel);
    if (tab) selectTab(tab); else loadTranscript();
    panel.scrollIntoView();
  };

  onRealClick(one('[data-opens="description"]'), () => {
    one("#structured-description").hidden = false;
    one('[data-opens="description"]').hidden = true;
  });
  onRealClick(one('[data-opens="menu"]'), () => { const menu = one("tp-yt-paper-listbox"); menu.hidden = !menu.hidden; });
  for (const opener of document.querySelectorAll("[data-opens=transcript]")) onRealClick(opener, openPanel);
  for (const tab of document.querySelectorAll("yt-tab-shape")) onRealClick(tab, () => selectTab(tab));

  if (options.consentDialog && !document.cookie.includes("SOCS=")) {
    const lightbox = element("ytd-consent-bump-v2-lightbox", { role: "dialog" });
    const inner = lightbox.attachShadow({ mode: "open" });
    const card = element("div", { style: "background:#fff;padding:24px" }, element("p", {}, "Before you continue to YouTube"));
    for (const [label, value] of [["Reject all", "CAESEwgDEgk0ODE3Nzk3MjQaAmVuIAEaBgiA"], ["Accept all", "CAISEwgDEgk0ODE3Nzk3MjQaAmVuIAEaBgiA"]]) {
      const button = element("button", { "aria-label": `${label} the use of cookies and other data for the purposes described` }, label);
      onRealClick(button, () => {
        document.cookie = `SOCS=${value}; domain=.youtube.com; path=/; secure; max-age=3600`;
        lightbox.remove();
      });
      card.append(button);
    }
    inner.append(card);
    one("ytd-app, ytm-app").prepend(lightbox);
  }
})();
