// Times, spans and numbers as people read them. Nothing here touches the page.

/** moment reads a time of the API; undefined for none, Go's zero time included. */
export function moment(text) {
  const at = text ? Date.parse(text) : NaN;
  return Number.isNaN(at) || at <= 0 ? undefined : at;
}

/** span says how long ms milliseconds are, in two units at most. */
export function span(ms) {
  const s = Math.floor(Math.abs(ms) / 1000);
  const [d, h, m] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d > 0) return h > 0 ? `${d} d ${h} h` : `${d} d`;
  if (h > 0) return m > 0 ? `${h} h ${m} min` : `${h} h`;
  if (m > 0) return s % 60 > 0 ? `${m} min ${s % 60} s` : `${m} min`;
  return `${s} s`;
}

/** until is a countdown to a time of the API, "" for none. */
export function until(text, now) {
  const at = moment(text);
  if (at === undefined) return "";
  return at >= now ? `in ${span(at - now)}` : `${span(now - at)} ago`;
}

/** since is the age of a time of the API, "" for none. */
export function since(text, now) {
  const at = moment(text);
  return at === undefined ? "" : span(Math.max(0, now - at));
}

/** took is a duration in milliseconds, "" for none. */
export function took(ms) {
  if (ms === undefined || ms === null) return "";
  if (ms >= 10000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms >= 10) return `${Math.round(ms)} ms`;
  return `${Number(ms.toFixed(1))} ms`;
}

/** clock is the local time of day of a time of the API. */
export function clock(text) {
  const at = moment(text);
  if (at === undefined) return "";
  const two = (n, width = 2) => String(n).padStart(width, "0");
  const d = new Date(at);
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${two(d.getMilliseconds(), 3)}`;
}

/** date is the day and local time of a time of the API, "" for none. */
export function date(text) {
  const at = moment(text);
  return at === undefined ? "" : new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** bytes is a size as people read it. */
export function bytes(n) {
  if (!(n >= 1024)) return `${n ?? 0} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let i = -1;
  do { n /= 1024; i++; } while (n >= 1024 && i < units.length - 1);
  return `${n.toFixed(1)} ${units[i]}`;
}

/** percent is a share of one as people read it, "" for none. */
export function percent(share) {
  return typeof share === "number" ? `${(share * 100).toFixed(1)} %` : "";
}

/** count is a number with its noun. */
export function count(n, one, many = `${one}s`) {
  return `${n} ${n === 1 ? one : many}`;
}
