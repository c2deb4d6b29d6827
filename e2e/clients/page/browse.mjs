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
  await { troubled, keyboard, live, key }[what]();
  console.log(`ok ${what}`);
} finally {
  await browser.close();
}
