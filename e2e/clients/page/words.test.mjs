// What the live page says of calls and troubles. PAGE is the folder of its scripts.

import assert from 'node:assert/strict';
import { test } from 'node:test';

const from = (name) => import(`${process.env.PAGE}/${name}`);
const words = await from('words.js');
const format = await from('format.js');
const api = await from('api.js');
const { passed, plain } = await from('explain.js');
const permissions = await from('permissions.js');

const fine = {
  id: 1, request_id: 'r1', time: '2026-11-25T10:00:00Z', door: 'reverse', caller: 'job', route: 'graph', rule: 14, template: '/v1.0/users/**',
  method: 'GET', host: 'graph.microsoft.com', path: '/v1.0/users', status: 200, token_source: 'cache', token_id: 'abc',
  token_wait_ms: 0, upstream_ms: 12.3, duration_ms: 13.1, bytes_in: 0, bytes_out: 2048,
};
const told = (call, lines = {}) => Object.fromEntries(words.story(call, lines).map(([term, text]) => [term, text]));

test('a call that went well names route, rule, token and time', () => {
  const story = told(fine, { graph: 9 });
  assert.equal(words.headline(fine), 'The call went through: 200');
  assert.equal(story['Decided by'], 'Route graph (routes.yaml line 9); the allow rule in line 14 of routes.yaml decided, by its pattern /v1.0/users/**.');
  assert.equal(story.Token, 'It came from the cache; id abc.');
  assert.equal(story.Time, '13 ms in all: 12 ms until the upstream\'s answer began');
  assert.equal(story.Cause, '');
  assert.equal(story['Sent and received'], '0 B from the caller, 2.0 KiB to it');
});

test('a refusal has the cause and the remedy of the gateway itself', () => {
  const call = { ...fine, status: 502, code: 'token_refused', cause: 'AADSTS7000222: the secret expired', remedy: 'Make a new one.', token_source: undefined, rule: 0 };
  const story = told(call);
  assert.equal(told({ ...call, status: 403, code: 'caller_forbidden' }).Token, 'None was asked for: the call was refused before.');
  assert.equal(words.headline(call), 'The gateway refused this call: 502 token_refused');
  assert.equal(story.Cause, 'AADSTS7000222: the secret expired');
  assert.equal(story['What to do'], 'Make a new one.');
  assert.equal(story.Token, 'None could be had.');
  assert.equal(words.outcome(call), '502 token_refused');
});

test('a rule that denies says that none lets the call pass', () => {
  const call = { ...fine, status: 403, code: 'rule_denied', rule: 0 };
  assert.equal(told(call, { graph: 9 })['Decided by'], 'Route graph (routes.yaml line 9); none of its allow rules lets GET /v1.0/users pass.');
  assert.equal(told({ ...call, route: undefined })['Decided by'], 'No route took this call.');
});

test('an answer of the upstream is told from a refusal', () => {
  assert.match(words.cause({ ...fine, status: 404 }), /upstream's own answer/);
  assert.equal(words.cause({ ...fine, status: 403, remark: 'The token has no role User.Read.All.' }), 'The token has no role User.Read.All.');
  assert.equal(words.headline({ ...fine, status: 404 }), 'The upstream answered 404');
});

test('every outcome of a second try has its words', () => {
  for (const retry of ['recovered', 'refused_again', 'not_replayable', 'held_back', 'mismatch', 'sign_in']) {
    assert.match(words.retry({ retry }), /^The upstream .*\.$/, retry);
  }
  assert.equal(words.retry({}), '');
});

test('a call is named by what its caller sent', () => {
  assert.equal(words.address({ ...fine, host: 'graph.microsoft.com:443', path: '/graph/v1.0/users' }), 'GET /graph/v1.0/users → graph.microsoft.com');
  assert.equal(words.address({ ...fine, door: 'tunnel', host: 'graph.microsoft.com:443' }), 'GET graph.microsoft.com/v1.0/users');
  assert.equal(words.address({ method: 'CONNECT', door: 'tunnel', host: 'a.example:8443', path: '' }), 'CONNECT a.example:8443');
  assert.equal(words.address({ method: 'GET', door: 'reverse', host: '127.0.0.1:8080', path: '/none' }), 'GET /none at 127.0.0.1:8080');
});

test('the filter takes words, fields and classes of status, all of which must fit', () => {
  const calls = [fine, { ...fine, id: 2, status: 403, code: 'rule_denied', caller: 'web' }, { ...fine, id: 3, status: 503, path: '/v1.0/groups' }];
  const found = (typed, chosen) => calls.filter(words.matcher(typed, chosen)).map((c) => c.id).join(' ');
  for (const [typed, chosen, want] of [
    ['', '', '1 2 3'], ['users', '', '1 2'], ['status:4xx', '', '2'], ['status:503', '', '3'], ['caller:web users', '', '2'],
    ['caller:web groups', '', ''], ['GROUPS', '', '3'], ['', 'failed', '2 3'], ['', 'refused', '2'], ['', '5xx', '3'], ['code:rule', '', '2'],
    ['route:', '', ''], ['nothing:here', '', ''],
  ]) assert.equal(found(typed, chosen), want, `${typed} | ${chosen}`);
});

test('what is wrong comes worst first, each with its next step, and once', () => {
  const now = Date.parse('2026-11-25T10:00:00Z');
  const state = {
    status: { ready: true, reload: { ok: false, error: 'routes.yaml:3:1: no' }, degraded: ['routes.yaml has mistakes; the table before it is in force', 'route y: credential "a": expired', 'route x has no usable token', 'route z has none'] },
    credentials: [
      { name: 'a', ready: false, reason: 'credential "a": expired', remedy: 'Rotate it.' },
      { name: 'b', ready: true, expires: '2026-12-01T10:00:00Z', days_left: 6 },
      { name: 'c', ready: true, reason: 'refused', fallback: 'b' },
      { name: 'd', ready: true, expires: '2027-12-01T10:00:00Z', days_left: 371, clock_skew: -180 },
    ],
    tokens: [{ credential: 'a', scope: 's', failing: true }, { credential: 'd', scope: 's', failing: true, usable: true, error: 'throttled' }],
  };
  assert.deepEqual(words.problems(state, now).map((p) => p.title), [
    'The last reload failed; the table before it is still in force',
    'Credential a gives no token',
    'Credential c has trouble; b is in use instead',
    'Credential d gives no token for s',
    'Degraded', 'Degraded',
    'This machine\'s clock is 3 min behind that of credential d\'s token endpoint',
    'Credential b ends in 6 d',
  ]);
  const keys = words.problems(state, now).map((p) => p.key ?? p.title); // by which the page keeps what a reader has focused
  assert.equal(new Set(keys).size, keys.length);
  assert.deepEqual(words.problems({ status: { ready: true, reload: { ok: true }, degraded: null } }), []);
});

test('calls and logins that fail for a credential are told with it', () => {
  const now = Date.parse(fine.time) + 1000;
  const failed = { ...fine, status: 502, code: 'token_refused', cause: 'credential "a": expired (AADSTS7000222); the server said so' };
  const login = { event: 'login', result: 'token_refused', name: 'orders-db', time: fine.time, cause: failed.cause, remedy: 'Rotate it.' };
  const calls = [...words.troubles([failed, failed], now), ...words.loginTroubles([login, { ...login, result: 'success' }, { ...login, event: 'end' }], now)];
  const credentials = [{ name: 'a', ready: false, reason: 'credential "a": expired (AADSTS7000222)', remedy: 'Rotate it.' }];
  const [only, ...others] = words.problems({ status: { ready: false }, credentials, calls }, now);
  assert.deepEqual(others, []);
  assert.equal(only.so, 'For that reason 2 calls of late on route graph ended in 502 token_refused; 1 login of late at SQL door orders-db ended in token_refused');
  assert.equal(only.call, failed);
  const throttled = { name: 'a', ready: true, reason: 'asked for quiet' };
  const token = { credential: 'a', scope: 's', failing: true, usable: false };
  const worst = (more) => words.problems({ status: { ready: true }, credentials: [throttled], ...more }, now).map((p) => [p.title, p.soon]);
  assert.deepEqual(worst({ tokens: [token] }), [['Credential a gives no token now', false]]);
  assert.deepEqual(worst({ tokens: [{ ...token, usable: true }] }), [['Credential a has trouble', true]]);
});

test('logins that failed of late are gathered, one line for each kind', () => {
  const now = Date.parse(fine.time) + 1000;
  const login = { event: 'login', result: 'upstream_refused', number: 18456, name: 'orders-db', time: fine.time, cause: 'no user', remedy: 'CREATE USER [a] FROM EXTERNAL PROVIDER' };
  const found = words.loginTroubles([login, login, { ...login, number: 40615, cause: 'firewall' }, { ...login, time: '2026-11-25T09:00:00Z' }], now);
  assert.deepEqual(found.map((f) => f.title), ['2 logins of late at SQL door orders-db ended in upstream_refused', '1 login of late at SQL door orders-db ended in upstream_refused']);
  assert.equal(found[0].text, 'no user');
  assert.equal(new Set(found.map((f) => f.key)).size, 2);
});

test('permissions that would do as well are named once', () => {
  const denied = [{ route: 'a', method: 'GET', template: '/x', denied: 1, missing: 'D', remark: 'wants D, or a higher one: E.All', also: ['E.All', 'F.All'] }];
  assert.equal(permissions.rows({ credential: 'a', scope: 's', denied })[0].advice, 'wants D, or a higher one: E.All');
});

test('a trace is shown, and found by the filter', () => {
  const call = { ...fine, trace_id: '0af7651916cd43dd8448eb211c80319c' };
  assert.equal(told(call)['Trace id'], call.trace_id);
  assert.equal(told(fine)['Trace id'], undefined);
  assert.ok(words.matcher('0AF7651916')(call));
});

test('of troubles that are as frequent the latest comes first', () => {
  const now = Date.parse('2026-11-25T10:01:00Z');
  const calls = [1, 2, 3, 4, 5, 6].map((n) => ({ ...fine, time: `2026-11-25T10:00:0${n}Z`, status: 502, code: 'upstream_tls', cause: `cause ${'abcdef'[n - 1]}` }));
  assert.deepEqual(words.troubles(calls, now).slice(0, 5).map((t) => t.text), ['f', 'e', 'd', 'c', 'b'].map((x) => `cause ${x}`));
});

test('what can be run is told from the words around it', () => {
  const commands = (text) => words.pieces(text).filter((_, i) => i % 2 === 1);
  for (const [text, want] of [
    ['az ad app permission add --id 1 --api 2 --api-permissions 3=Role, then an administrator consents: az ad app permission admin-consent --id 1, then gateway purge --credential default; the page is x',
      ['az ad app permission add --id 1 --api 2 --api-permissions 3=Role', 'az ad app permission admin-consent --id 1', 'gateway purge --credential default']],
    ['begin the path with the mount of a route; gateway check lists them', []],
    ['then run gateway purge --credential a.', ['gateway purge --credential a']],
    ['As admin: CREATE USER [app one] FROM EXTERNAL PROVIDER in orders.', ['CREATE USER [app one] FROM EXTERNAL PROVIDER']],
    ['', []],
  ]) {
    assert.deepEqual(commands(text), want);
    assert.equal(words.pieces(text).join(''), text, 'no word may be lost');
  }
});

test('permissions begin with what is missing', () => {
  const rows = permissions.rows({
    credential: 'default', scope: 's', token: 'read', tenants: 3, remark: 'tokens differ.',
    roles: [{ name: 'A.Read', use: 'unused', calls: 0, tenants: 1 }, { name: 'B.Read', use: 'used', calls: 1, tenants: 3 }, { name: 'C.Read', use: 'unclear', calls: 0, tenants: 3 }],
    denied: [
      { route: 'r', method: 'GET', template: '/x', denied: 1, remark: 'a policy refuses', remedy: 'see its answer', held: 'A.Read' },
      { route: 'r', method: 'POST', template: '/y', denied: 2, remark: 'wants D', remedy: 'az ad app permission add --id 1', missing: 'D.Send', also: ['E.All'] },
    ],
  });
  assert.deepEqual(rows.map((r) => [r.name, r.state, r.fine]), [
    ['D.Send', 'missing', 'POST /y: 403 2 times'], ['A.Read', 'held, and yet refused', 'GET /x: 403 1 time'],
    ['A.Read', 'never used', 'granted in 1 of 3 tenants'], ['B.Read', 'used by 1 call', 'granted in 3 of 3 tenants'], ['C.Read', 'perhaps never used', 'granted in 3 of 3 tenants'],
  ]);
  assert.equal(rows[0].advice, 'wants D.\naz ad app permission add --id 1.\nE.All would do as well.\ntokens differ');
  assert.deepEqual(words.pieces(rows[0].advice)[1], 'az ad app permission add --id 1');
  assert.equal(new Set(rows.map((r) => r.key)).size, rows.length);
  for (const [token, state] of [['none', 'no token yet'], ['opaque', 'the token cannot be read'], ['read', '']]) {
    assert.deepEqual(permissions.rows({ credential: 'a', scope: 's', token, roles: [], denied: [] }).map((r) => [r.name, r.state]), [['none held', state]]);
  }
});

test('a thousand calls with one trouble are one line', () => {
  const now = Date.parse(fine.time) + 1000;
  const calls = Array.from({ length: 1000 }, (_, id) => ({ ...fine, id, status: 403, code: 'rule_denied', cause: 'no' }));
  const old = { ...fine, status: 500, time: '2026-11-25T09:00:00Z' };
  const refusal = (id) => ({ ...fine, status: 502, code: 'token_refused', cause: `expired. Trace ID: ${id}0000000-0000-0000-0000-000000000000 Timestamp: 2026-11-25 10:00:0${id}Z` });
  const missing = { ...fine, status: 404 };
  const [first, second, ...others] = words.troubles([...calls, fine, old, missing, refusal(1), refusal(2)], now);
  assert.equal(second.title, '2 calls of late on route graph ended in 502 token_refused');
  assert.equal(first.title, '1000 calls of late on route graph ended in 403 rule_denied');
  assert.equal(first.text, 'no');
  assert.deepEqual(others, []);
});

test('times, spans and sizes read well', () => {
  const now = Date.parse('2026-11-25T10:00:00Z');
  for (const [got, want] of [
    [format.until('2026-11-25T11:02:00Z', now), 'in 1 h 2 min'], [format.until('2026-11-25T09:59:58Z', now), '2 s ago'],
    [format.until('0001-01-01T00:00:00Z', now), ''], [format.since('2026-11-23T09:00:00Z', now), '2 d 1 h'], [format.since('', now), ''],
    [format.took(0.234), '0.2 ms'], [format.took(1234.5), '1235 ms'], [format.took(12345), '12.3 s'], [format.took(undefined), ''],
    [format.bytes(5), '5 B'], [format.bytes(3 * 1024 * 1024), '3.0 MiB'], [format.percent(0.9871), '98.7 %'], [format.percent(null), ''],
  ]) assert.equal(got, want);
});

test('events are read however the bytes are cut', async () => {
  const text = ': hello\n\nevent: request\nid: 7\ndata: {"a":1}\n\n: alive\nid: 9\n\nevent: lost\r\ndata: {}\r\n\r\ndata: one\ndata: two\n\n';
  const want = [{ event: 'request', id: '7', data: '{"a":1}' }, { event: 'alive', id: '9' }, { event: 'lost', id: undefined, data: '{}' }, { event: 'message', id: undefined, data: 'one\ntwo' }];
  for (const size of [1, 2, 7, 1000]) {
    const pieces = text.match(new RegExp(`[^]{1,${size}}`, 'g'));
    const got = [];
    for await (const event of api.events(pieces)) got.push(event);
    assert.deepEqual(got, want, `in pieces of ${size}`);
  }
});

test('an explanation shows values of any shape', () => {
  assert.equal(plain(true), 'yes');
  assert.equal(plain(['a', 'b']), 'a\nb');
  assert.equal(passed({ route: 'orders', at: 'routes.yaml:3', why: 'another host' }), 'orders (routes.yaml:3): another host');
  assert.equal(passed({ at: 'routes.yaml:3', why: 'another method' }), 'routes.yaml:3: another method');
  assert.equal(passed({ route: 'orders' }), 'orders');
  assert.equal(plain([{ route: 'graph', at: 'routes.yaml:4', why: 'another host' }]), 'graph: routes.yaml:4: another host');
});
