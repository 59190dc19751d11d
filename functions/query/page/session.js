// Signing in and out. The key lies in the tab's session storage and nowhere else.

import {Api} from "./api.js";
import {$} from "./dom.js";

const KEY = "ragzero.key";
const TOLD = "ragzero.told";

export const session = {leaving: false};

// Forgets everything this page held; why is told on the page that follows.
export function leave(reason = "") {
  session.leaving = true;
  sessionStorage.clear();
  if (reason) sessionStorage.setItem(TOLD, reason);
  location.reload();
}

// Calls open(key, caller) once somebody is signed in: at once where the tab holds a key that works.
export async function signedIn(open) {
  const key = sessionStorage.getItem(KEY);
  const told = sessionStorage.getItem(TOLD) ?? "";
  sessionStorage.removeItem(TOLD);
  const problem = key ? await tried(key, open) : told;
  if (!key || problem) ask(problem, open);
}

function ask(told, open) {
  const form = $("form", $("#signin"));
  const input = $("#key");
  const shown = $("#key-show");
  $("#boot").hidden = true;
  $("#signin").hidden = false;
  $("#key-error").textContent = told;
  input.focus();
  shown.addEventListener("click", () => {
    const show = input.type === "password";
    input.type = show ? "text" : "password";
    shown.setAttribute("aria-pressed", String(show));
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = $("button[type=submit]", form);
    button.disabled = true;
    $("#key-error").textContent = "";
    const problem = await tried(input.value.trim(), open);
    button.disabled = false;
    if (!problem) return;
    $("#key-error").textContent = problem;
    input.setAttribute("aria-invalid", "true");
    input.focus();
  });
}

// What is the matter with the key, or nothing.
async function tried(key, open) {
  if (!key) return "Enter an API key.";
  let caller;
  try {
    caller = await new Api(key).get("v1/key");
  } catch (error) {
    if (error.status !== 401) return error.message;
    sessionStorage.removeItem(KEY);
    return "This key is not valid. It may have been revoked, or not been copied whole.";
  }
  if (!caller.scopes.includes("query"))
    return "This key may only add documents. This page needs one that may ask, too.";
  sessionStorage.setItem(KEY, key);
  $("#key").value = "";
  $("#signin").hidden = true;
  $("#boot").hidden = true;
  $("#shell").hidden = false;
  open(key, caller);
  return "";
}
