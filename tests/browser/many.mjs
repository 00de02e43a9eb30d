// 10,000 documents on a telephone: every one can be reached, searched and grouped, and a file can be compared.
// Usage: node many.mjs PAGE_URL OUT_DIR. Ends with exit code 0 only if everything went as it should.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { PATIENCE, PHONE, accessible, launch } from './kit.mjs';

const [url, outDir] = process.argv.slice(2);
const browser = await launch();

const SAME = { ja: '署名されるファイルです', en: 'this is the file that will be signed' };
const FILLED = { ja: 'すでに何か', en: 'something already stands' };

for (const [lang, locale] of [['ja', 'ja-JP'], ['en', 'en-GB']]) {
  const context = await browser.newContext({ ...PHONE, deviceScaleFactor: 2, isMobile: true, hasTouch: true, locale });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints = [];
  page.on('pageerror', (e) => complaints.push(String(e)));
  await page.goto(url);
  await page.locator('#rows-shown').waitFor();
  const rows = page.locator('ol.rows > li');
  // What a row says, whether the browser has painted it yet or not: rows outside the screen aren't.
  const says = (what) => rows.first().filter({ hasText: what }).waitFor({ state: 'attached' });
  const shown = () => page.locator('#rows-shown').innerText();
  const look = (name) => page.screenshot({ path: join(outDir, `many-${lang}-${name}.png`) });

  assert.match(await page.locator('h1').innerText(), /10[,,]?000/, 'how many');
  assert.equal(await rows.count(), 100, 'a hundred rows stand there');
  await look('1-top');
  await page.locator('ol.rows').scrollIntoViewIfNeeded();
  await page.locator('#rows-after').click();
  assert.match(await shown(), /101.*200|10,?000.*101.*200/, 'the next hundred');
  await says(/^\s*101\b/);
  await look('2-later');

  // The last row can be reached by its name, and its whole value is there.
  await page.locator('#find').fill('9999.pdf');
  assert.equal(await rows.count(), 1);
  await says(/9999\.pdf/);
  await rows.first().locator('summary').click();
  assert.match(await rows.first().locator('code').textContent(), /^([0-9a-f]{4} ){15}[0-9a-f]{4}$/);
  await page.locator('#find').fill('no such name');
  assert.equal(await rows.count(), 0);
  await page.locator('#find').fill('');
  assert.equal(await rows.count(), 100);

  // The one that is unlike the others stands out, and leads to its row.
  const odd = page.locator('dl.facts button.link').first();
  assert.match(await odd.innerText(), /覚書/);
  await odd.click();
  assert.equal(await rows.count(), 1);
  await says(/覚書/);
  await look('3-odd');

  // A file of the reader's.
  await page.locator('#own-file > summary').click();
  const pdf = (gap) => ({ name: '契約書.pdf', mimeType: 'application/pdf', buffer: Buffer.from(`%PDF-before${gap}after%%EOF`) });
  await page.locator('#compare').setInputFiles([pdf('<000000>'), pdf('<00ff00>')]);
  const said = page.locator('#compared > *');
  await said.nth(1).waitFor();
  assert.match(await said.nth(0).innerText(), new RegExp(SAME[lang]));
  assert.match(await said.nth(1).innerText(), new RegExp(FILLED[lang]));
  await page.locator('#own-file').scrollIntoViewIfNeeded();
  await look('4-file');

  // Nothing wider than the telephone, and the way to say yes is there.
  assert.ok(await page.locator('#approve').isVisible());
  await accessible(page, lang);
  assert.deepEqual(complaints, []);
  await context.close();
}
await browser.close();
