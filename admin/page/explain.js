// The box that explains a METHOD and URL: what gateway explain prints.

import { get, Refused } from "./api.js";
import { byId, el, words } from "./dom.js";
import { count } from "./format.js";

const names = {
  detail: "Why", cause: "In full", remedy: "What to do", hint: "Hint", decided: "Decided by", nearest: "Nearest rule", tried: "Rules tried", code: "Code", door: "Door", caller: "Caller", route: "Route", at: "Route is at",
  rule: "Rule that decided", would_deny: "Enforcing would refuse", passed_over: "Passed over", also: "Would have taken it too", batch: "Batch",
  credential: "Credential", tenant: "Tenant", tenant_chosen: "Tenant chosen by the call", token_endpoint: "Token endpoint", fallback: "Then",
  scope: "Scope", second_scope: "Second scope", upstream: "Upstream", servers: "Servers", database: "Database", url: "As the upstream sees it",
  replay_bytes: "Kept for a second try", way: "Way", reaches: "Reaches",
};

/** plain makes any value of the API a text; objects in a list take a line each. */
export function plain(value) {
  if (Array.isArray(value)) return value.map(plain).join("\n");
  if (value && typeof value === "object") return Object.values(value).map(plain).filter(Boolean).join(": ");
  if (typeof value === "boolean") return value ? "yes" : "no";
  return String(value ?? "");
}

/** passed says of one route or rule that did not decide where it is and why. */
export const passed = ({ route, at, why }) => [route && at ? `${route} (${at})` : route || at, why].filter(Boolean).join(": ");

/** listen makes the form ask; denied hears of a key that is not taken. */
export function listen(denied) {
  let last = 0; // number of the newest question: a slow answer to an older one is not shown
  byId("explain-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const mine = ++last;
    const [method, url, caller] = ["method", "url", "caller"].map((name) => byId(`explain-${name}`).value.trim());
    try {
      const { said } = await get("api/explain", { method: method.toUpperCase(), url, caller });
      if (mine === last) show(said);
    } catch (trouble) {
      if (trouble instanceof Refused && trouble.status === 401) denied(trouble);
      else if (mine === last) byId("verdict").replaceChildren(el("p", { class: "bad" }, trouble.message));
    }
  });
}

// decided is the line of routes.yaml that decided, as it stands there.
function decided({ at, line, why }) {
  return el("div", {}, el("p", {}, [at, why].filter(Boolean).join(": ")), line ? el("pre", {}, line.trim()) : "");
}

function listed(those, noun, more) {
  const items = those.map((one) => el("li", {}, passed(one)));
  if (more > 0) items.push(el("li", {}, `and ${count(more, `more ${noun}`)}`));
  return el("ol", {}, ...items);
}

const lists = { passed_over: "route", also: "route", tried: "rule" };

function valueOf(x, key) {
  const value = x[key];
  if ((key === "decided" || key === "nearest") && value) return decided(value);
  if (key === "cause" && value === x.detail) return "";
  if (!(key in lists)) return plain(value);
  return value?.length > 0 ? listed(value, lists[key], x[`more_${key}`]) : "";
}

function show(x) {
  const title = x.allowed ? "This call would be let through." : "This call would be refused.";
  const list = el("dl");
  const rest = Object.keys(x).filter((key) => key !== "allowed" && !key.startsWith("more_") && !(key in names));
  words(list, [...Object.keys(names).filter((key) => key in x), ...rest]
    .map((key) => [names[key] ?? key.replaceAll("_", " "), valueOf(x, key), key === "detail" && !x.allowed ? "bad" : undefined]));
  byId("verdict").replaceChildren(el("p", { class: x.allowed ? "good" : "bad" }, el("strong", {}, title)), list);
}

/** callers offers the names of callers that the routes have. */
export function callers(table) {
  const found = [...new Set((table.routes ?? []).flatMap((r) => r.callers ?? []))];
  const offered = [...byId("callers").children].map((option) => option.value);
  if (found.join("\n") === offered.join("\n")) return;
  byId("callers").replaceChildren(...found.map((name) => el("option", { value: name })));
}
