// What the page does to its document. Everything that comes from the gateway
// becomes text here, never markup.

import { until, since } from "./format.js";

/** byId finds an element that index.html has. */
export const byId = (id) => document.getElementById(id);

/** el makes an element; strings among children become text. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** say sets the text of an element, unless it says so already. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** words fills a dl with pairs of term and text, leaving out empty texts. */
export function words(list, pairs) {
  list.replaceChildren(...pairs.filter(([, text]) => text !== undefined && text !== "")
    .flatMap(([term, text, kind]) => [el("dt", {}, term), el("dd", kind ? { class: kind } : {}, String(text))]));
}

/**
 * fill makes the rows of body show items, in their order. Rows are kept by key,
 * so that what a reader has selected or focused stays. cells turns an item into
 * cells: a text, or {text, kind, head, until, since}.
 */
export function fill(body, items, keyOf, cells) {
  const kept = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  items.forEach((item, i) => {
    const key = keyOf(item);
    const row = kept.get(key) ?? el("tr", { "data-key": key });
    kept.delete(key);
    show(row, cells(item));
    if (body.rows[i] !== row) body.insertBefore(row, body.rows[i] ?? null);
  });
  for (const row of kept.values()) row.remove();
  if (items.length === 0 && body.dataset.empty) {
    const columns = body.parentElement.tHead.rows[0].cells.length;
    body.append(el("tr", {}, el("td", { colspan: columns }, body.dataset.empty)));
  }
}

function show(row, cells) {
  cells.forEach((cell, i) => {
    const c = cell !== null && typeof cell === "object" ? cell : { text: cell };
    let at = row.cells[i];
    if (!at) {
      at = c.head ? el("th", { scope: "row" }) : el("td");
      row.append(at);
    }
    at.className = c.kind ?? "";
    mark(at, "until", c.until);
    mark(at, "since", c.since);
    if (!c.until && !c.since) say(at, String(c.text ?? ""));
  });
}

function mark(cell, name, time) {
  if (time) cell.dataset[name] = time;
  else delete cell.dataset[name];
}

/** tick brings ages and countdowns up to date. */
export function tick(now = Date.now()) {
  for (const cell of document.querySelectorAll("[data-until]")) say(cell, until(cell.dataset.until, now));
  for (const cell of document.querySelectorAll("[data-since]")) say(cell, since(cell.dataset.since, now));
}
