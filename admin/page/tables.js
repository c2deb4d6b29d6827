// The tables of routes, tokens, credentials and SQL, and the state of the file.

import { clock, count, date, moment, percent, span, took } from "./format.js";
import { byId, el, fill, say, tick } from "./dom.js";

const number = (n) => ({ text: n ?? 0, kind: "n" });
const lines = (...texts) => texts.filter(Boolean).join("\n");
const listed = (names) => (names ?? []).join(", ");

/** routes shows /api/routes. */
export function routes(table) {
  fill(byId("route-rows"), table.routes ?? [], (r) => r.name, (r) => [
    { text: lines(r.name, r.line && `line ${r.line}`, r.preset && `preset ${r.preset}`), head: true },
    lines(listed(r.hosts), r.mount && `mounted at ${r.mount}`),
    lines(r.credential, r.scope),
    r.callers?.length ? listed(r.callers) : "anyone admitted",
    number(r.requests), { text: perMinute(r.rate_1m), kind: "n" },
    { text: r.refusals ?? 0, kind: r.refusals ? "n warn" : "n" }, { text: r.errors ?? 0, kind: r.errors ? "n bad" : "n" },
    { text: took(r.p50_ms || undefined), kind: "n" }, { text: took(r.p99_ms || undefined), kind: "n" },
    { since: moment(r.last) && r.last, text: "none", kind: "time" },
  ]);
  fill(byId("door-rows"), table.sql ?? [], (d) => d.name, (d) => [
    { text: d.name, head: true }, d.listen, d.server, number(d.sessions), number(d.logins),
    { text: d.failures ?? 0, kind: d.failures ? "n bad" : "n" },
  ]);
  tick();
}

// rate_1m is calls a second, over the last minute.
const perMinute = (rate) => (rate > 0 ? String(Number((rate * 60).toFixed(1))) : "0");

/** tokens shows /api/tokens. */
export function tokens(all) {
  fill(byId("token-rows"), all, (t) => [t.credential, t.tenant, t.scope].join("\n"), (t) => [
    { text: t.credential, head: true }, t.tenant, t.scope, { text: t.sha256, kind: "mono" }, t.source,
    { since: moment(t.obtained) && t.obtained, kind: "time" },
    { until: moment(t.refresh_at) && t.refresh_at, kind: "time" },
    { until: moment(t.expires) && t.expires, kind: "time" },
    tokenState(t),
  ]);
  tick();
}

function tokenState(t) {
  if (t.failing) return { text: lines(t.usable ? "usable, but its refresh fails" : "not usable", t.error), kind: t.usable ? "warn" : "bad" };
  return t.usable ? { text: "usable", kind: "good" } : { text: lines("not usable", t.error), kind: "bad" };
}

/** credentials shows /api/credentials. */
export function credentials(all) {
  fill(byId("credential-rows"), all, (c) => c.name, (c) => [
    { text: c.name, head: true }, c.kind,
    c.ready ? { text: lines("ready", c.reason), kind: "good" } : { text: lines("not ready", c.reason), kind: "bad" },
    c.remedy ?? "", [c.fallback].flat().filter(Boolean).join(", "),
    { text: date(c.expires), kind: "time" },
    moment(c.expires) === undefined ? { text: "", kind: "n" } : { text: Math.floor(c.days_left), kind: daysKind(c.days_left) },
    skew(c.clock_skew),
  ]);
}

const daysKind = (days) => (days < 7 ? "n bad" : days < 30 ? "n warn" : "n");

// clock_skew is how many seconds the identity provider's clock is ahead of ours.
function skew(seconds) {
  if (seconds === undefined || seconds === null || seconds === "") return "";
  if (typeof seconds !== "number") return String(seconds);
  if (Math.abs(seconds) < 5) return { text: "right", kind: "good" };
  const text = `${span(seconds * 1000)} ${seconds > 0 ? "behind" : "ahead"}`;
  return { text, kind: Math.abs(seconds) < 60 ? "warn" : "bad" };
}

/** sessions shows /api/sessions. */
export function sessions(all) {
  fill(byId("session-rows"), all, (s) => s.id, (s) => [
    { text: clock(s.start), kind: "time" }, s.name, lines(s.caller, s.user !== s.caller && s.user), lines(s.app, s.library),
    lines(s.server, s.database), lines(s.token_source, s.renewed && "renewed at the login"),
    sessionState(s), s.remedy ?? "",
  ]);
}

function sessionState(s) {
  if (s.result && s.result !== "success") return { text: lines(s.result, s.cause, s.number && `error ${s.number}`), kind: "bad" };
  if (moment(s.end) === undefined) return { text: "open", kind: "good" };
  return { text: lines(`ended after ${span(moment(s.end) - moment(s.start))}`, s.reason, s.cause) };
}

/** status shows /api/status. */
export function status(s) {
  say(byId("version"), s.version ?? "");
  const [word, kind] = !s.ready ? ["not ready", "bad"] : s.degraded?.length ? ["degraded", "warn"] : ["ready", "good"];
  say(byId("state"), word);
  byId("state").className = `badge ${kind}`;
  const up = moment(s.started) === undefined ? "" : `up ${span(Date.now() - moment(s.started))}`;
  say(byId("summary"), [s.config, up, count(s.requests ?? 0, "call")].filter(Boolean).join(" · "));
  say(byId("hits"), percent(s.hit_rate) && `${percent(s.hit_rate)} of the calls found their token in a cache.`);
  const r = s.reload ?? {};
  say(byId("reload-state"), r.ok === false
    ? `The reload of ${date(r.at)} failed; the table before it is still in force.`
    : `The file was taken${r.at ? ` ${date(r.at)}` : ""}.`);
  byId("reload-state").className = r.ok === false ? "bad" : "good";
  say(byId("reload-error"), r.error ?? "");
  byId("reload-error-box").hidden = !r.error;
  byId("reload-warnings").replaceChildren(...(r.warnings ?? []).map((w) => el("li", {}, `warning: ${w}`)));
}

/** wrong shows what is wrong; open explains a call. */
export function wrong(found, open) {
  const shape = JSON.stringify(found);
  const list = byId("problems");
  if (list.dataset.shape === shape) return;
  list.dataset.shape = shape;
  list.replaceChildren(...found.map((f) => {
    const more = f.call ? el("button", { type: "button" }, "Explain one") : el("a", { href: f.where }, "Show");
    if (f.call) more.addEventListener("click", () => open(f.call));
    return el("li", { class: f.soon ? "soon" : undefined }, el("strong", {}, f.title), ...(f.text ? [el("span", {}, f.text)] : []),
      ...(f.remedy ? [el("span", {}, `What to do: ${f.remedy}`)] : []), more);
  }));
  byId("all-well").hidden = found.length > 0;
}
