// The tables of routes, tokens, credentials and SQL, and the state of the file.

import { clock, count, date, moment, percent, span, took } from "./format.js";
import { advise, byId, el, fill, say, tick } from "./dom.js";

const mostTokens = 200; // rows shown; the gateway may hold a hundred thousand

const number = (n) => ({ text: n ?? 0, kind: "n" });
const lines = (...texts) => texts.filter(Boolean).join("\n");
const listed = (names) => (names ?? []).join(", ");

/** routes shows /api/routes. */
export function routes(table) {
  fill(byId("route-rows"), table.routes ?? [], (r) => r.name, (r) => [
    { text: r.name, fine: lines(r.line && `line ${r.line}`, r.preset && `preset ${r.preset}`), head: true },
    { text: listed(r.hosts), fine: r.mount && `mounted at ${r.mount}` },
    { text: r.credential, fine: r.scope },
    r.callers?.length ? listed(r.callers) : "any",
    number(r.requests), { text: perMinute(r.rate_1m), kind: "n" },
    { text: r.refusals ?? 0, kind: r.refusals ? "n warn" : "n" }, { text: r.errors ?? 0, kind: r.errors ? "n bad" : "n" },
    { text: took(r.p50_ms || undefined), kind: "n" }, { text: took(r.p99_ms || undefined), kind: "n" },
    { until: moment(r.last) && r.last, text: "none", kind: "time" },
  ]);
  fill(byId("door-rows"), table.sql ?? [], (d) => d.name, (d) => [
    { text: d.name, fine: d.line && `line ${d.line}`, head: true }, d.listen, d.server, number(d.sessions), number(d.logins),
    { text: d.failures ?? 0, kind: d.failures ? "n bad" : "n" },
  ]);
  tick();
}

// rate_1m is calls a second, over the last minute.
const perMinute = (rate) => (rate > 0 ? String(Number((rate * 60).toFixed(1))) : "0");

/** tokens shows /api/tokens: those in trouble first. left is how many more the gateway holds. */
export function tokens(all, left) {
  const worst = (t) => (t.usable ? (t.failing ? 1 : 2) : 0);
  const shown = all.toSorted((a, b) => worst(a) - worst(b)).slice(0, mostTokens);
  const more = all.length - shown.length + left;
  say(byId("token-more"), more > 0 ? `${count(more, "more token")} held; those that cannot be used come first.` : "");
  fill(byId("token-rows"), shown, (t) => [t.credential, t.tenant, t.scope].join("\n"), (t) => [
    { text: t.credential, head: true }, t.tenant, t.scope, { text: t.sha256, kind: "mono" }, t.source,
    { since: moment(t.obtained) && t.obtained, kind: "time" },
    { until: moment(t.refresh_at) && t.refresh_at, kind: "time" },
    { until: moment(t.expires) && t.expires, kind: "time" },
    tokenState(t),
  ]);
  tick();
}

function tokenState(t) {
  const state = t.usable ? (t.failing ? "usable, but its refresh fails" : "usable") : "not usable";
  return { text: lines(state, t.error), fine: t.remedy, kind: `text ${t.usable ? (t.failing ? "warn" : "good") : "bad"}` };
}

/** credentials shows /api/credentials. */
export function credentials(all) {
  fill(byId("credential-rows"), all, (c) => c.name, (c) => [
    { text: c.name, head: true }, c.kind,
    c.ready ? { text: lines("ready", c.reason), kind: c.reason ? "text warn" : "good" } : { text: lines("not ready", c.reason), kind: "text bad" },
    { advice: c.remedy ?? "", kind: c.remedy ? "text" : "" }, c.fallback && `${c.fallback} is in use instead`,
    { text: date(c.expires) || "not known", kind: "time" },
    { text: c.days_left ?? "", kind: daysKind(c.days_left ?? Infinity) },
    skew(c.clock_skew),
  ]);
}

const daysKind = (days) => (days < 7 ? "n bad" : days < 30 ? "n warn" : "n");

// clock_skew is this clock minus the token endpoint's in seconds, 0 within a minute.
function skew(seconds) {
  if (!seconds) return { text: "right", kind: "good" };
  return { text: `${span(seconds * 1000)} ${seconds > 0 ? "ahead" : "behind"}`, kind: "bad" };
}

/** sessions shows /api/sessions: of each session its newest record. */
export function sessions(all) {
  const newest = new Map();
  for (const s of all) if (!newest.has(s.session)) newest.set(s.session, s);
  fill(byId("session-rows"), [...newest.values()], (s) => s.session, (s) => [
    { text: clock(s.time), kind: "time" }, { text: s.name, kind: "time" }, lines(s.caller, s.user !== s.caller && s.user), lines(s.app, s.library),
    lines(s.server, s.database), s.token_source, sessionState(s), { advice: s.remedy ?? "", kind: s.remedy ? "text" : "" },
  ]);
}

function sessionState(s) {
  if (s.result !== "success") return { text: lines(s.result, s.cause, s.number && `error ${s.number}`), kind: "text bad" };
  if (s.event !== "end") return { text: "open", kind: "good" };
  return lines(`ended after ${took(s.duration_ms)}`, s.reason, s.cause);
}

/** status shows /api/status. */
export function status(s) {
  say(byId("version"), s.version ?? "");
  const [word, kind] = !s.ready ? ["not ready", "bad"] : s.degraded?.length ? ["degraded", "warn"] : ["ready", "good"];
  say(byId("state"), word);
  byId("state").className = `badge ${kind}`;
  const up = moment(s.started) === undefined ? "" : `up ${span(Date.now() - moment(s.started))}`;
  say(byId("summary"), [s.config, up, count(s.requests ?? 0, "call")].filter(Boolean).join(" · "));
  say(byId("hits"), percent(s.hit_rate) && `Hit rate ${percent(s.hit_rate)}: so many of the calls found their token in a cache.`);
  const r = s.reload ?? {};
  say(byId("reload-state"), r.ok === false
    ? `The reload of ${date(r.at)} failed; the table before it is still in force.`
    : `The file was taken${r.at ? ` ${date(r.at)}` : ""}.`);
  byId("reload-state").className = r.ok === false ? "bad" : "good";
  say(byId("reload-error"), r.error ?? "");
  byId("reload-error-box").hidden = !r.error;
  byId("reload-warnings").replaceChildren(...(r.warnings ?? []).map((w) => el("li", {}, `warning: ${w}`)));
}

/** wrong shows what is wrong; open explains a call. What a reader has focused stays. */
export function wrong(found, open) {
  const list = byId("problems");
  const kept = new Map([...list.children].map((item) => [item.dataset.key, item]));
  found.forEach((f, i) => {
    const key = f.key ?? f.title;
    const item = kept.get(key) ?? problem(key);
    kept.delete(key);
    item.className = f.soon ? "soon" : "";
    const [title, text, remedy, so] = item.children;
    say(title, f.title);
    say(text, f.text ?? "");
    text.className = f.excerpt ? "mono" : "";
    advise(remedy.lastChild, f.remedy ?? "");
    remedy.hidden = !f.remedy;
    say(so, f.so ? `${f.so}.` : "");
    more(item.lastChild, f, open);
    if (list.children[i] !== item) list.insertBefore(item, list.children[i] ?? null);
  });
  for (const item of kept.values()) item.remove();
  byId("all-well").hidden = found.length > 0;
  document.title = found.length > 0 ? `(${found.length}) gateway` : "gateway";
}

function problem(key) {
  const remedy = el("span", {}, el("b", {}, "What to do: "), el("span", { class: "inline" }));
  return el("li", { "data-key": key }, el("strong"), el("span"), remedy, el("span", { class: "fine" }), el("span"));
}

// more leads to one of the calls, or to the table that has more.
function more(at, f, open) {
  if (at.firstChild && (at.firstChild.localName === "a") === !f.call) return;
  const lead = f.call ? el("button", { type: "button" }, "Explain the latest") : el("a", { href: f.where }, "Show");
  if (f.call) lead.addEventListener("click", () => open(f.call));
  at.replaceChildren(lead);
}
