// What an operator does: asked first, sent with the token, told how it went.

import { fill, h } from "./dom.js";

const KEY = "splitplace-token";
const dialog = document.getElementById("ask");

export const token = () => sessionStorage.getItem(KEY);

/** A token in the address (`#token=…`) is kept for this tab and taken out of the address. */
export function takeToken() {
  const found = /[#&]token=([^&]+)/.exec(location.hash);
  if (!found) return;
  sessionStorage.setItem(KEY, decodeURIComponent(found[1]));
  history.replaceState(null, "", location.pathname);
}

export function tell(text, kind = "") {
  const line = h("p", { class: kind }, text);
  document.getElementById("said").append(line);
  setTimeout(() => line.remove(), 8000);
}

/** Asks in a dialogue; resolves to whether the answer was yes. */
export function ask(title, body, yes, danger = false) {
  document.getElementById("ask-title").textContent = title;
  fill(document.getElementById("ask-body"), body);
  const button = document.getElementById("ask-yes");
  button.textContent = yes;
  button.className = danger ? "danger" : "";
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

export async function post(path, body) {
  const headers = { "content-type": "application/json" };
  if (token()) headers.authorization = `Bearer ${token()}`;
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await answer.text();
  let told;
  try { told = JSON.parse(text); } catch { told = { error: text || answer.statusText }; }
  return { ok: answer.ok, status: answer.status, told };
}

/** Asks for a token, checks it with the orchestrator, and keeps it for this tab. */
export async function askForToken() {
  const input = h("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false" });
  const body = [
    h("p", { class: "soft" }, "Looking needs none. To change something, paste one of the server's client tokens, or the one that splitplace up printed. It is kept in this tab only."),
    h("label", { for: "token" }, "Token", input),
  ];
  if (!(await ask("Act as an operator", body, "Use this token")) || !input.value) return false;
  sessionStorage.setItem(KEY, input.value.trim());
  const { ok, told } = await post("/dashboard/token", {});
  if (!ok) {
    sessionStorage.removeItem(KEY);
    tell(told.error, "bad");
  }
  window.dispatchEvent(new Event("token"));
  return ok;
}

export function forgetToken() {
  sessionStorage.removeItem(KEY);
  window.dispatchEvent(new Event("token"));
}

/** Does something after asking. `what` is the order; `means` says what it means. */
export async function act(title, means, what, danger = false) {
  if (!token() && !(await askForToken())) return false;
  if (!(await ask(title, h("p", null, means), "Do it", danger))) return false;
  const { ok, told } = await post("/dashboard/act", what);
  tell(ok ? told.told : told.error, ok ? "" : "bad");
  return ok;
}
