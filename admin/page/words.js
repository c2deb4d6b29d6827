// A call, and what is wrong, in words. Causes and remedies are the gateway's
// own, as its log and its answers have them; this adds who decided what.
// Nothing here touches the page.

import { bytes, count, date, moment, span, took } from "./format.js";

/** failed tells whether a call ended badly for its caller. */
export const failed = (call) => Boolean(call.code) || call.status >= 400 || call.status === 0;

/** refused tells whether the gateway itself refused the call. */
export const refused = (call) => Boolean(call.code);

/** outcome is what became of a call, in a few words. */
export function outcome(call) {
  if (call.code) return `${call.status} ${call.code}`;
  return call.status ? String(call.status) : "broken off";
}

/**
 * address is what was called: method, host and path. At the reverse door the
 * path is the one at the gateway, mount included, and the host stands behind; without
 * a route it is what the caller took for the gateway's, perhaps wrongly.
 */
export function address(call) {
  const host = (call.host ?? "").replace(/:443$/, "");
  if (call.door === "reverse") return `${call.method} ${call.path}${call.route ? " → " : " at "}${host}`;
  return `${call.method ?? ""} ${host}${call.path ?? ""}`.trim();
}

const sources = {
  cache: "from the cache",
  identity_provider: "fresh from the identity provider",
  shared_cache: "from the shared cache",
  stale: "from the cache, past its time for a refresh, because the identity provider could not be asked",
};

const retries = {
  recovered: "The upstream answered 401; the token was renewed and the second try was taken.",
  refused_again: "The upstream answered 401; the token was renewed and the second try was refused as well.",
  not_replayable: "The upstream answered 401; the body is larger than the route keeps, so the call was not sent again. The token is renewed for the next one.",
  held_back: "The upstream answered 401; the token had just been renewed, or no other could be had, so the call was not sent again.",
  mismatch: "The upstream wants a token of another tenant or audience; a new one of the same would not help, so none was asked for.",
  sign_in: "The upstream answered with a sign-in page; the token was not renewed.",
};

/** headline says what became of a call, in one sentence. */
export function headline(call) {
  if (call.code) return `The gateway refused this call: ${call.status} ${call.code}`;
  if (!call.status) return "The call was broken off before there was an answer";
  if (call.status >= 400) return `The upstream answered ${call.status}`;
  return `The call went through: ${call.status}`;
}

/** cause says why a failed call failed, as the gateway has it. */
export function cause(call) {
  if (call.cause || call.remark) return call.cause || call.remark;
  if (!call.code && call.status >= 400) return "It is the upstream's own answer, passed on as it is; the gateway let the call through.";
  return "";
}

/** decision says which route and which line decided. lines leads from a route's name to its line. */
export function decision(call, lines = {}) {
  if (!call.route) return "No route took this call.";
  const at = lines[call.route] ? ` (routes.yaml line ${lines[call.route]})` : "";
  const route = `Route ${call.route}${at}`;
  if (call.rule) {
    const by = call.template ? `, by its pattern ${call.template}` : "";
    return `${route}; the allow rule in line ${call.rule} of routes.yaml decided${by}.`;
  }
  if (call.code === "rule_denied") return `${route}; none of its allow rules lets ${call.method} ${call.path} pass.`;
  return `${route}; no allow rule had to decide.`;
}

/** token says what the token of a call was. */
export function token(call) {
  if (/^token_(refused|unavailable)$/.test(call.code)) return "None could be had.";
  if (!call.token_source) return refused(call) ? "None was asked for: the call was refused before." : "None was asked for.";
  const id = call.token_id ? `; id ${call.token_id}` : "";
  const wait = call.token_wait_ms >= 1 ? `; the call waited ${took(call.token_wait_ms)} for it` : "";
  return `It came ${sources[call.token_source] ?? call.token_source}${id}${wait}.`;
}

/** retry says what the second try did, "" where there was none. */
export const retry = (call) => (call.retry ? retries[call.retry] ?? call.retry : "");

/** times says where the time of a call went. */
export function times(call) {
  const parts = [];
  if (call.token_wait_ms >= 1) parts.push(`${took(call.token_wait_ms)} waiting for a token`);
  if (call.upstream_ms > 0) parts.push(`${took(call.upstream_ms)} until the upstream's answer began`);
  const all = took(call.duration_ms) || "unknown";
  return parts.length > 0 ? `${all} in all: ${parts.join(", ")}` : `${all} in all`;
}

/** story explains a call: pairs of term and text, and the kind of those that matter most. */
export function story(call, lines) {
  const kind = failed(call) ? "bad" : undefined;
  return [
    ["Cause", cause(call), kind],
    ["What to do", call.remedy],
    ["Call", address(call)],
    ["Caller", call.caller || "anonymous: routes.yaml names no callers, or none was shown"],
    ["Door", call.door],
    ["Decided by", decision(call, lines)],
    ["Would be refused", call.would_deny],
    ["Token", token(call)],
    ["Second try", retry(call)],
    ["Time", times(call)],
    ["Sent and received", `${bytes(call.bytes_in)} from the caller, ${bytes(call.bytes_out)} to it`],
    ["At", `${date(call.time)} (${call.time})`],
    ["Request id", call.request_id],
    ["Trace id", call.trace_id],
    ["Upstream's request id", call.upstream_request && `${call.upstream_request}: the upstream's own log has it`],
  ];
}

// What can be run as it stands.
const runnable = /(\baz [a-z]+ [^,;\n]*--[^,;\n]*[^,;.\s]|\bgateway purge --credential [^\s,;]*[^\s,;.]|\bCREATE USER \[[^\]]+\] FROM EXTERNAL PROVIDER)/;

/** pieces cuts a remedy into words and the commands in it, by turns, words first. */
export const pieces = (text) => text.split(runnable);

// A credential that ends sooner than this is worth a word.
const soonDays = 30;

const mostLines = 15; // of the error of a reload

function excerpt(text) {
  const lines = text.trimEnd().split("\n");
  return lines.length <= mostLines ? text : `${lines.slice(0, mostLines).join("\n")}\n… ${count(lines.length - mostLines, "more line")} under Reload`;
}

/**
 * problems lists what is wrong, worst first: {title, text, remedy, where, soon}.
 * seen is what the API has said last, and the troubles of calls and logins. Those
 * that come of a credential's trouble are told with it.
 */
export function problems({ status, credentials = [], tokens = [], calls = [] }, now = Date.now()) {
  const found = [];
  if (status?.reload && status.reload.ok === false) {
    found.push({ title: "The last reload failed; the table before it is still in force", text: excerpt(status.reload.error ?? ""), excerpt: true,
      remedy: "Mend routes.yaml and save it, or run gateway reload.", where: "#reload" });
  }
  for (const c of credentials.filter((one) => !one.ready)) {
    found.push({ title: `Credential ${c.name} gives no token`, text: c.reason, remedy: c.remedy, where: "#credentials" });
  }
  for (const c of credentials.filter((one) => one.ready && one.reason)) {
    const none = !c.fallback && tokens.some((t) => t.credential === c.name && t.failing && !t.usable);
    const instead = c.fallback ? `; ${c.fallback} is in use instead` : "";
    found.push({ title: none ? `Credential ${c.name} gives no token now` : `Credential ${c.name} has trouble${instead}`,
      text: c.reason, remedy: c.remedy, where: "#credentials", soon: !none });
  }
  for (const t of tokens.filter((one) => one.failing && !credentials.some((c) => c.name === one.credential && c.reason))) {
    found.push({ title: `Credential ${t.credential} gives no token for ${t.scope}`, text: t.error, remedy: t.remedy, where: "#tokens", soon: t.usable });
  }
  const told = (text) => found.some((f) => f.text && text.includes(f.text)) || status.reload?.ok === false && text.startsWith("routes.yaml ");
  for (const text of (status?.degraded ?? []).filter((one) => !told(one))) {
    found.push({ key: `degraded ${text}`, title: "Degraded", text, where: "#credentials", soon: status.ready });
  }
  for (const c of credentials.filter((one) => one.clock_skew)) {
    found.push({ title: `This machine's clock is ${span(c.clock_skew * 1000)} ${c.clock_skew > 0 ? "ahead of" : "behind"} that of credential ${c.name}'s token endpoint`,
      remedy: "Set the clock, for instance by NTP.", where: "#credentials", soon: true });
  }
  for (const c of credentials.filter((one) => one.ready && one.days_left !== undefined && one.days_left < soonDays)) {
    const left = moment(c.expires) - now;
    const title = left > 0 ? `Credential ${c.name} ends in ${span(left)}` : `Credential ${c.name} ended ${span(left)} ago`;
    found.push({ title, remedy: c.remedy || "Make a new one and put it in its place before then; the gateway takes it over without a restart.", where: "#credentials", soon: left > 0 });
  }
  const sources = found.filter((f) => f.text);
  for (const c of calls) {
    const source = sources.find((f) => c.text?.startsWith(f.text));
    if (!source) {
      found.push(c);
      continue;
    }
    source.so = `${source.so ? `${source.so}; ` : "For that reason "}${c.title}`;
    source.call ??= c.call;
  }
  return found.sort((a, b) => Number(a.soon ?? false) - Number(b.soon ?? false));
}

// What each refusal of an identity provider has of its own: ids and a time.
const ownIds = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\d[ T][\d:.]+Z/g;

const lately = 5 * 60 * 1000; // ms
const mostKinds = 5; // of calls or logins that failed, each

/**
 * gather puts together what is of one kind, so that a thousand of one kind are
 * one line: most frequent first, and of those as frequent the latest, which is
 * what the operator came for.
 */
function gather(all, keyOf) {
  const kinds = new Map();
  for (const one of all) {
    const key = keyOf(one).join("\n").replaceAll(ownIds, "");
    const kind = kinds.get(key) ?? { key, n: 0 };
    if (!(moment(one.time) < moment(kind.latest?.time))) kind.latest = one;
    kind.n++;
    kinds.set(key, kind);
  }
  return [...kinds.values()].sort((a, b) => b.n - a.n || moment(b.latest.time) - moment(a.latest.time));
}

/** troubles gathers the calls that failed of late by what ailed them. */
export function troubles(calls, now = Date.now()) {
  const ails = (call) => call.code || call.remark || call.status >= 500 || call.status === 0; // an API's 404 is its business
  const kinds = gather(calls.filter((call) => ails(call) && now - moment(call.time) < lately), (call) => [call.route, outcome(call), cause(call)]);
  const found = kinds.slice(0, mostKinds).map(({ key, latest: call, n }) => ({
    key,
    title: `${count(n, "call")} of late ${call.route ? `on route ${call.route} ` : ""}ended in ${outcome(call)}`,
    text: cause(call), remedy: call.remedy, call, soon: !call.code, so: `The latest: ${address(call)}`,
  }));
  if (kinds.length > mostKinds) {
    found.push({ title: `Calls of late failed in ${count(kinds.length - mostKinds, "more way")}`,
      remedy: "Choose failed under Outcome in the list of calls.", where: "#calls", soon: true });
  }
  return found;
}

/** loginTroubles gathers the logins at SQL doors that failed of late. */
export function loginTroubles(sessions, now = Date.now()) {
  const failed = sessions.filter((s) => s.event === "login" && s.result !== "success" && now - moment(s.time) < lately);
  return gather(failed, (s) => [s.name, s.result, s.number, s.cause]).slice(0, mostKinds).map(({ key, latest: s, n }) => ({
    key: `login ${key}`,
    title: `${count(n, "login")} of late at SQL door ${s.name} ended in ${s.result}`,
    text: s.cause ?? "", remedy: s.remedy, where: "#sql",
  }));
}

const prefixes = ["route", "caller", "status", "code", "door", "method"];

/** matcher makes a test for calls of what was typed as a filter and chosen as an outcome. */
export function matcher(typed, chosen = "") {
  const tests = typed.trim().toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const [, name, value] = /^([a-z]+):(.*)$/.exec(word) ?? [];
    if (prefixes.includes(name)) return (call) => fits(String(call[name] ?? "").toLowerCase(), value);
    return (call) => [call.route, call.caller, call.host, call.path, call.method, call.code, call.status, call.cause, call.request_id, call.trace_id, call.token_id]
      .some((field) => String(field ?? "").toLowerCase().includes(word));
  });
  if (chosen === "failed") tests.push(failed);
  else if (chosen === "refused") tests.push(refused);
  else if (chosen) tests.push((call) => fits(String(call.status), chosen));
  return (call) => tests.every((test) => test(call));
}

// 4xx stands for every status of that class.
function fits(field, value) {
  if (/^[1-5]xx$/.test(value)) return field.length === 3 && field[0] === value[0];
  return field === value || (value !== "" && field.startsWith(value));
}
