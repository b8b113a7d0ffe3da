// Dialogs. The browser keeps the focus inside, closes with Escape, and gives the focus back.

import { el, fill } from "./dom.js";

/** Opens a dialog and returns it; `build(body, close)` fills it. */
export function open(title, build) {
  const body = el("div", { class: "body stack wide" });
  const heading = el("h2", { id: `dialog-${Math.random().toString(36).slice(2)}` }, title);
  const close = () => dialog.close();
  const dialog = el("dialog", { "aria-labelledby": heading.id },
    el("div", { class: "head" }, heading, el("button", { type: "button", class: "plain", onclick: close }, "Close")),
    body);
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before && before.isConnected) before.focus();
    else document.getElementById("main")?.focus();
  });
  // A click beside it closes it, as Escape does.
  dialog.addEventListener("pointerdown", (event) => { if (event.target === dialog) close(); });
  document.body.append(dialog);
  build(body, close);
  dialog.showModal();
  const first = body.querySelector("[autofocus], input, textarea, select, button");
  if (first) first.focus();
  return dialog;
}

/** Asks whether something shall be done; `work` does it. */
export function confirm(title, text, verb, work) {
  open(title, (body, close) => {
    const place = el("div");
    const yes = el("button", { type: "button", class: "primary danger", onclick: async () => {
      yes.disabled = true;
      const error = await work().then(() => null, (error) => error);
      if (!error) return close();
      yes.disabled = false;
      fill(place, el("p", { class: "notice error", role: "alert" }, error.message));
    } }, verb);
    fill(body, el("p", {}, text), place,
      el("div", { class: "row end" }, el("button", { type: "button", autofocus: true, onclick: close }, "Cancel"), yes));
  });
}
