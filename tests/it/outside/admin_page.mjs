// Walks through the admin page in Chromium and prints what there was as one JSON object.
//
//     admin_page.mjs PACKAGES PROFILE ADMIN REQUEST-ID

import { createRequire } from "node:module";

const [packages, profile, admin, id] = process.argv.slice(2);
const { chromium } = createRequire(`${packages}/`)("playwright-core");
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const browser = await chromium.launchPersistentContext(profile, { executablePath: "/usr/bin/chromium", headless: true, args });
const base = `http://${admin}`;
const paths = ["/", "/routes", "/pools", "/certs", "/why", `/why?id=${id}`];
const seen = { complaints: [], requests: [], pages: [], bytes: 0 };

async function walk(name, javaScriptEnabled) {
  const context = await browser.browser().newContext({ javaScriptEnabled });
  const page = await context.newPage();
  page.on("console", (message) => seen.complaints.push(`${name}: ${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => seen.complaints.push(`${name}: ${error.message}`));
  page.on("request", (request) => seen.requests.push(request.url().replace(base, "")));
  page.on("requestfailed", (request) => {
    // What the page before still wanted when the next one was opened.
    const why = request.failure()?.errorText;
    if (why !== "net::ERR_ABORTED") seen.complaints.push(`${name}: ${request.url()} failed: ${why}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400) seen.complaints.push(`${name}: ${response.url()} ${response.status()}`);
  });
  for (const [width, height] of [[1280, 900], [390, 844]]) {
    await page.setViewportSize({ width, height });
    for (const path of paths) {
      await page.goto(base + path);
      const room = await page.locator("html").evaluate((html) => [html.scrollWidth, html.clientWidth]);
      seen.pages.push({ name, width, path, title: await page.title(), room });
    }
    await page.goto(`${base}/routes`);
    await page.fill("input[name=url]", "api.example.com/orders/7");
    await page.fill("input[name=client]", "203.0.113.7");
    await page.click("button");
    seen[`explained ${name}`] = await page.innerText("[role=status]");
    await page.goto(`${base}/`);
    await page.click("main table a");
    seen[`clicked ${name}`] = await page.innerText("main");
  }
  return { context, page };
}

const plain = await walk("without", false);
await plain.context.close();
const { context, page } = await walk("with", true);
await page.goto(`${base}/why`);
seen.hostile = await page.innerText("main");
seen.dark = {};
for (const colorScheme of ["light", "dark"]) {
  await page.emulateMedia({ colorScheme });
  seen.dark[colorScheme] = await page.locator("body").evaluate((body) => getComputedStyle(body).backgroundColor);
}
// The page fetches itself again: what its main part says comes anew.
await page.goto(`${base}/`);
await page.locator("main").evaluate((main) => main.append("not from the server"));
seen.refreshed = await page
  .waitForFunction(() => !document.querySelector("main").textContent.includes("not from the server"), null, { timeout: 15000 })
  .then(() => true, () => false);
for (const part of ["/", "/yumen.css", "/yumen.js", "/yumen.svg"]) {
  const answer = await context.request.get(base + part, { headers: { accept: "text/html" } });
  seen.bytes += (await answer.body()).length;
}
await context.close();
await browser.close();
console.log(JSON.stringify(seen));
