// What the user may set, and what is left to the endpoint.

import { byId } from "./dom.js";
import { percent, score } from "./words.js";

/** A slider that is the endpoint's own until it is moved. */
class Slider {
  /** @type {?number} what was chosen */ value = null;
  /** @type {?number} the endpoint's own, once an answer told it */ own = null;

  /** @param {string} id @param {number} scale of the input to the value @param {(value: number) => string} told */
  constructor(id, scale, told) {
    Object.assign(this, { input: byId(id), output: byId(`${id}-value`), back: byId(`${id}-own`), scale, told });
    this.input.addEventListener("input", () => this.choose(Number(this.input.value) / scale));
    this.back.addEventListener("click", () => {
      this.choose(null);
      this.input.focus();
    });
  }

  /** What counts, as far as it is known. */
  get effective() {
    return this.value ?? this.own;
  }

  /** @param {?number} value */
  choose(value) {
    this.value = value;
    this.render();
    this.changed();
  }

  /** @param {?number} own */
  learn(own) {
    this.own = own ?? this.own;
    this.render();
  }

  /** What else happens when it changes. */
  changed() {}

  render() {
    if (this.effective !== null) this.input.value = String(this.effective * this.scale);
    const told = this.effective === null ? "" : this.told(this.effective);
    this.output.textContent = this.value === null ? [told, "endpoint's own"].filter(Boolean).join(", ") : told;
    this.output.classList.toggle("own", this.value === null);
    this.input.setAttribute("aria-valuetext", this.output.textContent);
    this.back.hidden = this.value === null;
  }
}

const tellThreshold = (value) => (value > 1 ? "above 1" : score(value));

/** All of them. */
export class Controls {
  threshold = new Slider("threshold", 1, tellThreshold);
  keep = new Slider("keep", 100, percent);
  #inputs = { model: byId("model"), maxTokens: byId("max-tokens"), temperature: byId("temperature") };

  /** @param {() => void} changed */
  constructor(changed) {
    this.threshold.changed = changed;
    this.keep.changed = changed;
    for (const one of Object.values(this.#inputs)) one.addEventListener("input", changed);
    this.threshold.render();
    this.keep.render();
  }

  /** @returns {import("./conversation.js").Settings} */
  get settings() {
    return {
      model: this.#inputs.model.value,
      maxTokens: Number(this.#inputs.maxTokens.value),
      temperature: Number(this.#inputs.temperature.value),
      threshold: this.threshold.value,
      keepRatio: this.keep.value,
    };
  }

  set settings(settings) {
    for (const [name, input] of Object.entries(this.#inputs)) input.value = String(settings[name]);
    this.keep.choose(settings.keepRatio);
    this.threshold.choose(settings.threshold);
  }

  /** Offer models. @param {string[]} names */
  offer(names) {
    const before = this.#inputs.model.value;
    this.#inputs.model.replaceChildren(...names.map((name) => new Option(name)));
    if (names.includes(before)) this.#inputs.model.value = before;
  }

  /** Take what an answer tells of the endpoint's own settings. @param {import("./conversation.js").Turn} turn */
  learn({ settings, result: { sgl } }) {
    this.threshold.learn(settings.threshold === null ? sgl?.threshold : null);
    this.keep.learn(settings.keepRatio === null ? sgl?.pruning?.keep_ratio : null);
  }

  /**
   * What is no longer as it was asked, in words.
   * @param {import("./conversation.js").Settings} asked
   */
  changes(asked) {
    const now = this.settings;
    const own = "the endpoint's own";
    const told = {
      model: `model ${now.model}`,
      maxTokens: `at most ${now.maxTokens} tokens`,
      temperature: `temperature ${now.temperature}`,
      threshold: `threshold ${now.threshold === null ? own : tellThreshold(now.threshold)}`,
      keepRatio: `retention ${now.keepRatio === null ? own : percent(now.keepRatio)}`,
    };
    return Object.keys(told).filter((name) => now[name] !== asked[name]).map((name) => told[name]);
  }
}
