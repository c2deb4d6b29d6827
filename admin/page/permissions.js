// What the tokens of each credential may do, what calls made of it, and what
// they lacked: what gateway permissions prints.

import { byId, fill, say } from "./dom.js";
import { count, date, moment } from "./format.js";

const most = 200; // rows shown

const uses = { used: (r) => `used by ${count(r.calls, "call")}`, unused: () => "never used", unclear: () => "perhaps never used" };

// others would do as well as what is missing; mostly the remark has named them.
function others({ remark = "", also = [] }) {
  return also.length === 0 || remark.includes(also[0]) ? "" : `${also.join(" or ")} would do as well`;
}

/** rows are the lines of one credential at one API: what is wanted first, then what is held. */
export function rows(api) {
  const of = { credential: api.credential, scope: api.scope };
  const wanted = (api.denied ?? []).map((d) => ({
    ...of, key: `403 ${d.route} ${d.method} ${d.template}`, name: d.missing || d.held || "not known",
    state: d.missing ? "missing" : d.held ? "held, and yet refused" : "refused", kind: d.missing ? "bad" : "warn",
    fine: `${d.method || "calls"} ${d.template || `of route ${d.route}`}: 403 ${count(d.denied, "time")}`,
    last: d.last, advice: sentence(d.remark, d.remedy, others(d)),
  }));
  const held = (api.roles ?? []).map((r) => ({
    ...of, key: `role ${r.name}`, name: r.name, state: uses[r.use]?.(r) ?? r.use, kind: r.use === "used" ? "good" : "",
    fine: api.tenants > 1 ? `granted in ${r.tenants} of ${api.tenants} tenants` : "", last: r.last,
    advice: r.use === "unused" ? "Take it away unless a job wants it that has yet to run." : "",
  }));
  const none = held.length > 0 ? [] : [{
    ...of, key: "none", name: "none held", state: { read: "", opaque: "the token cannot be read" }[api.token] ?? "no token yet", kind: "", advice: "",
  }];
  wanted.sort((a, b) => Number(b.kind === "bad") - Number(a.kind === "bad"));
  const all = [...wanted, ...held, ...none];
  if (api.remark) all[0].advice = sentence(all[0].advice, api.remark);
  return all.map((row) => ({ ...row, key: `${api.credential} ${api.scope} ${row.key}` }));
}

const sentence = (...parts) => parts.filter(Boolean).map((part) => part.replace(/\.$/, "")).join(".\n");

/** show shows /api/permissions. */
export function show(report) {
  const all = (report.apis ?? []).flatMap(rows);
  const since = moment(report.since) === undefined ? "" : `Counted since ${date(report.since)}. `;
  const more = all.length > most ? `${count(all.length - most, "more line")}: gateway permissions has them. ` : "";
  say(byId("permission-since"), `${since}${more}Known for the commonest calls of Microsoft Graph; of other APIs there are the permissions and the 403s.`);
  fill(byId("permission-rows"), all.slice(0, most), (row) => row.key, (row) => [
    { text: row.name, head: true }, { text: row.credential, fine: row.scope },
    { text: row.state, fine: row.fine, kind: row.kind }, { until: moment(row.last) && row.last, text: "never", kind: "time" },
    { advice: row.advice, kind: "text" },
  ]);
}
