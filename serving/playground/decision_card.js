// The exit score against the threshold, and what it is made of.

import { badge, byId, make, tell } from "./dom.js";
import { exits } from "./tokens.js";
import { CRITERIA, headline, score, would } from "./words.js";

const END = 1.01;
const IDLE = "The small model answers and says how sure it is. From the threshold on its answer stands; below it, the large model is asked, with the visual tokens that the small one found unimportant left out.";

/**
 * Tell of an answer's decision.
 * @param {?object} sgl of its response
 */
export function showDecision(sgl) {
  byId("headline").replaceChildren(...(sgl ? [badge(sgl.route), " ", headline(sgl)] : [IDLE]));
  byId("headline").classList.toggle("idle", !sgl);
  tell("reason", sgl && [sgl.policy && `Policy ${sgl.policy}`, sgl.reason].filter(Boolean).join(": "));
  const value = sgl?.exit_score ?? null;
  byId("score").hidden = value === null;
  if (value !== null) {
    byId("scale").style.setProperty("--score", String(value / END));
    byId("score").classList.toggle("late", value > 0.5);
    byId("score-text").textContent = `exit score ${score(value)}`;
  }
  tell("said-text", sgl?.route === "large" ? sgl.small_answer : null);
  byId("said").hidden = byId("said-text").hidden;
  showScores(sgl);
}

function showScores(sgl) {
  byId("scores").hidden = !sgl?.scores;
  if (!sgl?.scores) return;
  const rows = Object.entries(CRITERIA).filter(([name]) => typeof sgl.scores[name] === "number");
  byId("scores-body").replaceChildren(...rows.map(([name, what]) => row(name, what, sgl.scores[name], decides(sgl.criterion, name))));
}

/** The paper's criterion is the mean of two. */
function decides(criterion, name) {
  return criterion === name || (criterion === "mean" && (name === "confidence" || name === "consistency"));
}

function row(name, what, value, chosen) {
  const fill = make("i");
  fill.style.width = `${100 * Math.min(1, Math.max(0, value))}%`;
  const mark = chosen ? [make("span", { className: "note deciding" }, "decides")] : [];
  const head = make("th", { scope: "row" }, name, ...mark, make("span", { className: "note about" }, what));
  return make("tr", chosen ? { className: "chosen" } : {}, head, make("td", { className: "rail" }, make("span", {}, fill)), make("td", { className: "figure" }, score(value)));
}

/**
 * Tell what a threshold would come to.
 * @param {?object} sgl of the answer that is shown
 * @param {?number} threshold
 */
export function showThreshold(sgl, threshold) {
  byId("scale").style.setProperty("--threshold", String((threshold ?? 0.5) / END));
  byId("scale").classList.toggle("open", threshold === null);
  const value = sgl?.exit_score ?? null;
  // One model alone has no threshold, though the small one has a score.
  const decided = value !== null && sgl.threshold !== null && threshold !== null;
  if (!decided) byId("would").classList.remove("other");
  if (!decided) return tell("would", sgl && "One model alone was asked, so there was nothing to decide.");
  const stays = exits(value, threshold);
  const ran = threshold === sgl.threshold;
  byId("would").classList.toggle("other", !ran && stays !== exits(value, sgl.threshold));
  tell("would", would(value, threshold, stays, ran && !sgl.degraded));
  const input = byId("threshold");
  input.setAttribute("aria-valuetext", `${byId("threshold-value").textContent}. ${byId("would").textContent}`);
}
