// The API key: in memory, and in this tab's storage if the user wants it kept.

import { byId } from "./dom.js";

const NAME = "sgl-api-key";

export class Key {
  /** @param {() => void} changed */
  constructor(changed) {
    this.value = sessionStorage.getItem(NAME) ?? "";
    byId("key").value = this.value;
    byId("key-kept").checked = this.value !== "";
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#take();
      this.#close();
      changed();
    });
    byId("key-panel").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#close();
    });
  }

  #close() {
    byId("key-panel").open = false;
    byId("key-panel").querySelector("summary").focus();
  }

  #take() {
    this.value = byId("key").value.trim();
    sessionStorage.removeItem(NAME);
    if (this.value && byId("key-kept").checked) sessionStorage.setItem(NAME, this.value);
  }

  /** Ask for it. */
  demand() {
    byId("key-panel").open = true;
    byId("key").focus();
  }
}
