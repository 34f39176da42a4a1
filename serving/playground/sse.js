// Server-sent events, wherever the network cuts them.

/** Puts lines together to events. */
export class EventParser {
  #rest = "";
  #data = [];

  /**
   * Take more of the stream.
   * @param {string} text as it came, cut anywhere
   * @returns {string[]} the data of each event that is now whole
   */
  push(text) {
    // A CR at the very end may be half of a CRLF: it waits for what follows.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    return lines.flatMap((line) => this.#line(line));
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const [, field, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (field === "data") this.#data.push(value ?? "");
    return [];
  }

  #dispatch() {
    const whole = this.#data.length ? [this.#data.join("\n")] : [];
    this.#data = [];
    return whole;
  }
}

/**
 * The data of each event of a response's body.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<string>}
 */
export async function* events(body) {
  const parser = new EventParser();
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield* parser.push(value);
  }
}
