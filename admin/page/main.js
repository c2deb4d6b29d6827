// The live page: asks the admin port every few seconds and follows its calls.

import { follow, get, hasKey, Refused, remember } from "./api.js";
import { list } from "./calls.js";
import { byId, say, tables as roles, tick } from "./dom.js";
import * as explain from "./explain.js";
import { span } from "./format.js";
import * as permissions from "./permissions.js";
import * as tables from "./tables.js";
import { loginTroubles, problems, troubles } from "./words.js";

const every = 3000; // ms between two looks

const seen = { status: undefined, credentials: [], tokens: [], sessions: [], routes: {} };
let running; // AbortController of what is under way; undefined while a key is wanted
let answered = Date.now(); // when the gateway answered last

const calls = list(() => Object.fromEntries((seen.routes.routes ?? []).map((r) => [r.name, r.line])), () => judge());

const looks = {
  "api/status": (s) => {
    if (seen.status && seen.status.started !== s.started) calls.lost({ restarted: true });
    seen.status = s;
    tables.status(s);
  },
  "api/routes": (r) => { seen.routes = r; tables.routes(r); explain.callers(r); },
  "api/credentials": (c) => { seen.credentials = c; tables.credentials(c); },
  "api/tokens": (t, left) => { seen.tokens = t; tables.tokens(t, left); },
  "api/sessions": (s) => { seen.sessions = s; tables.sessions(s); },
  "api/permissions": (p) => permissions.show(p),
};

/** judge says what is wrong, by all that was seen. */
function judge() {
  tables.wrong(problems({ ...seen, calls: [...troubles(calls.all()), ...loginTroubles(seen.sessions)] }), calls.open);
}

async function look() {
  try {
    // One question alone comes first: a wrong key is held against its sender.
    const [first, ...others] = Object.entries(looks).map(([path, show]) => async () => {
      const { said, left } = await get(path);
      show(said ?? [], left);
    });
    await first();
    await Promise.all(others.map((ask) => ask()));
    answered = Date.now();
    byId("lost").hidden = true;
  } catch (trouble) {
    if (wantsKey(trouble)) return;
    say(byId("lost"), trouble instanceof Refused ? trouble.message
      : `The gateway does not answer; it did ${span(Date.now() - answered)} ago. Trying again.`);
    byId("lost").hidden = false;
    say(byId("state"), "no answer");
    byId("state").className = "badge bad";
  }
  if (seen.status) judge();
  calls.news();
}

/** wantsKey asks for the key, if that is the trouble, and stops all else until it is there. */
function wantsKey(trouble) {
  if (!(trouble instanceof Refused) || trouble.status !== 401) return false;
  if (!running) return true;
  running.abort();
  running = undefined;
  say(byId("login-why"), hasKey() ? `${trouble.message}.` : "");
  remember("");
  say(byId("state"), "key wanted");
  byId("state").className = "badge warn";
  byId("login").hidden = false;
  byId("window").hidden = true;
  byId("login-key").focus();
  return true;
}

function told(event) {
  if (event.event === "request") calls.add(JSON.parse(event.data));
  else if (event.event === "lost") calls.lost(JSON.parse(event.data));
}

async function begin() {
  running = new AbortController();
  const { signal } = running;
  await look();
  if (signal.aborted) return;
  byId("login").hidden = true;
  byId("window").hidden = false;
  const timer = setInterval(() => { if (!document.hidden) look(); }, every);
  signal.addEventListener("abort", () => clearInterval(timer));
  follow("api/requests?limit=500", told, calls.state, signal).catch(wantsKey);
}

byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  remember(byId("login-key").value);
  byId("login-key").value = "";
  begin();
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey || byId("detail").open) return;
  event.preventDefault();
  byId("filter").focus();
});

document.addEventListener("visibilitychange", () => { if (!document.hidden && running) look(); });
roles();
explain.listen(wantsKey);
setInterval(tick, 1000);
begin();
