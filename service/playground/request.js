// A request under way: its progress, previews and pictures; waits and tries again where that helps.

import { Problem, readJson, send } from "./api.js";
import { events } from "./events.js";
import { bodyOf } from "./settings.js";

const PREVIEWS = 8;
const FIRST_WAIT_S = 2;
const LONGEST_WAIT_S = 30;
const FADED_MS = 2000; // when a preview is hidden by the next for certain

/** Dispatches "change" whenever something shows, and "end" once. */
export class Request extends EventTarget {
  constructor(settings, { previews = true } = {}) {
    super();
    this.settings = settings;
    this.previewEvery = previews && settings.steps >= 4 ? Math.ceil(settings.steps / PREVIEWS) : 0;
    this.state = "sending"; // then queued, running; waiting for another try; done, failed or cancelled
    this.images = Array.from({ length: settings.count }, () => ({ url: "" }));
    this.abort = new AbortController();
    this.tries = 0;
  }

  get ended() {
    return ["done", "failed", "cancelled"].includes(this.state);
  }

  /** Until the end; never raises. */
  async run() {
    while (!this.ended) {
      try {
        await this.attempt();
        this.state = "done";
      } catch (error) {
        if (this.abort.signal.aborted) this.state = "cancelled";
        else if (error instanceof Problem && error.passes) await this.wait(error);
        else {
          this.state = "failed";
          this.problem = error;
        }
      }
      this.changed();
    }
    this.dispatchEvent(new Event("end"));
  }

  /** Close the stream: the server drops the work at its next step. */
  cancel() {
    this.abort.abort();
    this.tryNow?.();
  }

  async attempt() {
    this.state = "sending";
    this.began = undefined;
    const more = this.previewEvery ? { preview_every: this.previewEvery } : {};
    const response = await send("generate", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
      body: bodyOf(this.settings, more),
      signal: this.abort.signal,
    });
    this.state = "queued";
    this.ahead = undefined;
    this.changed();
    try {
      for await (const { name, data } of events(response.body)) {
        if (this.take(name, readJson(data))) return;
      }
    } catch (error) {
      if (error instanceof Problem || this.abort.signal.aborted) throw error;
    }
    throw new Problem({ detail: "The connection broke." });
  }

  /** One event; true at the last. */
  take(name, data) {
    if (name === "error") throw new Problem(data);
    if (name === "progress") this.progressed(data);
    if (name === "preview") this.show(data.index, blobOf(data));
    if (name === "image") {
      this.show(data.index, blobOf(data));
      this.images[data.index].seed = data.seed;
    }
    if (name === "done") this.summary = data;
    this.tries = 0;
    this.changed();
    return name === "done";
  }

  show(index, blob) {
    const before = this.images[index].url;
    if (before) setTimeout(() => URL.revokeObjectURL(before), FADED_MS);
    this.images[index] = { blob, url: URL.createObjectURL(blob) };
  }

  progressed({ step, steps, ahead_in_queue: ahead }) {
    Object.assign(this, { step, steps, ahead });
    this.state = step > 0 ? "running" : "queued";
    if (step > 0) this.began ??= { at: performance.now(), step };
  }

  /** Seconds to the end of its steps, by those so far; undefined before there are two. */
  get secondsLeft() {
    const done = this.step - (this.began?.step ?? this.step);
    if (this.state !== "running" || done < 1) return undefined;
    return ((performance.now() - this.began.at) / 1e3 / done) * (this.steps - this.step);
  }

  get share() {
    return this.steps ? this.step / this.steps : 0;
  }

  /** Count down, then return for another try. */
  async wait(problem) {
    const backoff = Math.min(FIRST_WAIT_S * 2 ** this.tries++, LONGEST_WAIT_S);
    this.problem = problem;
    this.state = "waiting";
    this.waitS = Math.ceil(problem.retryAfter ?? backoff);
    const skipped = new Promise((resolve) => (this.tryNow = resolve)).then(() => true);
    for (; this.waitS > 0; this.waitS -= 1) {
      this.changed();
      if (await Promise.race([skipped, second()])) break;
    }
    this.tryNow = undefined;
    this.problem = undefined;
    this.state = this.abort.signal.aborted ? "cancelled" : "sending";
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }

  /** What it is doing, in words. */
  get words() {
    const { state, problem } = this;
    if (state === "waiting") return `${reason(problem)} Trying again in ${this.waitS} s.`;
    if (state === "failed") return problem.message;
    if (state === "cancelled") return "Cancelled.";
    if (state === "queued") return this.ahead ? `In the queue, ${this.ahead} ahead` : "Waiting for its first step";
    if (state === "running") return this.progressWords();
    return state === "done" ? "Done." : "Sending";
  }

  progressWords() {
    if (this.step >= this.steps) return "Decoding";
    const each = this.images.length;
    const [step, steps] = [this.step, this.steps].map((value) => Math.ceil(value / each));
    const left = this.secondsLeft;
    return `Step ${step} of ${steps}${left === undefined ? "" : `, ${Math.ceil(left)} s left`}`;
  }
}

function reason({ status, message, limit }) {
  if (status === 429) return limit ? `${message[0].toUpperCase()}${message.slice(1)}.` : "The queue is full.";
  if (status === 503) return `The service is not ready: ${message}.`.replace(/\.\.$/, ".");
  return message;
}

const second = () => new Promise((resolve) => setTimeout(resolve, 1000, false));

function blobOf({ b64_json: text, content_type: type = "image/png" }) {
  return new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type });
}
