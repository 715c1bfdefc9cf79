// Screenshots of every view: node shots.mjs URL FOLDER [view …]. For people who change how it looks.

import { chromium } from "playwright-core";

const [url, folder, ...wanted] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const sizes = { wide: { width: 1360, height: 900 }, phone: { width: 390, height: 844 } };
for (const [size, viewport] of Object.entries(sizes)) {
  for (const look of ["light", "dark"]) {
    const page = await browser.newPage({ viewport, colorScheme: look });
    page.on("console", (message) => { if (message.type() === "error") console.error(size, look, message.text()); });
    page.on("pageerror", (error) => console.error(size, look, error.stack));
    await page.goto(url);
    for (const view of ["fleet", "models", "decisions", "twin", "requests"]) {
      if (wanted.length && !wanted.includes(view)) continue;
      await page.goto(`${url.split("#")[0]}#${view}`);
      await page.waitForFunction(() => document.querySelector("#link").textContent === "live");
      if (view === "twin") { await page.click("#ask-load"); await page.waitForSelector("#what-if-table", { timeout: 60000 }); }
      if (view === "requests") { await page.click("#view tbody a"); await page.waitForSelector("svg .compute"); }
      if (view === "fleet") await page.click(".node");
      await page.waitForTimeout(1500);
      await page.screenshot({ path: `${folder}/${view}-${size}-${look}.png`, fullPage: size === "wide" });
    }
    await page.close();
  }
}
await browser.close();
