// Tabs, as the keyboard knows them: arrows change the tab, Tab goes into its panel.
import { h } from "./element.js";

export interface Tab {
  name: string;
  /** Makes what is shown, when it is. */
  panel: () => Node[];
}

let made = 0;

export function tabs(label: string, all: Tab[]): HTMLElement {
  made += 1;
  const group = `tabs-${made}`;
  const panel = h("div", { role: "tabpanel", id: `${group}-panel`, class: "tab-panel" });
  const buttons = all.map((tab, index) =>
    h("button", { type: "button", role: "tab", id: `${group}-${index}`, "aria-controls": panel.id }, tab.name),
  );
  const show = (index: number) => {
    buttons.forEach((button, each) => {
      button.setAttribute("aria-selected", each === index ? "true" : "false");
      button.tabIndex = each === index ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `${group}-${index}`);
    panel.replaceChildren(...(all[index]?.panel() ?? []));
  };
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => show(index));
  });
  const list = h("div", { role: "tablist", "aria-label": label, class: "tabs" }, ...buttons);
  moveByArrows(list, buttons);
  show(0);
  return h("div", {}, list, panel);
}

/** Has arrows go from tab to tab, and choose it. */
export function moveByArrows(list: HTMLElement, buttons: HTMLElement[]): void {
  list.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement as HTMLElement);
    const steps: Record<string, number> = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 };
    const to = steps[event.key];
    if (at < 0 || to === undefined) return;
    const button = buttons[(to + buttons.length) % buttons.length];
    button?.focus();
    button?.click();
    event.preventDefault();
  });
}
