// What has been asked and answered, and the request that comes of it.

/**
 * @typedef {{name: string, url: string, dataUrl: string, bitmap: ImageBitmap}} Picture
 * @typedef {{model: string, maxTokens: number, temperature: number,
 *   threshold: ?number, keepRatio: ?number}} Settings null leaves it to the endpoint
 * @typedef {{question: string, pictures: Picture[], settings: Settings, answer: string,
 *   state: "asked"|"streaming"|"done"|"cancelled", route: ?string, result: ?object,
 *   body: object}} Turn
 */

export const MOST_PICTURES = 8;

/** Turns in order, and the pictures that the next question brings. */
export class Conversation {
  /** @type {Turn[]} */ turns = [];
  /** @type {Picture[]} */ waiting = [];

  /** All pictures, in the order of the prompt. */
  get pictures() {
    return [...this.picturesUpTo(this.turns.length), ...this.waiting];
  }

  /** Pictures of the first turns, in the order of the prompt. @param {number} count */
  picturesUpTo(count) {
    return this.turns.slice(0, count).flatMap((turn) => turn.pictures);
  }

  /**
   * Begin a turn.
   * @param {string} question
   * @param {Picture[]} pictures
   * @param {Settings} settings
   * @returns {Turn}
   */
  begin(question, pictures, settings) {
    this.turns = this.turns.filter((turn) => turn.state === "done");
    const body = bodyOf([...this.turns, { question, pictures }], settings);
    const turn = { question, pictures, settings, body, answer: "", state: "asked", route: null, result: null };
    this.turns.push(turn);
    return turn;
  }

  /** Take the last turn out, with its pictures. @returns {Turn} */
  takeLast() {
    return this.turns.pop();
  }
}

/**
 * The body of a request.
 * @param {{question: string, pictures: Picture[], answer?: string}[]} turns the last is unanswered
 * @param {Settings} settings
 */
export function bodyOf(turns, settings) {
  const sgl = { explain: true };
  if (settings.threshold !== null) sgl.threshold = settings.threshold;
  if (settings.keepRatio !== null) sgl.keep_ratio = settings.keepRatio;
  return {
    model: settings.model,
    messages: turns.flatMap(messagesOf),
    max_tokens: settings.maxTokens,
    temperature: settings.temperature,
    stream: true,
    stream_options: { include_usage: true },
    sgl,
  };
}

function messagesOf({ question, pictures, answer }) {
  const shown = pictures.map((one) => ({ type: "image_url", image_url: { url: one.dataUrl } }));
  const content = shown.length ? [...shown, { type: "text", text: question }] : question;
  const asked = { role: "user", content };
  return answer === undefined ? [asked] : [asked, { role: "assistant", content: answer }];
}
