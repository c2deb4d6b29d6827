// Looks at the live page in Chromium, as an operator would. Operands: what to
// look at, and the address of the admin port.

import assert from 'node:assert/strict';
import { accessible, browser, focused, has, open as openAt, schemes, shot } from './chromium.mjs';

const [what, address] = process.argv.slice(2);
const open = (options) => openAt(address, options);

/** troubled looks at a gateway in which nearly everything goes wrong. */
async function troubled() {
  for (const colorScheme of ['light', 'dark']) {
    const { page, trouble, close } = await open({ colorScheme, reducedMotion: 'reduce' });
    await has(page, '#call-rows tr', 'rule_denied');
    await has(page, '#problems li', 'The last reload failed');
    await has(page, '#reload-error', 'unknown key');
    await has(page, '#problems li', 'AADSTS7000222');
    await has(page, '#credential-rows tr', 'not ready');
    await has(page, '#token-rows tr', 'in ');
    await has(page, '#session-rows tr', 'open');
    await has(page, '#permission-rows tr:first-child', 'Mail.Send');
    await has(page, '#permission-rows tr:first-child code', 'az ad app permission add --id 0000 --api 1111 --api-permissions 2222=Role');
    await has(page, '#permission-rows tr', 'perhaps never used');
    await has(page, '#route-rows tr', 'mounted at /graph');
    await has(page, '#problems li', '1 call of late on route graph ended in 403 rule_denied');
    await accessible(page, colorScheme);
    await shot(page, `troubled-${colorScheme}`);
    await page.locator('#call-rows tr', { hasText: 'rule_denied' }).locator('button').click();
    await has(page, '#detail-words dd', 'no allow rule');
    await has(page, '#detail-words dd', 'line 9');
    await accessible(page, `${colorScheme}, a call`);
    await shot(page, `call-${colorScheme}`, {});
    await page.keyboard.press('Escape');
    await page.locator('#detail').waitFor({ state: 'hidden' });
    assert.deepEqual(trouble, []);
    await close();
  }
}

/** keyboard uses the page without a mouse. */
async function keyboard() {
  const { page, trouble, close } = await open();
  await has(page, '#call-rows tr', 'rule_denied');
  await page.keyboard.press('Tab');
  assert.equal(await focused(page), 'skip');
  await page.keyboard.press('Enter');
  assert.equal(await focused(page), 'main');
  await page.keyboard.press('/');
  assert.equal(await focused(page), 'filter');
  await page.keyboard.type('code:rule_denied');
  await has(page, '#news', '1 of 3 calls shown');
  assert.equal(await page.locator('#call-rows tr:visible').count(), 1);
  await page.locator('#filter').fill('');
  await page.locator('#call-rows button').first().focus();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await page.locator('#detail').waitFor({ state: 'visible' });
  await page.keyboard.press('Escape');
  await page.locator('#detail').waitFor({ state: 'hidden' });
  assert.equal(await focused(page), 'row-button');
  await page.locator('#explain-url').fill('https://graph.microsoft.com/v1.0/me');
  await page.keyboard.press('Enter');
  await has(page, '#verdict', 'This call would be refused.');
  await has(page, '#verdict dd', 'routes.yaml:9');
  await has(page, '#verdict dd', 'routes.yaml:12: the last allow rule of route graph');
  assert.equal(await page.locator('#verdict pre').innerText(), '- {methods: [GET], paths: ["/v1.0/users/**"]}');
  const lists = page.locator('#verdict ol');
  assert.deepEqual(await lists.nth(0).locator('li').allInnerTexts(), ['orders (routes.yaml:3): its host differs: api.contoso.com', 'web (routes.yaml:6): does not admit caller reports-job', 'and 7 more routes']);
  assert.deepEqual(await lists.nth(1).locator('li').allInnerTexts(), ['graph-all (routes.yaml:20): graph comes first']);
  await schemes(page, 'explained');
  await order(page);
  assert.deepEqual(trouble, []);
  await close();
}

/** order goes through the page by Tab: in the order of what is read, each stop in sight and marked. */
async function order(page) {
  await page.evaluate(() => { globalThis.stops = []; document.querySelector('.skip').focus(); });
  for (let i = 0; i < 300; i++) {
    if (i > 0) await page.keyboard.press('Tab');
    const stop = await page.evaluate(() => {
      const at = document.activeElement;
      if (at === document.body || globalThis.stops.includes(at)) return { over: true };
      const before = globalThis.stops.at(-1);
      globalThis.stops.push(at);
      const style = getComputedStyle(at);
      return {
        name: at.id || at.textContent.trim().slice(0, 40) || at.className,
        follows: !before || Boolean(before.compareDocumentPosition(at) & Node.DOCUMENT_POSITION_FOLLOWING),
        marked: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
      };
    });
    if (stop.over) break;
    assert.deepEqual(stop, { name: stop.name, follows: true, marked: true });
    await page.waitForFunction(() => { // the page moves there smoothly
      const box = document.activeElement.getBoundingClientRect();
      return box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    });
  }
  const ids = await page.evaluate(() => globalThis.stops.map((at) => at.id).filter(Boolean));
  assert.deepEqual(ids.filter((id) => id !== 'reload-error-box'), ['filter', 'outcome', 'pause', 'explain-method', 'explain-url', 'explain-caller']);
}

/** crowd is a page of a busy gateway: it holds so much and no more, however long it is open. */
async function crowd() {
  const { context, page, trouble, close } = await open();
  const rows = async (of) => page.locator(`${of} tr`).count();
  await page.waitForFunction(() => document.querySelectorAll('#call-rows tr').length === 500);
  assert.equal(await rows('#token-rows'), 200);
  await has(page, '#token-more', '4800 more tokens held');
  await has(page, '#token-rows tr:first-child', 'tenant-700.example'); // the one in trouble
  const session = await context.newCDPSession(page);
  const emit = async (round) => {
    const sent = await fetch(`${address}/fake/emit?times=1000`, { method: 'POST', body: JSON.stringify({ path: `/round-${round}` }) });
    assert.equal(sent.status, 200);
    await page.waitForFunction((path) => [...document.querySelectorAll('#call-rows tr')].filter((row) => row.textContent.includes(path)).length === 500, `/round-${round}`);
    await session.send('HeapProfiler.collectGarbage');
    return session.send('Memory.getDOMCounters');
  };
  const first = await emit(1);
  let last;
  for (const round of [2, 3, 4, 5]) last = await emit(round);
  assert.equal(await rows('#call-rows'), 500);
  assert.ok(last.nodes < first.nodes * 1.2 && last.jsEventListeners < first.jsEventListeners * 1.2, `nodes and listeners grew from ${JSON.stringify(first)} to ${JSON.stringify(last)}`);
  await page.locator('#filter').fill('round-1');
  await has(page, '#news', '0 of 500 calls shown');
  assert.deepEqual(trouble, []);
  await close();
}

/** live sees calls as they come, holds them while paused, and never as markup. */
async function live() {
  const { page, trouble, close } = await open();
  const emit = async (call) => fetch(`${address}/fake/emit`, { method: 'POST', body: JSON.stringify(call) });
  await has(page, '#call-rows tr', 'rule_denied');
  await emit({ path: '/v1.0/<img src=x onerror=alert(1)>', status: 200 });
  await has(page, '#call-rows tr:first-child', '<img src=x onerror=alert(1)>');
  assert.equal(await page.locator('#call-rows img').count(), 0);
  await page.locator('#pause').click();
  await emit({ path: '/while-paused', status: 503 });
  await has(page, '#pause', '1 waiting');
  assert.equal(await page.locator('#call-rows tr', { hasText: '/while-paused' }).count(), 0);
  await page.locator('#pause').click();
  await has(page, '#call-rows tr:first-child', '/while-paused');
  assert.deepEqual(trouble, []);
  await close();
}

/** key is asked for, refused, taken, and not kept beyond the tab. */
async function key() {
  const { page, trouble, close } = await open();
  await page.locator('#login').waitFor({ state: 'visible' });
  assert.equal(await focused(page), 'login-key');
  assert.equal(await page.locator('#window').isVisible(), false);
  await accessible(page, 'the key');
  await page.keyboard.type('a-wrong-key');
  await page.keyboard.press('Enter');
  await has(page, '#login-why', 'the admin key is wrong');
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await page.locator('#login-key').fill(process.env.ADMIN_KEY);
  await page.keyboard.press('Enter');
  await has(page, '#call-rows tr', 'rule_denied');
  assert.equal(await page.locator('#login').isVisible(), false);
  assert.deepEqual(await page.evaluate(() => [localStorage.length, document.cookie, location.search]), [0, '', '']);
  assert.deepEqual(trouble.filter((text) => !text.includes('401')), []); // Chromium notes each answer of 401
  await close();
}

try {
  await { troubled, keyboard, live, key, crowd }[what]();
  console.log(`ok ${what}`);
} finally {
  await browser.close();
}
