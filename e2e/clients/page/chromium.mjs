// What tests of the live page share: Chromium, what it complains of, and
// axe-core. BROWSER is the browser's path; SHOTS, when set, a folder for pictures.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
export const patience = 20000; // ms, for what should be there in a moment

export const browser = await chromium.launch({ executablePath: process.env.BROWSER, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });

/**
 * open opens the page at address. trouble gathers what the console complains
 * of, what breaks the page's policy, and what is asked of other hosts; answers
 * the text of every answer that ends.
 */
export async function open(address, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, locale: 'en-GB', ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  const trouble = [];
  const answers = [];
  await page.exposeFunction('reportViolation', (what) => trouble.push(`against the policy: ${what}`));
  await page.addInitScript(() => addEventListener('securitypolicyviolation', (e) => globalThis.reportViolation(`${e.violatedDirective} ${e.blockedURI}`)));
  page.on('console', (m) => { if (['error', 'warning'].includes(m.type())) trouble.push(m.text()); });
  page.on('pageerror', (e) => trouble.push(String(e)));
  page.on('request', (r) => { if (new URL(r.url()).origin !== address) trouble.push(`asked another host: ${r.url()}`); });
  page.on('websocket', (w) => trouble.push(`opened a socket: ${w.url()}`));
  page.on('requestfinished', async (r) => {
    const answer = await r.response().catch(() => null);
    answers.push(`${r.url()}\n${await answer?.text().catch(() => '') ?? ''}`);
  });
  await page.goto(address);
  return { context, page, trouble, answers, close: () => context.close() };
}

/** accessible asks axe-core whether everybody can use what is shown. */
export async function accessible(page, where) {
  await page.evaluate(axe); // past the page's policy, which would refuse it as a script
  const found = await page.evaluate((tags) => globalThis.axe.run(document, { runOnly: tags }), rules);
  assert.deepEqual(found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target} ${n.failureSummary}`).join(' | ')}`), [], where);
  assert.ok(found.passes.length > 10, `${where}: axe looked at ${found.passes.length} rules`);
}

/** schemes runs check in the light and in the dark. */
export async function schemes(page, where) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await accessible(page, `${where}, ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: 'light' });
}

export async function shot(page, name, options = { fullPage: true }) {
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${name}.png`, ...options });
}

/** has waits until the page shows text in selector. */
export const has = (page, selector, text) => page.locator(selector, { hasText: text }).first().waitFor();

export const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.className);
