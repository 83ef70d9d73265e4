// The server's state: what it serves and how busy it is, asked for gently; and waiting where it is away.

import { Problem, getJson, key, send } from "./api.js";
import { $, mark } from "./dom.js";

const POLL_S = 3;
const WINDOW_MS = 30_000;
const LONGEST_WAIT_S = 15;

export class Server {
  constructor() {
    this.history = []; // [time, images finished]
    this.misses = 0;
    $("offline-retry").addEventListener("click", () => this.tryNow?.());
    $("key").addEventListener("input", () => {
      key.set($("key").value.trim());
      mark("key");
    });
    $("key").addEventListener("change", () => this.tryNow?.());
    $("rail").addEventListener("submit", (event) => event.preventDefault()); // Enter, before there is a page
    document.addEventListener("visibilitychange", () => document.hidden || this.tryNow?.());
  }

  /** What a path answers, however long that takes. */
  async load(path) {
    for (;;) {
      try {
        const answer = await getJson(path);
        this.back();
        return answer;
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        await this.away(problem);
      }
    }
  }

  show(model) {
    $("fact-model").textContent = `${model.id}, ${model.image_size} px, ${model.num_classes} classes`;
    $("fact-device").textContent = `${model.device}, ${model.dtype}`;
    $("fact-model").title = `${model.architecture}; weights ${model.digest.slice(0, 12)}; ${model.licence ?? "licence unknown"}`;
  }

  /** Poll until the page is closed; not while nobody looks. */
  async poll(onsamples) {
    for (;;) {
      if (document.hidden) {
        await this.pause(3600);
        continue;
      }
      try {
        const samples = await this.samples();
        this.back();
        if (samples.size) this.busy(samples);
        onsamples(samples);
        await this.pause(POLL_S);
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        await this.away(problem);
      }
    }
  }

  /** From /metrics; where a proxy keeps those to itself, none, but the service must be ready. */
  async samples() {
    if (!this.closed) {
      try {
        const samples = samplesOf(await (await send("metrics")).text());
        if (samples.get("dit_ready") !== 0) return samples;
      } catch (problem) {
        this.closed = [403, 404].includes(problem.status);
        if (!this.closed) throw problem;
        $("fact-queue").textContent = $("fact-speed").textContent = "not told";
      }
    }
    await send("readyz");
    return new Map();
  }

  busy(samples) {
    const [waiting, running] = ["waiting", "running"].map((kind) => samples.get(`dit_requests_${kind}`) ?? 0);
    $("fact-queue").textContent = waiting ? `${running} running, ${waiting} waiting` : running ? `${running} running` : "free";
    const now = performance.now();
    this.history.push([now, samples.get('dit_images_total{outcome="ok"}') ?? 0]);
    while (now - this.history[0][0] > WINDOW_MS) this.history.shift();
    const [[began, first], [, last]] = [this.history[0], this.history.at(-1)];
    const rate = last > first ? ((last - first) / (now - began)) * 1e3 : 0;
    $("fact-speed").textContent = rate ? `${rate.toFixed(rate < 10 ? 1 : 0)} images/s` : running ? "working" : "idle";
  }

  back() {
    this.misses = 0;
    $("offline").hidden = true;
  }

  /** Say what is being waited for, count down, and return for another try. */
  async away(problem) {
    if (problem.status === 401) return this.askForKey();
    const longest = Math.min(2 ** ++this.misses, LONGEST_WAIT_S);
    $("offline").hidden = false;
    $("fact-queue").textContent = $("fact-speed").textContent = "–";
    const seconds = Math.min(problem.retryAfter ?? longest, LONGEST_WAIT_S);
    if ($("offline-text").textContent !== reason(problem)) $("offline-text").textContent = reason(problem);
    for (let left = seconds; left > 0; left -= 1) {
      $("offline-retry").textContent = `Try now (${left})`;
      if (await this.pause(1)) break;
    }
  }

  askForKey() {
    this.needKey();
    return this.pause(3600);
  }

  needKey() {
    $("key-field").hidden = false;
    $("rail").classList.add("up"); // a phone shows the settings only so
    mark("key", key.get() ? "The service does not take this key." : "The service asks for a key.");
    $("key").focus();
  }

  /** True if somebody wants to try now. */
  pause(seconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000, false);
      this.tryNow = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  }
}

function reason({ status, message }) {
  if (status === 0) return "The service does not answer. Waiting for it to come back.";
  if (status === 503) return `Waiting for the service: ${message}.`;
  return `Waiting for the service, which answers ${status}: ${message}`;
}

/** The samples of a Prometheus text, by name with labels. */
function samplesOf(text) {
  const lines = text.split("\n").filter((line) => line && !line.startsWith("#"));
  return new Map(lines.map((line) => {
    const end = line.lastIndexOf(" ");
    return [line.slice(0, end), Number(line.slice(end + 1))];
  }));
}
