// What the page asks of the endpoint.

import { events } from "./sse.js";

/** Addresses are relative to the page, so that it works under any path. */
export const BASE = new URL("v1/", document.baseURI).href;

/** An error of the endpoint, in OpenAI's shape, or of the way there. */
export class ApiError extends Error {
  /**
   * @param {?{message?: string, type?: string, code?: ?string, param?: ?string}} told
   * @param {?Response} response none where there was no answer at all
   */
  constructor(told, response) {
    super(told?.message ?? `The endpoint answered with status ${response?.status}.`);
    this.status = response?.status ?? 0;
    this.type = told?.type ?? "server_error";
    this.code = told?.code ?? null;
    this.param = told?.param ?? null;
    const after = Number(response?.headers.get("retry-after") ?? NaN);
    this.retryAfterS = Number.isFinite(after) ? after : null;
    this.requestId = response?.headers.get("x-request-id") ?? null;
  }
}

/**
 * Names of the models that can be asked.
 * @param {string} key
 * @returns {Promise<string[]>}
 */
export async function models(key) {
  const response = await call("models", key, {});
  return (await response.json()).data.map((one) => one.id);
}

/**
 * Ask, and hear the answer as it comes.
 * @param {object} body of the request; it asks for a stream
 * @param {string} key
 * @param {AbortSignal} signal
 * @param {{decided: (route: ?string) => void, text: (more: string) => void}} hear
 * @returns {Promise<{sgl: ?object, usage: ?object, finish: string, firstMs: ?number}>}
 */
export async function ask(body, key, signal, hear) {
  const started = performance.now();
  const headers = { "content-type": "application/json" };
  const request = { method: "POST", body: JSON.stringify(body), headers, signal };
  const response = await call("chat/completions", key, request);
  hear.decided(response.headers.get("x-sgl-route"));
  const found = { sgl: null, usage: null, finish: null, firstMs: null };
  for await (const chunk of chunks(response, signal)) {
    const choice = chunk.choices?.[0];
    if (choice?.delta?.content) {
      found.firstMs ??= performance.now() - started;
      hear.text(choice.delta.content);
    }
    found.finish = choice?.finish_reason ?? found.finish;
    found.sgl = chunk.sgl ?? found.sgl;
    found.usage = chunk.usage ?? found.usage;
  }
  if (!found.finish) throw unreached("The connection ended before the answer did.");
  return found;
}

async function* chunks(response, signal) {
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error, response);
      yield chunk;
    }
  } catch (error) {
    if (signal.aborted || error instanceof ApiError) throw error;
    throw unreached("The connection broke before the answer was there.");
  }
}

async function call(path, key, request) {
  const headers = { ...request.headers, ...(key && { authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(new URL(path, BASE), { ...request, headers });
  } catch (error) {
    if (request.signal?.aborted) throw error;
    throw unreached("There was no connection to it. Does it still run?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  throw new ApiError(told?.error ?? null, response);
}

function unreached(message) {
  return new ApiError({ message, type: "connection_error" }, null);
}
