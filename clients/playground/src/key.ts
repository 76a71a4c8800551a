// Asks for the API key, which stands in no address, no form that browsers remember, and no copied call.
import { byId } from "./element.js";
import { hasKey, useKey } from "./server.js";

export class KeyDialog {
  private readonly dialog = byId<HTMLDialogElement>("key-dialog");

  constructor(private readonly changed: () => void) {
    byId("key-button").addEventListener("click", () => {
      this.ask("Sent with each call as `authorization: Bearer …`. Leave it empty to send none.");
    });
    byId("key-cancel").addEventListener("click", () => this.dialog.close());
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const input = byId<HTMLInputElement>("key");
      useKey(input.value.trim(), byId<HTMLInputElement>("key-remember").checked);
      input.value = "";
      this.dialog.close();
      this.show();
      this.changed();
    });
    this.show();
  }

  /** Opens the dialog, and says why. */
  ask(why: string): void {
    byId("key-why").textContent = why;
    if (!this.dialog.open) this.dialog.showModal();
    byId("key").focus();
  }

  private show(): void {
    byId("key-button").textContent = hasKey() ? "API key: set" : "API key";
  }
}
