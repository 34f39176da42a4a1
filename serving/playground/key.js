// The API key: in memory, and in this tab's storage if the user wants it kept and the browser lets it.

import { byId } from "./dom.js";

const NAME = "sgl-api-key";

/** What some code gets of the storage; null where the browser blocks it. @param {(storage: Storage) => ?string} use */
function stored(use) {
  try {
    return use(sessionStorage);
  } catch {
    return null;
  }
}

export class Key {
  /** @param {() => void} changed */
  constructor(changed) {
    this.value = stored((storage) => storage.getItem(NAME)) ?? "";
    byId("key").value = this.value;
    byId("key-kept").checked = this.value !== "";
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#take();
      this.#close();
      changed();
    });
    byId("key-panel").addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !byId("key-panel").open) return;
      // To close the panel is all that it means here: a request under way goes on.
      event.stopPropagation();
      this.#close();
    });
  }

  #close() {
    byId("key-panel").open = false;
    byId("key-panel").querySelector("summary").focus();
  }

  #take() {
    this.value = byId("key").value.trim();
    stored((storage) => storage.removeItem(NAME));
    if (this.value && byId("key-kept").checked) stored((storage) => storage.setItem(NAME, this.value));
  }

  /** Ask for it. */
  demand() {
    byId("key-panel").open = true;
    byId("key").focus();
  }
}
