// Opens the built site's pages in headless Chromium and reports what it finds as JSON on standard output.
// node site_pages.mjs NODE_MODULES CHROMIUM BASE_URL PAGE...
import { createRequire } from "node:module";
import path from "node:path";

const [modules, chromium, base, ...pages] = process.argv.slice(2);
const require = createRequire(path.join(modules, "x.js"));
const axe = require.resolve("axe-core");
const origin = new URL(base).origin;

const browser = await require("playwright-core").chromium.launch({
  executablePath: chromium,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});

async function open(page, url, report) {
  page.setDefaultTimeout(120000);
  page.on("request", (request) => {
    if (!request.url().startsWith(origin) && !/^(data|blob):/.test(request.url())) report.outside.push(request.url());
  });
  page.on("response", (response) => {
    if (response.status() >= 400) report.errors.push(`${response.status()} ${response.url()}`);
  });
  page.on("console", (message) => { if (message.type() === "error") report.errors.push(message.text()); });
  page.on("pageerror", (error) => report.errors.push(String(error)));
  await page.goto(url, { waitUntil: "load" });
  await page.evaluate(() => window.MathJax?.startup?.promise);
}

// What a script finds: mathematics that did not become glyphs or begins left of the window, and elements that reach beyond the window's edge.
const mathematics = () => ({
  written: document.querySelectorAll(".math").length,
  rendered: document.querySelectorAll("mjx-container").length,
  wrong: [...document.querySelectorAll("mjx-merror")].map((e) => e.textContent),
  outOfReach: [...document.querySelectorAll('mjx-container[display="true"]')]
    .filter((e) => e.getBoundingClientRect().left < -1).map((e) => e.parentElement.textContent.slice(0, 80)),
});
const tooWide = () => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const scrolls = (e) => e && (/(auto|scroll|hidden)/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  return [...document.querySelectorAll("main *")]
    .filter((e) => e.getBoundingClientRect().right > width + 1 && !scrolls(e.parentElement))
    .map((e) => `${e.tagName}.${e.className}`.slice(0, 80)).slice(0, 3).concat(`scroll width ${document.documentElement.scrollWidth}`);
};
const brokenImages = () => [...document.images].filter((i) => i.complete && !i.naturalWidth).map((i) => i.src);

// In the dark theme only the colours differ: contrast is all that is checked a second time.
async function accessibility(page, scheme) {
  await page.addScriptTag({ path: axe });
  const rules = scheme === "dark" ? { runOnly: ["color-contrast"] } : {};
  const { violations } = await page.evaluate((o) => window.axe.run(document, o), { resultTypes: ["violations"], ...rules });
  return violations.map((v) => ({ id: v.id, help: v.help, where: v.nodes.slice(0, 3).map((n) => n.target.join(" ")) }));
}

const result = { pages: {} };
for (const name of pages) {
  const report = { outside: [], errors: [] };
  for (const scheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: scheme });
    const page = await context.newPage();
    await open(page, `${base}/${name}`, report);
    report[scheme] = { theme: await page.getAttribute("html", "data-theme"), axe: await accessibility(page, scheme) };
    if (scheme === "light") {
      report.mathematics = await page.evaluate(mathematics);
      report.brokenImages = await page.evaluate(brokenImages);
      const folded = page.locator("details.hide, .toggle-hidden");
      report.folded = await folded.count();
      if (report.folded) {
        await page.locator("details.hide > summary, button.toggle-button").first().click();
        report.unfolded = report.folded - (await page.locator("details.hide:not([open]), .toggle-hidden").count());
      }
    }
    await context.close();
  }
  const context = await browser.newContext({ viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true });
  const page = await context.newPage();
  await open(page, `${base}/${name}`, report);
  report.onPhone = await page.evaluate(mathematics);
  report.tooWide = await page.evaluate(tooWide);
  await context.close();
  result.pages[name] = report;
}

// The theme's switch, and the search, on the first page.
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
const page = await context.newPage();
const report = { outside: [], errors: [] };
await open(page, `${base}/${pages[0]}`, report);
result.themes = [await page.getAttribute("html", "data-theme")];
for (let i = 0; i < 3; i++) {
  await page.locator("button.theme-switch-button:visible").first().click();
  result.themes.push(await page.getAttribute("html", "data-theme"));
}
await page.goto(`${base}/search.html?q=discriminator`, { waitUntil: "load" });
// Results are listed one by one, which takes longer the more there are.
const finished = () => /found|did not match/.test(document.querySelector("#search-results .search-summary")?.textContent);
await page.waitForFunction(finished, null, { timeout: 30000 }).catch(() => {});
result.found = await page.locator("#search-results ul.search li a").evaluateAll((links) => links.map((a) => a.href));
result.searchErrors = [...report.errors, ...report.outside];
await browser.close();
console.log(JSON.stringify(result));
