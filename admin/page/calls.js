// The live list of calls: newest first, filtered, paused, explained.

import { address, failed, headline, matcher, outcome, story } from "./words.js";
import { clock, count, took } from "./format.js";
import { byId, el, say, words } from "./dom.js";

const notLive = "The list is not live";
const most = 500; // rows kept; the gateway's own ring is no longer than twice that

/**
 * list makes the live list. lines leads from a route's name to its line in
 * routes.yaml; shown hears when calls were put into the list.
 */
export function list(lines, shown) {
  const rows = new Map(); // number of a call to its row
  const calls = new Map(); // row to its call; the newest is the last
  let waiting = []; // to be shown at the next turn, or when the list goes on
  let turn; // timer of the next turn
  let paused = false;
  let fits = matcher("");
  let fresh = { calls: 0, failed: 0 };

  /** add takes a call; many that come at once are shown together. */
  function add(call) {
    waiting.push(call);
    if (waiting.length > 2 * most) waiting = waiting.slice(-most);
    turn ??= setTimeout(show, 200);
  }

  function show() {
    turn = undefined;
    if (paused) {
      label();
      return;
    }
    const held = waiting.slice(-most);
    waiting = [];
    held.forEach(place);
    if (held.length > 0) shown();
  }

  function place(call) {
    if (rows.has(call.id)) return;
    const row = rowOf(call, () => open(call));
    row.hidden = !fits(call);
    fresh.calls++;
    fresh.failed += failed(call) ? 1 : 0;
    rows.set(call.id, row);
    calls.set(row, call);
    const body = byId("call-rows");
    body.prepend(row); // they come oldest first
    if (body.rows.length > most) drop(body.lastElementChild);
  }

  function drop(row) {
    rows.delete(calls.get(row).id);
    calls.delete(row);
    row.remove();
  }

  function open(call) {
    say(byId("detail-title"), headline(call));
    words(byId("detail-words"), story(call, lines()));
    byId("detail").showModal();
    byId("detail").scrollTop = 0;
  }

  function label() {
    say(byId("pause"), paused ? `Go on (${Math.min(waiting.length, most)} waiting)` : "Pause");
  }

  function pause(on) {
    paused = on;
    byId("pause").setAttribute("aria-pressed", String(on));
    if (!on) show();
    label();
  }

  function filter() {
    fits = matcher(byId("filter").value, byId("outcome").value);
    for (const [row, call] of calls) row.hidden = !fits(call);
    const left = [...calls.keys()].filter((row) => !row.hidden).length;
    say(byId("news"), `${left} of ${count(calls.size, "call")} shown`);
    fresh = { calls: 0, failed: 0 }; // counted there, and not to be said over it
  }

  /** news tells readers who hear the page what came since it was told last. */
  function news() {
    if (fresh.calls > 0) {
      say(byId("news"), `${count(fresh.calls, "new call")}, ${fresh.failed} failed`);
      fresh = { calls: 0, failed: 0 };
    }
  }

  /** lost tells that calls are missing in the list. */
  function lost({ records, restarted }) {
    say(byId("gap"), restarted ? "The gateway was started again; what came in between may be missing in this list."
      : `${count(records, "call")} came too fast for this list; the log has them.`);
  }

  /** state tells whether the list is live. */
  function state(why) {
    if (why === "") say(byId("gap"), byId("gap").textContent.startsWith(notLive) ? "" : byId("gap").textContent);
    else say(byId("gap"), `${notLive}: ${why}. Trying again.`);
  }

  byId("pause").addEventListener("click", () => pause(!paused));
  byId("filter").addEventListener("input", filter);
  byId("outcome").addEventListener("change", filter);
  byId("filter-form").addEventListener("submit", (event) => event.preventDefault());
  byId("call-rows").addEventListener("keydown", walk);
  byId("detail-close").addEventListener("click", () => byId("detail").close());
  return { add, news, lost, state, open, all: () => [...calls.values(), ...waiting] };
}

// said leaves out what is empty, and puts each of the rest on a line of its own.
const said = (...parts) => parts.filter((part) => part !== "").flatMap((part, i) => (i > 0 ? ["\n", part] : [part]));

function rowOf(call, open) {
  const button = el("button", { type: "button", class: "row-button", "aria-label": `${clock(call.time)}, ${outcome(call)}, ${address(call)}: explain` }, clock(call.time));
  button.addEventListener("click", open);
  const rule = call.rule ? el("span", { class: "fine" }, `rule in line ${call.rule}`) : "";
  const more = [call.token_source ?? "", call.retry ? el("span", { class: "warn" }, `retry: ${call.retry}`) : ""];
  return el("tr", { class: "fresh" },
    el("td", { class: "time" }, button),
    el("td", { class: failed(call) ? "bad" : "good" }, outcome(call)),
    el("td", { class: "mono" }, address(call)),
    el("td", { "data-label": "Route" }, ...said(call.route ?? "", rule)),
    el("td", { "data-label": "Caller" }, ...said(call.caller ?? "")),
    el("td", { "data-label": "Door" }, ...said(call.door ?? "")),
    el("td", { "data-label": "Token" }, ...said(...more)),
    el("td", { "data-label": "Took", class: "time" }, took(call.duration_ms)));
}

// walk moves along the rows that are shown.
function walk(event) {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  let row = event.target.closest("tr");
  if (!step || !row) return;
  event.preventDefault();
  do row = row[step]; while (row?.hidden);
  row?.querySelector("button").focus();
}
