// Dark and light: as the system says, until somebody chooses.

import { el } from "./dom.js";

const NAME = "mos.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : system.matches;
}

export function applyTheme() {
  const kept = localStorage.getItem(NAME);
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
}

/** Returns the button that changes between the two. */
export function themeButton() {
  const name = () => (isDark() ? "Light" : "Dark");
  const button = el("button", { type: "button", class: "plain", onclick: () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    localStorage.setItem(NAME, theme);
    document.dispatchEvent(new CustomEvent("mos-theme"));
    button.textContent = name();
  }, title: "Change between dark and light" }, name());
  return button;
}

system.addEventListener("change", () => document.dispatchEvent(new CustomEvent("mos-theme")));

/** Returns the value of a colour of the style sheet, as drawing on a canvas needs it. */
export function colour(name) {
  const probe = el("span", { class: "hidden" });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
