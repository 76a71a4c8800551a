// Light, dark, or as the system is.
import { byId } from "./element.js";

const THEMES = ["system", "light", "dark"] as const;
const KEPT = "shortlist-theme";

export function setUpTheme(): void {
  const button = byId("theme-button");
  let theme = localStorage.getItem(KEPT) ?? "system";
  const apply = () => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme as (typeof THEMES)[number]) + 1) % THEMES.length] ?? "system";
    localStorage.setItem(KEPT, theme);
    apply();
  });
  apply();
}
