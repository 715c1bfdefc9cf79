// The dashboard in a real browser, before a real orchestrator with a worker in each of five processes.
//
// Needs a built binary (SPLITPLACE_BIN, else target/debug/splitplace) and Chromium (CHROMIUM, else
// /usr/bin/chromium). SHOTS=FOLDER keeps screenshots.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { compared, fake, synthetic } from "./synthetic.mjs";

const root = new URL("../..", import.meta.url).pathname;
const binary = process.env.SPLITPLACE_BIN ?? `${root}target/debug/splitplace`;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PATIENCE = 60_000;
const WIDE = { width: 1360, height: 900 };
const PHONE = { width: 390, height: 844 };

let fleet;
let load;
let where;
let browser;

/** The first line on a process's standard output, as JSON. */
function firstLine(child) {
  return new Promise((done, failed) => {
    let text = "";
    child.stdout.on("data", (data) => {
      text += data;
      if (text.includes("\n")) done(JSON.parse(text.split("\n")[0]));
    });
    child.on("exit", (code) => failed(new Error(`it ended with ${code} before it said anything`)));
  });
}

const ended = (child) => new Promise((done) => (child.exitCode !== null || child.signalCode ? done() : child.once("exit", done)));

before(async () => {
  // A machine that is busy with other tests must not make workers fall silent; a broken stream is seen anyway.
  fleet = spawn(binary, ["--log", "warn", "up", "--fleet", "demo", "--processes", "--free-ports", "--seed", "7", "--json", "--set", "workers.silence-ms=10000"], { stdio: ["ignore", "pipe", "inherit"] });
  where = await firstLine(fleet);
  load = spawn(binary, ["load", "fashion-mnist", "--server", where.grpc, "--rate", "20", "--sla", "40@0.5,200@0.5", "--duration", "1h"], { stdio: "ignore" });
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
}, { timeout: 180_000 });

after(async () => {
  await browser?.close();
  for (const child of [load, fleet]) {
    child?.kill("SIGTERM");
    if (child) await ended(child);
  }
}, { timeout: 60_000 });

/** A page that fails the test when it says an error or breaks its own security policy. */
async function open(look = "light", viewport = WIDE, url = where.dashboard, prepare = async () => {}) {
  const context = await browser.newContext({ viewport, colorScheme: look });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.wrong = [];
  page.on("console", (message) => { if (message.type() === "error") page.wrong.push(message.text()); });
  page.on("pageerror", (error) => page.wrong.push(error.stack));
  page.on("request", (request) => { if (new URL(request.url()).host !== where.http) page.wrong.push(`asked elsewhere: ${request.url()}`); });
  await prepare(page);
  await page.goto(url);
  await page.waitForFunction(() => document.querySelector("#link").textContent === "live");
  return page;
}

async function close(page) {
  assert.deepEqual(page.wrong, []);
  await page.context().close();
}

async function accessible(page, what) {
  // Injected as a test would by hand: the page's own policy allows no such script, evaluate does.
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }));
  const told = found.violations.map((one) => `${what}: ${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join(" | ")}`);
  assert.deepEqual(told, []);
}

const shot = (page, name) => (process.env.SHOTS ? page.screenshot({ path: `${process.env.SHOTS}/${name}.png` }) : null);
const goto = (page, view) => page.evaluate((view) => { location.hash = view; }, view);

test("the page opens and live data arrives", { timeout: 120_000 }, async () => {
  const page = await open();
  assert.equal(await page.locator(".node").count(), 5);
  assert.ok(!(await page.evaluate(() => location.hash)).includes("token"), "the token stays in the address");
  await page.waitForFunction(() => /[1-9].* requests a second/.test(document.querySelector("#verdict-why").textContent));
  await page.waitForFunction(() => document.querySelectorAll(".edge.busy").length > 2);
  await goto(page, "models");
  await page.waitForFunction(() => /\d %/.test(document.querySelector(".figure dd").textContent));
  await page.waitForSelector(".uplot canvas");
  await page.waitForSelector("svg rect.compute");
  await goto(page, "decisions");
  await page.waitForSelector("#view table tbody tr .chip");
  await page.locator("#view table tbody a").first().click();
  await page.waitForSelector("svg rect.transfer");
  assert.match(await page.evaluate(() => location.hash), /^#requests\/\d+$/);
  await close(page);
});

test("what-if answers with a table from the twin, by keyboard", { timeout: 180_000 }, async () => {
  const page = await open();
  await goto(page, "twin");
  await page.locator("#ask-load").focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector("#what-if-table");
  const text = await page.locator("#what-if-table").innerText();
  assert.match(text, /fashion-mnist/);
  assert.match(text, /as it is/);
  await goto(page, "twin/server");
  await page.waitForFunction(() => document.querySelector("#view").innerText.includes("If server were gone"));
  await page.waitForSelector("#what-if-table");
  await page.waitForFunction(() => document.querySelector("#view").innerText.includes("what would move"));
  await close(page);
});

test("the twin's error is drawn over time, and told", { timeout: 120_000 }, async () => {
  const { structure, history, pulse } = synthetic(4, 40);
  const twin = compared("model-1", [0, 0.5, -0.25]);
  const page = await open("light", WIDE, `${where.dashboard.split("#")[0]}#twin`, (page) => page.addInitScript(fake, { structure, history, pulses: [{ ...pulse(30), twin }] }));
  await page.waitForFunction(() => /−25/.test(document.querySelector('section[aria-label="Prediction beside observation"] table:not(.u-legend) tbody')?.innerText));
  assert.match(await page.locator("#view h3", { hasText: "Error of the mean" }).innerText(), /model-1/);
  // Both ends of the error are on the canvas: it has ink above the line of no error and below it.
  await page.waitForSelector("#errors canvas");
  const ink = await page.evaluate(() => {
    const canvas = document.querySelector("#errors canvas");
    const accent = document.createElement("canvas").getContext("2d");
    accent.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
    accent.fillRect(0, 0, 1, 1);
    const wanted = accent.getImageData(0, 0, 1, 1).data;
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    const rows = [];
    for (let y = 0; y < height; y += 1) for (let x = 0; x < width; x += 1) {
      const at = 4 * (y * width + x);
      if (data[at + 3] === 255 && [0, 1, 2].every((part) => Math.abs(data[at + part] - wanted[part]) < 8)) { rows.push(y / height); break; }
    }
    return [Math.min(...rows), Math.max(...rows)];
  });
  assert.ok(ink[0] < 0.25 && ink[1] > 0.5, `the error's line goes from ${ink[0]} to ${ink[1]} of the plot's height`);
  await close(page);
});

test("nothing can be done without a token, and everything is asked first", { timeout: 120_000 }, async () => {
  const page = await open("light", WIDE, where.dashboard.split("#")[0]);
  const refused = await page.evaluate(async () => {
    const answer = await fetch("/dashboard/act", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ act: "drain", node: "attic" }) });
    return answer.status;
  });
  assert.equal(refused, 401);
  page.wrong = page.wrong.filter((line) => !line.includes("401"));
  await page.locator('.node[data-node="door"]').click();
  await page.getByRole("button", { name: "Drain", exact: true }).click();
  await page.waitForSelector("dialog[open]");
  await page.fill("#token", where.dashboard.split("token=")[1]);
  await page.locator("#ask-yes").click();
  await page.waitForFunction(() => document.querySelector("#ask-title").textContent === "Drain door?" && document.querySelector("dialog").open);
  await page.locator("#ask-yes").click();
  await page.waitForSelector('.node.draining[data-node="door"]');
  // Its fragments move; what it holds of the plan in force is nothing.
  await page.waitForFunction(() => document.querySelectorAll('.node[data-node="door"] path').length === 0);
  await page.getByRole("button", { name: "Count on it again" }).click();
  await page.locator("#ask-yes").click();
  await page.waitForSelector('.node.alive[data-node="door"]');
  await close(page);
});

test("models are pinned, unloaded and loaded, each after a question", { timeout: 180_000 }, async () => {
  const page = await open();
  await goto(page, "models");
  const asked = async (button, title) => {
    await page.getByRole("button", button).first().click();
    await page.waitForFunction((title) => document.querySelector("dialog").open && document.querySelector("#ask-title").textContent === title, title);
  };
  await page.waitForSelector("#view table:not(.u-legend) tbody tr");
  // A question can be refused, and then nothing happens.
  await asked({ name: "Unload", exact: true }, "Unload fashion-mnist?");
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => !document.querySelector("dialog").open);
  const pin = page.locator('button[aria-label^="Pin fashion-mnist to"]').first();
  const arm = (await pin.getAttribute("aria-label")).replace("Pin fashion-mnist to ", "");
  await asked({ name: `Pin fashion-mnist to ${arm}`, exact: true }, `Pin fashion-mnist to ${arm}?`);
  await page.locator("#ask-yes").click();
  await page.waitForFunction((arm) => document.querySelector("#view").innerText.includes(`pinned to ${arm}`), arm);
  await goto(page, "decisions");
  // What is decided from now on is that arm, by no choice of the policy.
  await page.waitForFunction((arm) => document.querySelectorAll('section[aria-label="The last decisions"] tbody tr')[0]?.children[2].textContent === arm, arm);
  await goto(page, "models");
  await asked({ name: "Unpin", exact: true }, "Let the policy choose for fashion-mnist?");
  await page.locator("#ask-yes").click();
  await page.waitForFunction(() => !document.querySelector("#view").innerText.includes("pinned to"));
  await asked({ name: "Unload", exact: true }, "Unload fashion-mnist?");
  await page.locator("#ask-yes").click();
  const served = (is) => page.waitForFunction((is) => [...document.querySelectorAll("section.card")].find((card) => card.getAttribute("aria-label") === "fashion-mnist")?.querySelector("header .chip")?.textContent === "served" === is, is);
  await served(false);
  await asked({ name: "Load", exact: true }, "Load fashion-mnist?");
  await page.locator("#ask-yes").click();
  await served(true);
  await page.waitForFunction(() => document.querySelectorAll("#view table:not(.u-legend) tbody tr").length > 0);
  await close(page);
});

test("a node dragged away and a link made slower are answered, and what was asked can be applied", { timeout: 240_000 }, async () => {
  const page = await open();
  await goto(page, "twin");
  await page.locator(".grab", { hasText: /^attic$/ }).dragTo(page.locator(".drop"));
  await page.waitForFunction(() => document.querySelector("#view").innerText.includes("If attic were gone"));
  await page.waitForSelector("#what-if-table");
  // By keyboard: the slider moves what is asked.
  await page.locator("#factor").focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => /If 2.8 times as many requests came/.test(document.querySelector("#view").innerText));
  await page.waitForSelector("#what-if-table");
  await page.selectOption("#to", "door");
  await page.locator("#ask-link").click();
  await page.waitForFunction(() => /If the link between centre and door had 0.25 times its rate/.test(document.querySelector("#view").innerText));
  await page.waitForSelector("#what-if-table");
  await page.getByRole("button", { name: "Apply as a plan" }).click();
  await page.waitForFunction(() => document.querySelector("dialog").open && document.querySelector("#ask-title").textContent === "Apply this as a plan?");
  await page.locator("#ask-yes").click();
  await page.waitForFunction(() => /plans as if: .*door/.test(document.querySelector("#view").innerText));
  await page.getByRole("button", { name: "Withdraw" }).click();
  await page.locator("#ask-yes").click();
  await page.waitForFunction(() => !/plans as if/.test(document.querySelector("#view").innerText));
  await close(page);
});

test("the fleet is walked through by keyboard alone", { timeout: 120_000 }, async () => {
  const page = await open();
  const focused = () => page.evaluate(() => document.activeElement?.dataset?.node ?? document.activeElement?.textContent?.trim());
  let steps = 0;
  for (; steps < 60 && (await focused()) !== "server"; steps += 1) await page.keyboard.press("Tab");
  assert.equal(await focused(), "server");
  const outline = await page.evaluate(() => { const box = document.activeElement.querySelector(".box"); return `${getComputedStyle(document.activeElement).outlineStyle} ${getComputedStyle(box).strokeWidth}`; });
  assert.notEqual(outline, "none 1px", "the focus cannot be seen");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => /server/.test(document.querySelector('section[aria-label="The node that is picked"]').innerText));
  await close(page);
});

for (const [name, look, viewport] of [["light", "light", WIDE], ["dark", "dark", WIDE], ["phone", "light", PHONE], ["phone in the dark", "dark", PHONE]]) {
  test(`everybody can use it: ${name}`, { timeout: 180_000 }, async () => {
    const page = await open(look, viewport);
    for (const view of ["fleet", "models", "decisions", "twin", "requests"]) {
      await goto(page, view);
      await page.waitForFunction((view) => document.title.endsWith(view), view);
      if (view === "models") await page.waitForSelector(".uplot canvas");
      if (view === "decisions" || view === "requests") await page.waitForSelector("#view tbody tr");
      await accessible(page, `${view}, ${name}`);
      const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(tooWide <= 0, `${view} is ${tooWide} px wider than the screen`);
      await shot(page, `${view}-${name.replaceAll(" ", "-")}`);
    }
    await close(page);
  });
}

test("a killed worker turns red and its fragments move", { timeout: 180_000 }, async () => {
  const page = await open();
  const before = await page.locator("#verdict-why").innerText();
  assert.match(before, /on 5 nodes/);
  const held = (node) => page.locator(`.node[data-node="${node}"] path`).count();
  await page.waitForFunction(() => document.querySelectorAll('.node[data-node="board-1"] path').length > 0);
  process.kill(where.processes["board-1"], "SIGKILL");
  await page.waitForSelector('.node.lost[data-node="board-1"]');
  const [red, plain] = await page.evaluate(() => ["board-1", "server"].map((name) => getComputedStyle(document.querySelector(`.node[data-node="${name}"] .box`)).stroke));
  assert.notEqual(red, plain);
  await page.waitForFunction(() => document.querySelectorAll('.node[data-node="board-1"] path').length === 0);
  await page.waitForFunction(() => /board-1 is lost/.test(document.querySelector(".news").innerText));
  await page.waitForFunction(() => /Plan \d+: .*moved/.test(document.querySelector(".news").innerText));
  await page.waitForFunction(() => /board-1 is lost/.test(document.querySelector("#verdict").textContent) || /get no answer/.test(document.querySelector("#verdict").textContent));
  assert.equal(await held("board-1"), 0);
  await shot(page, "fleet-after-a-loss");
  await close(page);
});

test("100 nodes and 1000 fragments: what a frame costs", { timeout: 120_000 }, async () => {
  const { structure, history, pulse } = synthetic(100, 1000);
  const page = await open("light", WIDE, where.dashboard.split("#")[0], (page) => page.addInitScript(fake, { structure, history, pulses: [pulse(1), pulse(2), pulse(3)] }));
  await page.waitForFunction(() => document.querySelectorAll(".node").length === 100);
  const chips = await page.locator(".node path").count();
  const told = await page.evaluate(() => new Promise((done) => {
    const gaps = [];
    let last = performance.now();
    const frame = (now) => {
      gaps.push(now - last);
      last = now;
      if (gaps.length < 300) requestAnimationFrame(frame);
      else {
        gaps.sort((a, b) => a - b);
        done({ median: gaps[150], p95: gaps[285], worst: gaps[299] });
      }
    };
    requestAnimationFrame(frame);
  }));
  // What is judged is what the page does for a pulse: nothing is drawn anew, nothing piles up.
  const work = await page.evaluate(() => new Promise((done) => {
    const size = () => document.querySelectorAll("*").length;
    const before = size();
    let [added, pulses, text] = [0, 0, document.querySelector(".center-rate").textContent];
    new MutationObserver((changes) => { for (const change of changes) for (const node of change.addedNodes) if (node.nodeType === 1) added += 1; }).observe(document.body, { childList: true, subtree: true });
    addEventListener("made-up-pulse", () => {
      pulses += 1;
      if (pulses === 10) setTimeout(() => done({ before, after: size(), added, text }));
    });
  }));
  assert.ok(work.before < 10_000, `${work.before} elements`);
  assert.ok(work.after - work.before < 100, `${work.after - work.before} elements more after ten pulses`);
  assert.ok(work.added < 500, `${work.added} elements drawn anew in ten pulses`);
  console.log(`${work.before} elements, ${work.added} of them drawn anew in ten pulses`);
  // Reported, not judged: the time belongs to the machine.
  console.log(`100 nodes, 1000 fragments (${chips} chips drawn): frames every ${told.median.toFixed(1)} ms, 95th ${told.p95.toFixed(1)} ms, worst ${told.worst.toFixed(1)} ms`);
  await shot(page, "fleet-100-nodes");
  await close(page);
});

test("an orchestrator that is gone is seen to be gone", { timeout: 120_000 }, async () => {
  const page = await open();
  load.kill("SIGTERM");
  fleet.kill("SIGTERM");
  await ended(fleet);
  await page.waitForFunction(() => document.querySelector("#link").textContent.startsWith("stale for"));
  assert.ok(await page.evaluate(() => document.body.classList.contains("stale")));
  await page.context().close();
});
