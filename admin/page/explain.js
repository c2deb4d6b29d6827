// The box that explains a METHOD and URL: what gateway explain prints.

import { get, Refused } from "./api.js";
import { byId, el, words } from "./dom.js";

const names = {
  detail: "Why", remedy: "What to do", code: "Code", door: "Door", caller: "Caller", route: "Route", at: "Route is at",
  rule: "Rule that decided", would_deny: "Enforcing would refuse", batch: "Batch", credential: "Credential", tenant: "Tenant",
  tenant_chosen: "Tenant chosen by the call", token_endpoint: "Token endpoint", fallback: "Then", scope: "Scope",
  second_scope: "Second scope", upstream: "Upstream", servers: "Servers", database: "Database", url: "As the upstream sees it",
  replay_bytes: "Kept for a second try", way: "Way", reaches: "Reaches",
};

/** plain makes any value of the API a text; objects in a list take a line each. */
export function plain(value) {
  if (Array.isArray(value)) return value.map(plain).join("\n");
  if (value && typeof value === "object") return Object.values(value).map(plain).filter(Boolean).join(": ");
  if (typeof value === "boolean") return value ? "yes" : "no";
  return String(value ?? "");
}

/** listen makes the form ask; denied hears of a key that is not taken. */
export function listen(denied) {
  byId("explain-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const [method, url, caller] = ["method", "url", "caller"].map((name) => byId(`explain-${name}`).value.trim());
    try {
      show(await get("api/explain", { method: method.toUpperCase(), url, caller }));
    } catch (trouble) {
      if (trouble instanceof Refused && trouble.status === 401) denied(trouble);
      else byId("verdict").replaceChildren(el("p", { class: "bad" }, trouble.message));
    }
  });
}

function show(x) {
  const title = x.allowed ? "This call would be let through." : "This call would be refused.";
  const list = el("dl");
  const rest = Object.keys(x).filter((key) => key !== "allowed" && !(key in names));
  words(list, [...Object.keys(names).filter((key) => key in x), ...rest]
    .map((key) => [names[key] ?? key.replaceAll("_", " "), plain(x[key]), key === "detail" && !x.allowed ? "bad" : undefined]));
  byId("verdict").replaceChildren(el("p", { class: x.allowed ? "good" : "bad" }, el("strong", {}, title)), list);
}

/** callers offers the names of callers that the routes have. */
export function callers(table) {
  const found = [...new Set((table.routes ?? []).flatMap((r) => r.callers ?? []))];
  byId("callers").replaceChildren(...found.map((name) => el("option", { value: name })));
}
