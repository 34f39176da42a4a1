// The request that was made, as others would make it.

import { BASE } from "./api.js";
import { byId, chosen, tell, whenChosen } from "./dom.js";
import { curl, python } from "./snippets.js";

const LANGUAGES = { curl, python };

export class RequestCard {
  #asked = null;

  constructor() {
    whenChosen("language", () => this.#write());
    byId("copy").addEventListener("click", () => this.#copy());
  }

  /**
   * @param {?object} body of the request; none hides the card
   * @param {import("./conversation.js").Picture[]} pictures those in it
   * @param {boolean} key whether it had one
   */
  show(body, pictures, key) {
    byId("request").hidden = !body;
    this.#asked = body && [body, pictures, BASE, key];
    this.#write();
  }

  #write() {
    tell("copied", "");
    if (this.#asked) byId("snippet").textContent = LANGUAGES[chosen("language")](...this.#asked);
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(byId("snippet").textContent);
      tell("copied", "Copied.");
    } catch {
      // Browsers allow it on https and loopback only.
      getSelection().selectAllChildren(byId("snippet"));
      tell("copied", "It is selected: press Ctrl+C or Cmd+C.");
    }
  }
}
