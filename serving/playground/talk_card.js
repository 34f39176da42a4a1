// Questions and answers, and errors in place of them.

import { badge, byId, make, tell } from "./dom.js";
import { errorNote, errorTitle } from "./words.js";

/** @typedef {import("./conversation.js").Turn} Turn */

/** Who is asked first. @param {Turn} turn */
export const looksAtIt = (turn) => `The ${turn.settings.model.endsWith(":large") ? "large" : "small"} model looks at it …`;

/** Say something to those who hear the page. @param {string} text */
export function announce(text) {
  byId("status").textContent = text;
}

export class TalkCard {
  #answers = new Map();
  #countdown = 0;

  /** @param {{shown: (turn: Turn) => void, again: () => void}} hear */
  constructor(hear) {
    this.hear = hear;
  }

  /**
   * @param {Turn[]} turns
   * @param {?Turn} shown the one that the other cards tell of
   * @param {boolean} busy
   */
  show(turns, shown, busy) {
    this.#answers.clear();
    byId("turns").replaceChildren(...turns.map((turn) => this.#turn(turn, turn === shown, turn === turns.at(-1), busy)));
    byId("anew").hidden = !turns.length || busy;
    byId("question-label").textContent = turns.length ? "Follow-up question" : "Question";
    byId("cancel").hidden = !busy;
    byId("ask").hidden = busy;
  }

  /** Write more of an answer. @param {Turn} turn */
  write(turn) {
    this.#answers.get(turn).textContent = turn.answer;
  }

  #turn(turn, shown, last, busy) {
    const pictures = turn.pictures.map((one) => make("img", { src: one.url, alt: one.name }));
    const answer = make("p", { className: "answer" }, turn.answer || (turn.state === "asked" ? looksAtIt(turn) : ""));
    if (turn.state === "asked" || turn.state === "streaming") answer.classList.add("coming");
    answer.setAttribute("aria-busy", String(answer.classList.contains("coming")));
    answer.classList.toggle("waiting", turn.state === "asked");
    this.#answers.set(turn, answer);
    const item = make("li", { className: "turn" }, make("div", { className: "asked" }, ...pictures, make("p", {}, turn.question)), answer, this.#foot(turn, shown, last, busy));
    item.classList.toggle("shown", shown);
    return item;
  }

  #foot(turn, shown, last, busy) {
    const foot = make("div", { className: "foot" });
    if (turn.route) foot.append(badge(turn.route));
    if (turn.state === "cancelled") foot.append(make("span", { className: "note" }, "cancelled, and no part of the conversation"));
    if (turn.result?.finish === "length") foot.append(make("span", { className: "note" }, "cut at the most tokens"));
    if (turn.state !== "done" || busy) return foot;
    if (!shown) foot.append(this.#button("Show its decision", () => this.hear.shown(turn)));
    if (last) foot.append(this.#button("Ask again", this.hear.again));
    return foot;
  }

  #button(text, then) {
    const button = make("button", { type: "button", className: "quiet" }, text);
    button.addEventListener("click", then);
    return button;
  }

  /**
   * Show an error.
   * @param {import("./api.js").ApiError} error
   * @param {() => void} again what trying again is
   */
  fail(error, again) {
    this.calm();
    tell("alert-title", errorTitle(error));
    tell("alert-text", error.message);
    tell("alert-note", errorNote(error));
    byId("alert").hidden = false;
    const button = byId("alert-again");
    button.onclick = again;
    button.hidden = false;
    this.#count(button, error.retryAfterS ?? 0);
  }

  #count(button, seconds) {
    button.disabled = seconds > 0;
    button.textContent = seconds > 0 ? `Try again in ${Math.ceil(seconds)} s` : "Try again";
    if (seconds > 0) this.#countdown = setTimeout(() => this.#count(button, seconds - 1), 1000);
  }

  /** Take the error away. */
  calm() {
    clearTimeout(this.#countdown);
    byId("alert").hidden = true;
  }
}
