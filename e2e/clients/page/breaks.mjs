// Looks at the live pages of gateways in which something is broken, as an
// operator would: opens the call that failed, or what stands elsewhere, and
// reads. The plan comes on standard input. BROWSER is the browser's path.

import assert from 'node:assert/strict';
import { text } from 'node:stream/consumers';
import { chromium } from 'playwright-core';

const sites = JSON.parse(await text(process.stdin));
const browser = await chromium.launch({ executablePath: process.env.BROWSER, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
const one = (s) => s.split(/\s+/).filter(Boolean).join(' ');
const missing = [];

/** says waits until what stands at where has all words. */
async function says(page, look) {
  for (const word of look.Words.map(one)) {
    try {
      await page.waitForFunction(([where, w]) => [...document.querySelectorAll(where)].some((e) => e.innerText.split(/\s+/).join(' ').includes(w)), [look.Where, word], { timeout: 10000 });
    } catch {
      missing.push(`${look.Row}: the page does not say at ${look.Where}: ${word}\n${one(await page.locator(look.Where).first().innerText()).slice(0, 2000)}`);
    }
  }
}

for (const site of sites) {
  const page = await browser.newPage({ viewport: { width: 1360, height: 900 } });
  const trouble = [];
  page.on('console', (m) => { if (['error', 'warning'].includes(m.type())) trouble.push(m.text()); });
  page.on('pageerror', (e) => trouble.push(String(e)));
  await page.goto(site.Address);
  for (const look of site.Looks ?? []) {
    if (!look.Filter) {
      await says(page, look);
      continue;
    }
    await page.locator('#filter').fill(look.Filter);
    await page.locator('#call-rows tr:visible button').first().click();
    await says(page, look);
    await page.keyboard.press('Escape');
    await page.locator('#detail').waitFor({ state: 'hidden' });
  }
  missing.push(...trouble.map((t) => `${site.Address}: the console says ${t}`));
  await page.close();
}
await browser.close();
assert.deepEqual(missing, []);
console.log('ok breaks');
