// The page: what is on it, and what happens when somebody acts.

import { key } from "./api.js";
import { Actions } from "./actions.js";
import { Catalogue } from "./catalogue.js";
import { $, mark } from "./dom.js";
import { Gallery } from "./gallery.js";
import { Pace, inWords, rowSteps } from "./pace.js";
import { drawNoise } from "./picture.js";
import { recordsOf } from "./record.js";
import { Request } from "./request.js";
import { Server } from "./server.js";
import { Settings } from "./settings.js";
import { Stage } from "./stage.js";
import { Store } from "./store.js";
import { Sweep } from "./sweep.js";

const TWICE_MS = 400; // a second click that soon was meant for the same button
const NARROW = matchMedia("(max-width: 859px)");

class Page {
  constructor(server, model, catalogue, store) {
    Object.assign(this, { server, model, catalogue, requests: new Set(), started: 0 });
    this.pace = new Pace(model.digest);
    this.stage = new Stage(this);
    this.gallery = new Gallery(this, store);
    this.actions = new Actions(this);
    this.settings = new Settings(model, catalogue, () => this.changed());
    this.sweep = new Sweep(this);
    this.stage.welcome();
    this.restore();
    this.listen();
    this.ready = true;
    this.changed();
  }

  listen() {
    $("rail").addEventListener("submit", (event) => {
      event.preventDefault();
      this.generate();
    });
    $("cancel").addEventListener("click", () => performance.now() - this.started > TWICE_MS && this.cancel());
    $("another").addEventListener("click", () => this.generate());
    $("dock-generate").addEventListener("click", () => (this.busyCount ? this.cancel() : this.generate()));
    $("rail-open").addEventListener("click", () => this.openRail());
    $("rail-close").addEventListener("click", () => this.closeRail());
    $("mode").addEventListener("change", () => this.changed());
    addEventListener("hashchange", () => this.restore());
    addEventListener("keydown", (event) => this.onKey(event));
    NARROW.addEventListener("change", () => this.closeRail());
  }

  onKey(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("dialog").open) {
      event.preventDefault();
      this.generate();
    }
    if (event.key === "Escape" && $("rail").classList.contains("up")) this.closeRail();
  }

  get sweeping() {
    return $("mode").querySelector(":checked").value === "sweep";
  }

  /** A sampler that takes any number of steps, for a sweep of a preset whose own does not. */
  get plainSampler() {
    const { sampler } = this.model.limits;
    return sampler.includes("dpmpp_2m") ? "dpmpp_2m" : sampler.find((name) => !this.model.limits[name]);
  }

  get busyCount() {
    return this.requests.size + this.sweep.running.size;
  }

  /** A first picture of a class. */
  begin(entry) {
    this.settings.label.choose(entry);
    this.generate();
  }

  generate() {
    if (!this.settings.locked) this.settings.roll();
    this.settings.clearErrors();
    if (!this.settings.complete()) return this.openRail();
    this.closeRail();
    this.started = performance.now();
    this.stage.reveal();
    if (this.sweeping) this.sweep.start();
    else this.start(this.settings.value);
  }

  async start(settings) {
    const request = new Request(settings);
    const pending = this.gallery.expect(request);
    request.watch = () => this.stage.watch(request);
    request.alone = !this.busyCount;
    for (const other of this.requests) other.alone = false;
    this.requests.add(request);
    this.stage.watch(request);
    this.busy();
    await request.run();
    this.requests.delete(request);
    this.busy();
    if (request.state === "done") await this.finish(request, pending);
    else if (request.state === "cancelled") this.leave(request);
    else this.refuse(request.problem, request);
  }

  async finish(request, pending) {
    const records = recordsOf(request, this.model);
    records.forEach((record, index) => (record.url = request.images[index].url));
    if (request.alone) this.learn(request);
    await this.gallery.accept(records, pending);
    this.stage.finish(request, records);
  }

  learn({ summary: { parameters, timings } }) {
    const { num_sampling_steps: steps, cfg_scale: guidance, guidance_interval: interval, num_images: count } = parameters;
    this.pace.observe(timings.denoise + timings.decode, rowSteps({ steps, guidance, interval, count }));
    this.estimate();
  }

  /** A cancelled request leaves the stage to the next one, or to the newest picture. */
  leave(request) {
    if (this.stage.subject !== request) return;
    const [other] = this.requests;
    const newest = this.gallery.records.at(-1);
    if (other) this.stage.watch(other);
    else if (newest) this.stage.show(newest);
    else this.stage.welcome();
  }

  refuse(problem, request) {
    if (problem.status === 401) {
      this.openRail();
      this.server.needKey();
    } else if (problem.status && problem.status < 500) {
      this.openRail();
      this.settings.show(problem);
    } else if (!problem.status) {
      console.error(problem); // not an answer of the service: a fault of this page
    }
    if (request && (problem.status ?? 0) < 500) this.leave(request);
  }

  cancel() {
    this.sweep.cancel();
    for (const request of this.requests) request.cancel();
  }

  /** Generate is Cancel as long as something is under way. */
  busy() {
    this.server.tryNow?.();
    this.showButtons();
  }

  showButtons() {
    const count = this.busyCount;
    const held = $("rail").contains(document.activeElement) && document.activeElement.closest(".buttons");
    $("generate").hidden = count > 0;
    $("cancel").hidden = count === 0;
    $("another").hidden = count === 0 || this.sweeping;
    $("cancel").textContent = this.requests.size > 1 ? `Cancel all ${this.requests.size}` : "Cancel";
    $("dock-generate").textContent = count ? "Cancel" : "Generate";
    $("dock-generate").classList.toggle("cancel", count > 0);
    if (held) (count ? $("cancel") : $("generate")).focus();
  }

  changed() {
    if (!this.ready) return;
    const { sweeping } = this;
    $("sweep").hidden = !sweeping;
    $("count-field").hidden = sweeping;
    $("generate").firstElementChild.textContent = sweeping ? "Draw the sheet" : "Generate";
    this.estimate();
    this.showButtons();
    const { label, quality, guidance } = this.settings.value;
    const name = String(label.name ?? label) || "No class";
    $("summary").textContent = `${name} · ${quality ?? "custom"} · guidance ${guidance}`;
    clearTimeout(this.writing);
    this.writing = setTimeout(() => history.replaceState(null, "", `#${this.fragment}`), 200);
  }

  estimate() {
    const { settings, pace } = this;
    settings.quality.show(settings.guidance.value, settings.custom, pace);
    $("estimate").textContent = this.sweeping ? this.sweep.estimate() : this.pictureEstimate();
  }

  pictureEstimate() {
    const { value } = this.settings;
    const seconds = this.pace.seconds(value);
    const many = value.count === 1 ? "1 picture" : `${value.count || "?"} pictures`;
    return seconds ? `${many}, about ${inWords(seconds)}` : many;
  }

  get fragment() {
    const pairs = this.settings.fragment;
    if (this.sweeping) for (const [axis, values] of this.sweep.fragment) pairs.set(axis, values);
    return pairs;
  }

  restore() {
    const pairs = new URLSearchParams(location.hash.slice(1));
    if (!pairs.size) return;
    this.settings.fragment = pairs;
    this.sweep.fragment = pairs;
    const mode = pairs.has("x") ? "sweep" : "picture";
    $("mode").querySelector(`[value=${mode}]`).checked = true;
    this.changed();
  }

  /** On a phone the settings are a sheet that slides up; elsewhere they are always there. */
  openRail() {
    if (!NARROW.matches || $("rail").classList.contains("up")) return;
    $("rail").classList.add("up");
    document.querySelectorAll("main, .bar, .dock").forEach((each) => (each.inert = true));
    if (!$("rail").querySelector("[aria-invalid=true]")) $("rail-close").focus();
  }

  closeRail() {
    if (!$("rail").classList.contains("up")) return;
    $("rail").classList.remove("up");
    document.querySelectorAll("main, .bar, .dock").forEach((each) => (each.inert = false));
    if (NARROW.matches) $("rail-open").focus();
  }
}

async function begin() {
  drawNoise();
  const server = new Server();
  const models = await server.load("models");
  const catalogue = new Catalogue(await server.load("classes"));
  $("key-field").hidden = !key.get();
  $("rail").classList.remove("up");
  mark("key");
  const [model] = models.data;
  server.show(model);
  const page = new Page(server, model, catalogue, await Store.open());
  await page.gallery.load();
  document.body.classList.add("ready");
  await server.poll((samples) => {
    page.pace.learn(samples);
    page.estimate();
  });
}

begin();
