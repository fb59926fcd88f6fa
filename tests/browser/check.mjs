// Opens the status page in a real browser: light, dark and at a telephone's
// width. Says what is wrong on standard output, one fault a line, and saves a
// screenshot of each look.
//
// Usage: node check.mjs CHROMIUM URL FOLDER
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [executablePath, url, folder] = process.argv.slice(2);
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const home = new URL(url);
const faults = [];

// With a new, empty profile.
const browser = await chromium.launch({
  executablePath,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});

/** Opens `path` in a window of its own and hands it to `look`. */
async function open(name, path, options, look) {
  const fault = (text) => faults.push(`${name} ${path}: ${text}`);
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) fault(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => fault(`script: ${error.message}`));
  page.on("request", (request) => {
    // One document and nothing else, from here and nowhere else.
    const resource = request.resourceType();
    if (new URL(request.url()).origin !== home.origin || resource !== "document")
      fault(`asks for ${resource} ${request.url()}`);
  });
  const answer = await page.goto(new URL(path, home).href);
  if (answer.status() !== 200) fault(`answers ${answer.status()}`);
  await look(page, fault);
  await context.close();
}

const looks = {
  light: { colorScheme: "light", viewport: { width: 1280, height: 900 } },
  dark: { colorScheme: "dark", viewport: { width: 1280, height: 900 } },
  telephone: { colorScheme: "light", viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
  "telephone-dark": { colorScheme: "dark", viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
  tablet: { colorScheme: "light", viewport: { width: 840, height: 1000 } },
  laptop: { colorScheme: "light", viewport: { width: 1160, height: 800 } },
  narrow: { colorScheme: "light", viewport: { width: 320, height: 640 } },
};
const grounds = new Set();
for (const [name, options] of Object.entries(looks)) {
  for (const [kind, path] of [["all", "./"], ["some", "./?q=redis&state=attention"], ["none", "./?q=nothing-has-this"]]) {
    await open(name, path, options, async (page, fault) => {
      await page.screenshot({ path: join(folder, `${name}-${kind}.png`), fullPage: true });
      if (kind === "all") grounds.add(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
      const [inner, outer] = await page.evaluate(() => {
        const { scrollWidth, clientWidth } = document.documentElement;
        return [scrollWidth, clientWidth];
      });
      if (inner > outer) fault(`is ${inner} px wide in a window of ${outer}`);
      await page.evaluate(axe);
      const found = await page.evaluate(() => globalThis.axe.run());
      if (found.passes.length < 20) fault(`axe found only ${found.passes.length} rules to check`);
      for (const violation of found.violations)
        for (const node of violation.nodes)
          fault(`${violation.id}: ${violation.help}: ${node.html.slice(0, 200)}`);
    });
  }
}
if (grounds.size !== 2) faults.push(`light and dark have the grounds ${[...grounds]}`);

// The form and the links do everything; no script is needed.
await open("without scripts", "./", { javaScriptEnabled: false }, async (page, fault) => {
  const rows = page.locator("tbody");
  const all = await rows.count();
  const expect = async (what, query, count) => {
    const here = new URL(page.url());
    if (here.pathname !== home.pathname) fault(`${what} leads to ${here.pathname}`);
    if (here.search !== query) fault(`${what} leads to ${here.search}, not ${query}`);
    const shown = await rows.count();
    if (!count(shown)) fault(`${what} shows ${shown} of ${all}`);
  };
  const verdict = await page.locator("h1").textContent();
  await page.getByRole("navigation", { name: "Tasks by state" }).getByRole("link", { name: /^need attention/ }).click();
  await expect("the link", "?state=attention", (shown) => shown > 0 && shown < all);
  await page.getByRole("searchbox").fill(" ReDiS ");
  await page.getByRole("button", { name: "Filter" }).click();
  await expect("the form", "?q=+ReDiS+&state=attention", (shown) => shown > 0 && shown < all);
  for (const name of await page.locator("tbody th").allTextContents())
    if (!/redis/i.test(name)) fault(`the filter shows ${name}`);
  if ((await page.getByRole("searchbox").inputValue()) !== "ReDiS") fault("the form forgets the text");
  if ((await page.locator("h1").textContent()) !== verdict) fault("the verdict changes with the filter");
  await page.getByRole("searchbox").fill("<no such & thing>");
  await page.keyboard.press("Enter");
  await page.getByText(/^No tasks of \d+ match\./).waitFor();
  await page.getByRole("link", { name: "Show all" }).click();
  await expect("Show all", "", (shown) => shown === all);
  for (const name of ["Metrics", "Configuration", "JSON", "Readiness"]) {
    const link = page.getByRole("link", { name, exact: true });
    const answer = await page.request.get(new URL(await link.getAttribute("href"), page.url()).href);
    if (answer.status() !== 200) fault(`${name} answers ${answer.status()}`);
  }
});

await browser.close();
for (const fault of faults) console.log(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
