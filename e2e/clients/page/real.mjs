// Looks at the live page of a real gateway while the test that runs this does
// what it is asked to: "do NAME" on stdout, answered by one line of JSON on
// stdin. Operand: the address of the admin port. HIDDEN has, in lines, what the
// page must never hold.

import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import { accessible, browser, focused, has, open, schemes, shot } from './chromium.mjs';

const address = process.argv[2];
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** does has the test do something and returns what it says of it. */
async function does(name) {
  console.log(`do ${name}`);
  return JSON.parse((await lines.next()).value);
}

const text = (page, selector) => page.locator(selector).innerText();
const row = (page, words) => page.locator('#call-rows tr', { hasText: words }).first();

/** quiet waits until nothing is wrong. */
const quiet = (page) => page.locator('#all-well').waitFor({ state: 'visible' });

/** detail opens the explanation of the newest call with words, and returns terms and texts. */
async function detail(page, words) {
  await row(page, words).locator('button').click();
  await page.locator('#detail').waitFor({ state: 'visible' });
  return page.evaluate(() => Object.fromEntries([...document.querySelectorAll('#detail-words dt')].map((dt) => [dt.textContent, dt.nextElementSibling.textContent])));
}

const close = async (page) => {
  await page.keyboard.press('Escape');
  await page.locator('#detail').waitFor({ state: 'hidden' });
};

/** wider is what sticks out of the window, so that the whole page would have to be moved. */
const wider = (page) => page.evaluate(() => (document.documentElement.scrollWidth <= innerWidth ? [] : [document.documentElement.scrollWidth, innerWidth,
  ...[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => `${e.localName}#${e.id}.${e.className}`).slice(0, 10)]));

/** empty is the page before the first call. */
async function empty({ page }) {
  await has(page, '#state', /^ready$/);
  await quiet(page);
  assert.equal(await page.locator('#call-rows tr').count(), 0);
  await has(page, '#session-rows', 'No session yet.');
  await schemes(page, 'empty');
}

/** calls are seen as they come: one that is served, and the gateway's refusals in their own words. */
async function calls({ page }) {
  await does('call');
  await has(page, '#call-rows tr:first-child', 'GET /graph/v1.0/users → graph.microsoft.com');
  const cells = await page.locator('#call-rows tr:first-child td').allInnerTexts();
  assert.match(cells[0], /^\d\d:\d\d:\d\d\.\d{3}$/);
  assert.deepEqual([cells[1], cells[4], cells[5]], ['200', 'job', 'reverse']);
  assert.match(cells[3], /^graph\s+rule in line \d+$/);
  assert.match(cells[6], /^(cache|identity_provider)/);
  assert.match(cells[7], /^[\d.]+ (ms|s)$/);
  await has(page, '#hits', /Hit rate [\d.]+ %/);
  await page.waitForFunction(() => document.querySelector('#route-rows tr td:nth-of-type(4)').textContent === '1');
  for (const name of ['deny', 'stranger', 'nowhere']) {
    const { code, cause, remedy } = await does(name);
    await has(page, '#call-rows tr:first-child', code);
    await has(page, '#problems li', code);
    const said = await detail(page, code);
    assert.equal(said.Cause, cause, `${name}: the record and the page differ`);
    assert.equal(said['What to do'], remedy, `${name}: the record and the page differ`);
    await close(page);
  }
}

/** refusedByGraph is a 403 of Graph: the roles held, and the command that grants what is missing. */
async function refusedByGraph({ page, context }) {
  await does('forbidden');
  await has(page, '#call-rows tr:first-child', 'sendMail');
  const said = await detail(page, 'sendMail');
  assert.equal(await text(page, '#detail-title'), 'The upstream answered 403');
  assert.match(said.Cause, /holds the application permissions .*User\.Read\.All/);
  assert.match(said.Cause, /wants Mail\.Send/);
  assert.match(said['What to do'], /az ad app permission add --id \S+ --api \S+ --api-permissions \S+=Role/);
  assert.match(said['Decided by'], /^Route graph \(routes\.yaml line \d+\); the allow rule in line \d+ of routes\.yaml decided, by its pattern/);
  await schemes(page, 'detail');
  await shot(page, 'detail', {});
  await close(page);

  const missing = page.locator('#permission-rows tr', { hasText: 'Mail.Send' });
  await missing.filter({ hasText: 'missing' }).waitFor();
  await page.locator('#permission-rows tr', { hasText: /User\.Read\.All.*used by \d+ call/s }).waitFor();
  await page.locator('#permission-rows tr', { hasText: /Group\.Read\.All.*never used/s }).waitFor();
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const command = await missing.locator('code').first().innerText();
  await missing.locator('button').first().click();
  await has(page, '#permission-rows .copy', 'Copied');
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), command);
  assert.match(command, /^az ad app permission add --id \S+ --api \S+ --api-permissions \S+=Role$/);
}

/** clocks move: the countdown to expiry falls. */
async function clocks({ page }) {
  const left = async () => {
    const [, m, s] = /in (\d+) min(?: (\d+) s)?$/.exec(await text(page, '#token-rows tr:first-child td:nth-of-type(7)'));
    return m * 60 + Number(s ?? 0);
  };
  const before = await left();
  assert.ok(before > 50 * 60 && before <= 60 * 60, `${before} s to expiry`);
  const shown = await text(page, '#token-rows tr:first-child td:nth-of-type(7)');
  await page.waitForFunction((old) => document.querySelector('#token-rows tr:first-child td:nth-of-type(7)').textContent !== old, shown);
  assert.ok(await left() < before);
}

/** sql sees sessions open, end and fail. */
async function sql({ page }) {
  await does('login');
  await has(page, '#session-rows tr', 'open');
  await page.waitForFunction(() => document.querySelector('#door-rows tr td:nth-of-type(3)').textContent === '1');
  await does('logout');
  await has(page, '#session-rows tr', 'ended after');
  await does('bad login');
  await has(page, '#problems li', '1 login of late at SQL door orders-db ended in');
  await has(page, '#problems li', 'What to do: ');
  await page.waitForFunction(() => document.querySelector('#door-rows tr td:nth-of-type(5)').textContent === '1');
}

/** reload shows what is wrong in the file whole, and that it was mended. */
async function reload({ page }) {
  const { error } = await does('bad file');
  await page.waitForFunction((want) => document.querySelector('#reload-error').textContent === want, error);
  assert.match(error, /routes\.yaml:\d+:\d+: /);
  await has(page, '#problems li', 'The last reload failed; the table before it is still in force');
  await has(page, '#problems li', error.split('\n')[0]);
  await schemes(page, 'full');
  await page.evaluate(() => scrollTo(0, 0));
  for (const [colorScheme, width] of [['light', 1280], ['dark', 1280], ['light', 800], ['light', 360]]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 900 });
    assert.deepEqual(await wider(page), [], `wider than ${width}`);
    if (width === 360) await accessible(page, `${width} wide`);
    await shot(page, `page-${colorScheme}-${width}`);
  }
  await page.setViewportSize({ width: 1360, height: 900 });
  await does('good file');
  await page.locator('#reload-error-box').waitFor({ state: 'hidden' });
  await has(page, '#reload-state', 'The file was taken');
}

/** explain is used by keyboard alone, from the top of the page. */
async function explain({ page }) {
  await page.evaluate(() => document.querySelector('.skip').focus());
  const press = async (key) => page.keyboard.press(key);
  for (let i = 0; await focused(page) !== 'explain-method'; i++) {
    assert.ok(i < 200, 'Tab does not lead to the box');
    await press('Tab');
  }
  await press('Control+A');
  await page.keyboard.type('delete');
  await press('Tab');
  assert.equal(await focused(page), 'explain-url');
  await page.keyboard.type('https://graph.microsoft.com/v1.0/users/adele');
  await press('Tab');
  assert.equal(await focused(page), 'explain-caller');
  await page.keyboard.type('job');
  await press('Enter');
  await has(page, '#verdict', 'This call would be refused.');
  await has(page, '#verdict dd', 'rule_denied');
  await has(page, '#verdict dt', 'What to do');
  await press('Shift+Tab');
  await press('Shift+Tab');
  await press('Control+A');
  await page.keyboard.type('get');
  await press('Enter');
  await has(page, '#verdict', 'This call would be let through.');
  await accessible(page, 'explained');
}

/** filter finds calls by what they are. */
async function filter({ page }) {
  await page.keyboard.press('Escape');
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press('/');
  const all = await page.locator('#call-rows tr').count();
  for (const typed of ['code:rule_denied', 'status:4xx users/adele method:delete', 'caller:job code:rule']) {
    await page.locator('#filter').fill(typed);
    await has(page, '#news', `1 of ${all} calls shown`);
    assert.match(await text(page, '#call-rows tr:visible'), /403 rule_denied/);
  }
  await page.locator('#filter').fill('');
  await page.locator('#outcome').selectOption('2xx');
  await has(page, '#news', `1 of ${all} calls shown`);
  await page.locator('#outcome').selectOption('');
}

/** restart is survived, and said. */
async function restart({ page, trouble }) {
  assert.deepEqual(trouble, []);
  await does('stop');
  await has(page, '#lost', /The gateway does not answer; it did .* ago\. Trying again\./);
  await has(page, '#state', 'no answer');
  await has(page, '#gap', 'The list is not live');
  await schemes(page, 'no answer');
  await does('start');
  await page.locator('#lost').waitFor({ state: 'hidden' });
  await has(page, '#gap', 'The gateway was started again');
  await has(page, '#state', /^ready$/);
  await does('call');
  await has(page, '#call-rows tr:first-child', 'GET /graph/v1.0/users → graph.microsoft.com');
  await has(page, '#gap', 'The gateway was started again');
  // Chromium notes each answer that does not come; nothing else may be there.
  assert.deepEqual(trouble.filter((t) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/.test(t)), []);
}

/** clean looks for what must not be anywhere in the page or in an answer. */
async function clean({ page, answers }) {
  await page.reload();
  await has(page, '#call-rows tr', 'GET');
  const html = await page.content();
  const all = [html, ...answers].join('\n');
  assert.ok(answers.some((a) => a.includes('/api/permissions')) && answers.some((a) => a.includes('/api/tokens')) && all.length > 20000);
  for (const hidden of process.env.HIDDEN.split('\n').filter(Boolean)) {
    assert.equal(all.includes(hidden), false, 'what is to be hidden shows');
  }
  assert.doesNotMatch(all, /eyJ[\w-]{20}/, 'a token shows');
  assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]), [0, 0, '']);
}

try {
  const seen = await open(address);
  for (const step of [empty, calls, refusedByGraph, clocks, sql, reload, explain, filter, restart, clean]) {
    await step(seen).catch((e) => { throw new Error(`${step.name}: ${e.message}`, { cause: e }); });
    console.log(`# ${step.name}`);
  }
  await seen.close();
  const calm = await open(address, { reducedMotion: 'reduce', colorScheme: 'dark' });
  await has(calm.page, '#call-rows tr', 'GET');
  assert.equal(await calm.page.evaluate(() => document.getAnimations().length), 0);
  assert.equal(await calm.page.evaluate(() => getComputedStyle(document.documentElement).scrollBehavior), 'auto');
  assert.deepEqual(calm.trouble, []);
  console.log('ok');
} finally {
  await browser.close();
  process.stdin.destroy();
}
