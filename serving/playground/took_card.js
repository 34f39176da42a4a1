// Cost, tokens and time of an answer.

import { byId, make } from "./dom.js";
import { duration, flops as operations, money, percent, plural } from "./words.js";

const PARTS = [
  ["small_queued", "small model, waiting"],
  ["small", "small model"],
  ["large_queued", "large model, waiting"],
  ["large", "large model"],
];

/** @param {?object} result of a turn */
export function showTook(result) {
  const sgl = result?.sgl;
  byId("took").hidden = !sgl;
  if (!sgl) return;
  byId("figures").replaceChildren(...[cost(sgl.cost), time(sgl, result), visual(sgl), tokens(sgl, result.usage)].map(tile));
  showTime(sgl.timing_ms);
}

function tile([name, value, note]) {
  return make("div", {}, make("dt", {}, name), make("dd", {}, value), make("dd", { className: "note" }, note));
}

function cost({ small_device_s: small, large_device_s: big, usd, currency, flops }) {
  const seconds = `${duration(1000 * (small + big))} of devices`;
  const work = operations(flops);
  return usd === null ? ["Device time", duration(1000 * (small + big)), `${work}; no prices are set`] : ["Cost", money(usd, currency), `${seconds}, ${work}`];
}

function time(sgl, { firstMs }) {
  return ["Time", duration(sgl.timing_ms.total), firstMs === null ? "" : `first words here after ${duration(firstMs)}`];
}

function visual({ pruning, route }) {
  if (!pruning) return ["Visual tokens", "all", route === "small" ? "the large model was not asked" : "nothing was pruned"];
  const kept = `${pruning.kept_tokens} of ${pruning.visual_tokens}`;
  return ["Visual tokens kept", kept, `from ${percent(pruning.prune_layer)} of the layers on; average retention ${percent(pruning.average_retention)}`];
}

function tokens({ accepted_draft_tokens: draft, route }, usage) {
  const note = route === "large" && draft ? `${plural(draft, "token")} taken over from the small model` : "prompt and answer";
  return ["Tokens", usage ? `${usage.prompt_tokens} + ${usage.completion_tokens}` : "unknown", note];
}

function showTime(timing) {
  const known = PARTS.map(([key, name]) => ({ key, name, ms: timing[key] ?? 0 }));
  const rest = timing.total - known.reduce((sum, one) => sum + one.ms, 0);
  const parts = [...known, { key: "rest", name: "all else", ms: Math.max(0, rest) }].filter((one) => one.ms > 0);
  byId("time-bar").replaceChildren(...parts.map(({ key, ms }) => {
    const part = make("i", { className: key });
    part.style.flexGrow = String(ms);
    return part;
  }));
  const told = parts.map(({ name, ms }) => `${name} ${duration(ms)}`);
  byId("time-bar").setAttribute("aria-label", `Time: ${told.join(", ")}`);
  byId("time-legend").replaceChildren(...parts.map(({ key }, i) => make("li", {}, make("i", { className: key }), told[i])));
}
