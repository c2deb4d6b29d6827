// How the page asks the gateway: read-only, same origin, the admin key as a
// Bearer credential where one was typed in.

const keyName = "gateway-admin-key";

/** Refused is an answer of the gateway other than 2xx. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** remember keeps the key for as long as this tab lives; "" forgets it. */
export function remember(key) {
  if (key) sessionStorage.setItem(keyName, key);
  else sessionStorage.removeItem(keyName);
}

/** hasKey tells whether a key was typed in. */
export const hasKey = () => sessionStorage.getItem(keyName) !== null;

async function ask(path, accept, more) {
  const headers = { Accept: accept, ...more.headers };
  const key = sessionStorage.getItem(keyName);
  if (key) headers.Authorization = `Bearer ${key}`;
  const answer = await fetch(path, { cache: "no-store", credentials: "same-origin", redirect: "error", ...more, headers });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, body.error ?? `the gateway answered ${answer.status} ${answer.statusText}`);
}

/** get reads JSON from one path of the API, and how much more there is. */
export async function get(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== ""));
  const answer = await ask(query.size > 0 ? `${path}?${query}` : path, "application/json", { signal: AbortSignal.timeout(15000) });
  return { said: await answer.json(), left: Number(answer.headers.get("Gateway-Left-Out") ?? 0) };
}

/**
 * events reads server-sent events from the text that comes in pieces. One
 * without data, which only moves the reader's place, is named alive.
 */
export async function* events(pieces) {
  let rest = "";
  let event = { event: "message", data: [] };
  for await (const piece of pieces) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    for (const line of lines.map((l) => l.replace(/\r$/, ""))) {
      const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
      if (line === "") {
        if (event.data.length > 0) yield { event: event.event, id: event.id, data: event.data.join("\n") };
        else if (event.id) yield { event: "alive", id: event.id };
        event = { event: "message", data: [] };
      } else if (name === "data") event.data.push(value);
      else if (name === "event" || name === "id") event[name] = value;
    }
  }
}

async function* textOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

// The gateway sends something every 15 s; after this long it is gone.
const silence = 40000;

/**
 * follow hands every event under path to take until signal is aborted, across
 * lost connections. told hears "" when the stream is up, else why it is not. It
 * throws a Refused when the gateway wants another key.
 */
export async function follow(path, take, told, signal) {
  let last;
  for (let wait = 1000; !signal.aborted; wait = Math.min(wait * 2, 15000)) {
    const one = new AbortController();
    const stop = () => one.abort();
    let watch = setTimeout(stop, silence);
    let why = "the stream of calls has ended";
    signal.addEventListener("abort", stop);
    try {
      const answer = await ask(path, "text/event-stream", { signal: one.signal, headers: last ? { "Last-Event-ID": last } : {} });
      told("");
      for await (const event of events(textOf(answer.body))) {
        clearTimeout(watch);
        watch = setTimeout(stop, silence);
        wait = 1000;
        if (event.id) last = event.id;
        if (event.event !== "alive") take(event);
      }
    } catch (trouble) {
      if (trouble instanceof Refused && trouble.status === 401) throw trouble;
      if (trouble instanceof Refused) why = trouble.message;
    } finally {
      clearTimeout(watch);
      signal.removeEventListener("abort", stop);
    }
    if (signal.aborted) return;
    told(why);
    await new Promise((resume) => setTimeout(resume, wait));
  }
}
