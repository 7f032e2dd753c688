// Light, dark, or as the system: decided before the page is painted, so this is not a module.
(() => {
  "use strict";
  const KEY = "rate-envelope-queue theme";
  const NAMES = { auto: "Auto", light: "Light", dark: "Dark" };
  const LABELS = { auto: "as the system", light: "light", dark: "dark" };
  let theme = "auto";
  try {
    theme = NAMES[localStorage.getItem(KEY)] ? localStorage.getItem(KEY) : "auto";
  } catch { /* no storage: as the system */ }

  const system = matchMedia("(prefers-color-scheme: dark)");

  function apply() {
    document.documentElement.dataset.theme = theme === "auto" ? (system.matches ? "dark" : "light") : theme;
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = NAMES[theme];
      button.setAttribute("aria-label", `Colours: ${LABELS[theme]}`);
      button.title = `Colours: ${LABELS[theme]}`;
    }
    document.dispatchEvent(new Event("theme"));
  }

  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      const all = Object.keys(NAMES);
      theme = all[(all.indexOf(theme) + 1) % all.length];
      try {
        localStorage.setItem(KEY, theme);
      } catch { /* it is forgotten with the page */ }
      apply();
    });
  });
})();
