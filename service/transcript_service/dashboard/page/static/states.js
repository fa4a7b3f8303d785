// Why a card has nothing to show.
import { clear } from "./charts.js";
import { fill, note } from "./dom.js";

const REASONS = {
  scope: "Your token may not see this.",
  upstream_unreachable: "The metrics store cannot be reached.",
  upstream_timeout: "The metrics store did not answer in time.",
  upstream_busy: "The metrics store is overloaded.",
  upstream_invalid: "The metrics store sent something unusable.",
  upstream_denied: "The metrics store refuses this service's password.",
  query_defect: "A query of this service is defective; its operators find it in the log.",
};

/** Says why a card is empty, or returns false when there is data to draw. */
export function empty(id, block, nothing) {
  if (block.data !== null) return false;
  clear(id);
  if (block.status === "no_data") fill(id, note(nothing ?? "Nothing was measured in this window."));
  else fill(id, note(REASONS[block.reason] ?? "This cannot be shown now.", block.reason === "scope" ? "refused" : "fail"));
  return true;
}
