// Figures and decisions in words.

/** @param {number} value from 0 to 1 */
export const percent = (value) => `${Number((value * 100).toFixed(1))}%`;

/** @param {number} value of a score: three digits, more only where they would hide a difference */
export const score = (value) => String(Number(value.toFixed(value > 0.999 && value < 1 ? 5 : 3)));

/** @param {number} ms */
export function duration(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return ms >= 10 ? `${Math.round(ms)} ms` : `${Number(ms.toFixed(1))} ms`;
}

/** @param {number} value @param {string} currency */
export function money(value, currency) {
  const style = { style: "currency", currency, maximumSignificantDigits: 3 };
  return new Intl.NumberFormat("en", style).format(value);
}

const PREFIXES = ["", "k", "M", "G", "T", "P", "E"];

/** @param {number} value floating point operations */
export function flops(value) {
  const step = Math.min(PREFIXES.length - 1, Math.max(0, Math.floor(Math.log10(value || 1) / 3)));
  return `${Number((value / 1000 ** step).toPrecision(3))} ${PREFIXES[step]}FLOPs`;
}

/** @param {number} count @param {string} noun */
export const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

const DEGRADED = {
  large_unavailable: "The large model was not available, so the small model's answer stands.",
  large_overloaded: "The large model had too much to do, so the small model's answer stands.",
};

/** Who answered, and why, in one sentence. @param {object} sgl of a response */
export function headline(sgl) {
  if (sgl.degraded) return DEGRADED[sgl.degraded] ?? "The small model's answer had to do.";
  const decided = sgl.exit_score !== null && sgl.threshold !== null;
  if (sgl.route === "small") {
    return decided ? "The small model was sure enough, so its answer stands." : "The small model answered, as asked.";
  }
  return decided ? "The small model was not sure enough, so the large model answered." : "The large model answered, as asked.";
}

/**
 * What another threshold would come to.
 * @param {number} value the exit score
 * @param {number} threshold
 * @param {boolean} exits whether the small model's answer stands
 * @param {boolean} ran whether it is what happened
 */
export function would(value, threshold, exits, ran) {
  const side = exits ? "reaches" : "is below";
  const small = ran ? "the small model's answer stands" : "the small model's answer would stand";
  const then = exits ? small : ran ? "the large model was asked" : "the large model would be asked";
  return `${score(value)} ${side} ${threshold > 1 ? "any threshold above 1" : score(threshold)}: ${then}.`;
}

/** What each score tells. */
export const CRITERIA = {
  confidence: "mean probability of its tokens",
  consistency: "same answer from its most important tokens alone",
  entropy: "how few other tokens came into question",
  margin: "lead over the next best token",
  quantile: "probability of its weakest tokens",
};

const TITLES = {
  invalid_request_error: "The request was refused",
  rate_limit_error: "Too many requests",
  overloaded_error: "The endpoint is overloaded",
  timeout_error: "There was no answer in time",
  server_error: "The endpoint failed",
  connection_error: "The endpoint cannot be reached",
};

/** @param {import("./api.js").ApiError} error */
export function errorTitle(error) {
  if (error.code === "invalid_api_key") return "The API key is missing or wrong";
  return TITLES[error.type] ?? "There is no answer";
}

/** Small print of an error. @param {import("./api.js").ApiError} error */
export function errorNote(error) {
  const parts = [error.status >= 400 && `HTTP ${error.status}`, error.code, error.param && `at ${error.param}`];
  return [...parts, error.requestId && `request ${error.requestId}`].filter(Boolean).join(" · ");
}
