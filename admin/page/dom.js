// What the page does to its document. Everything that comes from the gateway
// becomes text here, never markup.

import { since, until } from "./format.js";
import { pieces } from "./words.js";

/** byId finds an element that index.html has. */
export const byId = (id) => document.getElementById(id);

// Said aloud, because a narrow window shows tables as something else.
const roles = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", td: "cell" };

/** tables says what the parts of the tables in index.html are, however they are shown. */
export function tables() {
  for (const part of document.querySelectorAll("table, table *")) {
    const role = part.localName === "th" ? "columnheader" : roles[part.localName];
    if (role) part.setAttribute("role", role);
  }
}

/** el makes an element; strings among children become text. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  if (roles[name]) made.setAttribute("role", roles[name]);
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

/**
 * words fills a dl with pairs of term and text, leaving out empty texts. A text
 * may be an element as well; what an operator can run may be copied.
 */
export function words(list, pairs) {
  list.replaceChildren(...pairs.filter(([, text]) => text !== undefined && text !== "").flatMap(([term, text, kind]) => {
    const said = el("dd", kind ? { class: kind } : {});
    if (text instanceof Node) said.append(text);
    else advise(said, String(text));
    return [el("dt", {}, term), said];
  }));
}

/** advise sets the text of an element; the commands in it get a button that copies them. */
export function advise(element, text) {
  if (element.dataset.said === text) return; // a reader may have focused one of its buttons
  element.dataset.said = text;
  element.replaceChildren(...pieces(text).flatMap((piece, i) => (i % 2 === 0 ? [piece] : command(piece))));
}

function command(text) {
  const code = el("code", { class: "command" }, text);
  const button = el("button", { type: "button", class: "copy", "aria-label": `Copy: ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      say(button, "Copied");
    } catch { // no clipboard without TLS off loopback
      getSelection().selectAllChildren(code);
      say(button, "Selected");
    }
    setTimeout(say, 2000, button, "Copy");
  });
  return [code, " ", button];
}

/**
 * fill makes the rows of body show items, in their order. Rows are kept by key,
 * so that what a reader has selected or focused stays. cells turns an item into
 * cells: a text, or {text, fine, kind, head, until, since, advice}.
 */
export function fill(body, items, keyOf, cells) {
  const heads = [...body.parentElement.tHead.rows[0].cells].map((head) => head.textContent);
  const kept = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  items.forEach((item, i) => {
    const key = keyOf(item);
    const row = kept.get(key) ?? el("tr", { "data-key": key });
    kept.delete(key);
    show(row, cells(item), heads);
    if (body.rows[i] !== row) body.insertBefore(row, body.rows[i] ?? null);
  });
  for (const row of kept.values()) row.remove();
  if (items.length === 0 && body.dataset.empty) {
    body.append(el("tr", {}, el("td", { colspan: heads.length }, body.dataset.empty)));
  }
}

function show(row, cells, heads) {
  cells.forEach((cell, i) => {
    const c = cell !== null && typeof cell === "object" ? cell : { text: cell };
    let at = row.cells[i];
    if (!at) {
      at = c.head ? el("th", { scope: "row", role: "rowheader" }) : el("td", { "data-label": heads[i] });
      row.append(at);
    }
    at.className = c.kind ?? "";
    mark(at, "until", c.until);
    mark(at, "since", c.since);
    if (c.until || c.since) return;
    if (c.advice !== undefined) advise(at, c.advice);
    else if (c.fine) fineprint(at, c.text, c.fine);
    else say(at, String(c.text ?? ""));
  });
}

// fineprint sets a text and, below it, a smaller one.
function fineprint(at, text, fine) {
  if (at.children.length !== 2) at.replaceChildren(el("span"), el("span", { class: "fine" }));
  say(at.firstChild, String(text));
  say(at.lastChild, String(fine));
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
