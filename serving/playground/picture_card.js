// The pictures of the conversation, and the small model's ranking over them.

import { byId, chosen, make, tell, whenChosen } from "./dom.js";
import { draw } from "./overlay.js";
import { averageRetention, keepCount, keptTokens, undrawn } from "./tokens.js";
import { percent, plural } from "./words.js";

/** @typedef {import("./conversation.js").Picture} Picture */

export class PictureCard {
  /** @type {?Picture} the one that is drawn large */ shown = null;
  /** @type {?{importance: object, sgl: object, pictures: Picture[]}} of the answer that is shown */
  #answer = null;
  #pictures = [];
  #ratio = null;
  #offered = false;

  /** @param {{added: (files: File[]) => void, removed: (picture: Picture) => void}} hear */
  constructor(hear) {
    this.hear = hear;
    whenChosen("view", () => this.#draw());
    const files = byId("files");
    files.addEventListener("change", () => {
      hear.added([...files.files]);
      files.value = "";
    });
    document.addEventListener("paste", (event) => this.#take(event, event.clipboardData));
    document.addEventListener("drop", (event) => this.#take(event, event.dataTransfer));
    for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
      document.addEventListener(name, (event) => this.#drag(event, name.startsWith("drage") || name === "dragover"));
    }
  }

  #take(event, data) {
    if (!data.files.length) return;
    event.preventDefault();
    this.hear.added([...data.files]);
  }

  #drag(event, over) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    if (over) event.preventDefault();
    byId("drop").classList.toggle("over", over && event.type !== "dragleave");
  }

  /**
   * Show pictures.
   * @param {Picture[]} pictures all of the conversation
   * @param {Picture[]} waiting those that can still be taken out
   * @param {?object} answer whose ranking is drawn
   */
  show(pictures, waiting, answer) {
    if (answer) this.#offer();
    if (!pictures.includes(this.shown)) this.shown = pictures.at(-1) ?? null;
    this.#answer = answer;
    this.#pictures = pictures;
    byId("views").disabled = !answer;
    byId("drop").classList.toggle("small", pictures.length > 0);
    byId("drop-text").hidden = pictures.length > 0;
    byId("files-label").textContent = pictures.length ? "Add pictures" : "Choose pictures";
    byId("thumbs").replaceChildren(...pictures.map((one) => this.#thumb(one, waiting.includes(one))));
    this.#draw();
  }

  /** Draw the tokens that another keep ratio keeps. @param {?number} ratio */
  keep(ratio) {
    this.#ratio = ratio;
    this.#draw();
  }

  /** The first answer shows what there is to see; from then on the view is the user's. */
  #offer() {
    if (!this.#offered) document.querySelector('input[name="view"][value="heat"]').checked = true;
    this.#offered = true;
  }

  #thumb(picture, removable) {
    const button = make("button", { type: "button", className: "thumb", title: picture.name, "aria-pressed": String(picture === this.shown) }, make("img", { src: picture.url, alt: picture.name }));
    button.addEventListener("click", () => {
      this.shown = picture;
      for (const one of byId("thumbs").querySelectorAll(".thumb")) one.setAttribute("aria-pressed", String(one === button));
      this.#draw();
    });
    if (!removable) return make("li", {}, button);
    const remove = make("button", { type: "button", className: "remove", "aria-label": `Remove ${picture.name}` }, "×");
    remove.addEventListener("click", () => {
      this.hear.removed(picture);
      byId("files").focus();
    });
    return make("li", {}, button, remove);
  }

  #draw() {
    byId("stage").hidden = !this.shown;
    this.#note();
    if (!this.shown) return;
    const image = this.#answer ? this.#answer.pictures.indexOf(this.shown) : -1;
    const view = image < 0 ? "picture" : chosen("view");
    const layer = image < 0 ? null : { importance: this.#answer.importance, image, kept: this.#kept() };
    draw(byId("canvas"), this.shown.bitmap, view, layer);
    byId("heatbar").hidden = view !== "heat";
    const told = { picture: "", heat: "importance to the small model", kept: "tokens that are dropped are dark" }[view];
    tell("caption", [`${this.shown.name}, ${this.shown.bitmap.width} × ${this.shown.bitmap.height}`, told].filter(Boolean).join(": "));
    byId("canvas").setAttribute("aria-label", `Picture ${this.#pictures.indexOf(this.shown) + 1} of ${this.#pictures.length}, ${byId("caption").textContent}`);
  }

  /** Without a ratio nothing is known to be dropped. */
  #kept() {
    const { values } = this.#answer.importance;
    return keptTokens(values, keepCount(values.length, this.#ratio ?? 1));
  }

  #note() {
    if (!this.#answer) return tell("keep-note", "");
    const { importance, sgl } = this.#answer;
    if (this.#ratio === null) return tell("keep-note", "Move it to see which tokens the large model would keep.");
    const total = importance.values.length;
    const average = sgl.pruning && averageRetention(sgl.pruning, this.#ratio);
    const hidden = undrawn(importance.grids);
    const parts = [
      `${keepCount(total, this.#ratio)} of ${plural(total, "visual token")}`,
      average === null || average === undefined ? "" : `, average retention ${percent(average)}`,
      hidden ? `; ${hidden} are of overviews, which are not drawn` : "",
      sgl.pruning && sgl.pruning.pruner !== "guided" ? `. The pruner ${sgl.pruning.pruner} chose others than this ranking does` : "",
    ];
    return tell("keep-note", `${parts.join("")}.`);
  }
}
