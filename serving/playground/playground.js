// The playground: what happens when.

import { ApiError, ask, models } from "./api.js";
import { Controls } from "./controls.js";
import { Conversation, MOST_PICTURES } from "./conversation.js";
import { showDecision, showThreshold } from "./decision_card.js";
import { byId, tell } from "./dom.js";
import { Key } from "./key.js";
import { PictureCard } from "./picture_card.js";
import { forget, readPicture } from "./pictures.js";
import { RequestCard } from "./request_card.js";
import { announce, looksAtIt, TalkCard } from "./talk_card.js";
import { showTook } from "./took_card.js";

let conversation = new Conversation();
/** @type {?import("./conversation.js").Turn} the turn that the cards tell of */
let shown = null;
/** @type {?AbortController} of the request under way */
let running = null;

const key = new Key(() => loadModels());
const controls = new Controls(() => showSettings());
const pictureCard = new PictureCard({ added: addPictures, removed: removePicture });
const talkCard = new TalkCard({ shown: showTurn, again: askAgain });
const requestCard = new RequestCard();

function showTurn(turn) {
  shown = turn;
  const sgl = turn?.result?.sgl ?? null;
  showDecision(sgl);
  showTook(turn?.result);
  requestCard.show(turn?.body ?? null, turn ? picturesOf(turn) : [], key.value !== "");
  showTalk();
  showSettings();
}

const picturesOf = (turn) => conversation.picturesUpTo(conversation.turns.indexOf(turn) + 1);

function showTalk() {
  talkCard.show(conversation.turns, shown, running !== null);
  const sgl = shown?.result?.sgl;
  const answer = sgl?.importance ? { importance: sgl.importance, sgl, pictures: picturesOf(shown) } : null;
  pictureCard.show(conversation.pictures, conversation.waiting, answer);
}

function showSettings() {
  pictureCard.keep(controls.keep.effective);
  showThreshold(shown?.result?.sgl ?? null, controls.threshold.effective);
  const last = conversation.turns.at(-1);
  const changes = last?.state === "done" && !running ? controls.changes(last.settings) : [];
  byId("again").hidden = !changes.length;
  byId("again-text").textContent = `Changed: ${changes.join(", ")}`;
}

async function addPictures(files) {
  const room = MOST_PICTURES - conversation.pictures.length;
  const read = await Promise.allSettled(files.slice(0, Math.max(0, room)).map(readPicture));
  conversation.waiting.push(...read.filter((one) => one.value).map((one) => one.value));
  pictureCard.shown = conversation.waiting.at(-1) ?? pictureCard.shown;
  const problems = read.filter((one) => one.reason).map((one) => one.reason.message);
  if (files.length > room) problems.push(`One conversation holds at most ${MOST_PICTURES} pictures.`);
  tell("pictures-note", problems.join(" "));
  showTalk();
}

function removePicture(picture) {
  conversation.waiting = conversation.waiting.filter((one) => one !== picture);
  forget(picture);
  showTalk();
}

async function loadModels() {
  talkCard.calm();
  try {
    controls.offer(await models(key.value));
  } catch (error) {
    fail(error, loadModels);
  }
}

async function askNew() {
  if (running || !byId("composer").reportValidity()) return;
  const question = byId("question").value.trim();
  if (!question) return;
  const pictures = conversation.waiting;
  byId("question").value = "";
  await askThis(question, pictures);
}

/** Ask a question; without an answer it goes back to where it was typed, or waits behind what is there now. */
async function askThis(question, pictures) {
  conversation.waiting = conversation.waiting.filter((one) => !pictures.includes(one));
  let back = true;
  await answered(question, pictures, (turn) => {
    back = !byId("question").value;
    if (back) byId("question").value = question;
    conversation.waiting = [...pictures, ...conversation.waiting];
    turn.pictures = [];
    return back;
  }, () => {
    if (back) askNew();
    else if (canAsk()) askThis(question, pictures.filter((one) => conversation.waiting.includes(one)));
  });
}

const canAsk = () => !running && byId("max-tokens").reportValidity() && byId("temperature").reportValidity();

async function askAgain() {
  if (!canAsk()) return;
  const before = conversation.takeLast();
  await answered(before.question, before.pictures, (turn) => {
    conversation.turns = [...conversation.turns.filter((one) => one !== turn), before];
    return true;
  }, askAgain);
}

/**
 * Ask, and show the answer as it comes.
 * @param {string} question
 * @param {object[]} pictures
 * @param {(turn: object) => boolean} withdraw puts things back where there is no answer; false if the question is shown nowhere then
 * @param {() => void} again what trying again is
 */
async function answered(question, pictures, withdraw, again) {
  talkCard.calm();
  running = new AbortController();
  const turn = conversation.begin(question, pictures, controls.settings);
  showTurn(turn);
  announce(looksAtIt(turn));
  try {
    turn.result = await ask(turn.body, key.value, running.signal, hearing(turn));
    finish(turn);
  } catch (error) {
    const cancelled = running.signal.aborted;
    running = null;
    drop(turn, withdraw, cancelled);
    if (!cancelled) fail(error, again);
  }
}

function hearing(turn) {
  return {
    decided: (route) => {
      Object.assign(turn, { route, state: "streaming" });
      showTalk();
      announce(`The ${route ?? ""} model answers.`);
    },
    text: (more) => {
      turn.answer += more;
      talkCard.write(turn);
    },
  };
}

function finish(turn) {
  running = null;
  turn.answer = turn.answer.trim();
  turn.state = "done";
  turn.route = turn.result.sgl?.route ?? turn.route;
  controls.learn(turn);
  showTurn(turn);
  announce(`Answer${turn.route ? ` of the ${turn.route} model` : ""}: ${turn.answer}`);
}

/** A cancelled answer stays to be read until the next question, as does a question that is shown nowhere else. */
function drop(turn, withdraw, cancelled) {
  turn.state = "cancelled";
  const shownElsewhere = withdraw(turn);
  if (!cancelled || (!turn.answer && shownElsewhere)) conversation.turns = conversation.turns.filter((one) => one !== turn);
  showTurn(conversation.turns.findLast((one) => one.state === "done") ?? null);
  announce(cancelled ? "Cancelled." : "");
}

function fail(error, again) {
  if (!(error instanceof ApiError)) throw error;
  talkCard.fail(error, again);
  if (error.status === 401) key.demand();
}

function anew() {
  conversation.pictures.forEach(forget);
  conversation = new Conversation();
  talkCard.calm();
  showTurn(null);
  byId("question").focus();
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  askNew();
});
byId("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  askNew();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
byId("cancel").addEventListener("click", () => running?.abort());
byId("anew").addEventListener("click", anew);
byId("again-ask").addEventListener("click", askAgain);
byId("again-back").addEventListener("click", () => {
  controls.settings = conversation.turns.at(-1).settings;
});
showTurn(null);
loadModels();
