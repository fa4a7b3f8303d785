// A table whose headings sort it; the order is the caller's to keep, such as in the address.
import { cell, h, table } from "./dom.js";

/**
 * `columns`: [{name, kind, value, show}], by `value` of an item it is sorted, `show` draws it;
 * `order`: a column's name, with `-` before it for the largest first; `choose(order)` on a click.
 */
export function sortable(caption, columns, items, order, choose) {
  const name = order.replace(/^-/, "");
  const down = order.startsWith("-");
  const by = columns.find((column) => column.name === name);
  const sorted = by ? [...items].sort((a, b) => compared(by.value(a), by.value(b)) * (down ? -1 : 1)) : items;
  const made = table(caption,
    columns.map((column) => [heading(column, name === column.name ? down : null, choose), column.kind]),
    sorted.map((item) => h("tr", {}, columns.map((column) => cell(column.kind, column.show(item))))));
  made.querySelectorAll("th").forEach((th, i) => {
    if (columns[i].name === name) th.setAttribute("aria-sort", down ? "descending" : "ascending");
  });
  return made;
}

function heading({ name }, down, choose) {
  const next = down === true ? name : `-${name}`;
  return h("button", { type: "button", class: "sort", onclick: () => choose(next) },
    name, h("span", { "aria-hidden": "true", text: down === null ? "" : down ? " ↓" : " ↑" }));
}

function compared(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return -1;
  if (b === null || b === undefined) return 1;
  return a < b ? -1 : 1;
}
