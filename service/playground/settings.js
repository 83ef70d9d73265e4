// The settings: the rail's controls as one value, which a request and the address are made of.

import { writeJson } from "./api.js";
import { Combobox } from "./combobox.js";
import { $, icon, make, mark } from "./dom.js";
import { Quality } from "./quality.js";
import { Slider, Span, stopsBetween } from "./slider.js";

const FIELDS = {
  class_label: "class",
  class_id: "class",
  quality: "quality",
  sampler: "sampler",
  num_sampling_steps: "steps",
  cfg_scale: "guidance",
  guidance_interval: "interval",
  seed: "seed",
  num_images: "count",
};
const GUIDANCE_STOPS = [[3, 0.1], [6, 0.25], [10, 0.5], [Infinity, 1]];
const STEP_STOPS = [[20, 1], [50, 2], [100, 10], [250, 25], [Infinity, 50]];

const drawSeed = () => {
  const [seed] = crypto.getRandomValues(new Uint32Array(1)); // short enough to read
  return String(seed);
};

export class Settings {
  constructor(model, catalogue, onchange) {
    const { limits } = model;
    Object.assign(this, { model, catalogue, limits, onchange, locked: false });
    const changed = () => this.changed();
    this.label = new Combobox($("class"), $("class-list"), (text) => catalogue.search(text), changed);
    this.guidance = new Slider($("guidance"), {
      name: "guidance", label: "Guidance", step: 0.05, onchange: changed,
      stops: stopsBetween(...limits.cfg_scale, GUIDANCE_STOPS),
    });
    this.steps = new Slider($("steps"), {
      name: "steps", label: "Steps", step: 1, onchange: changed,
      stops: stopsBetween(...limits.num_sampling_steps, STEP_STOPS),
    });
    this.interval = new Span($("interval"), { name: "interval", onchange: changed });
    this.quality = new Quality(model, () => this.onQuality());
    for (const name of limits.sampler) $("sampler").append(make("option", {}, name));
    $("sampler").addEventListener("change", () => this.onSampler());
    $("seed").addEventListener("input", () => this.lock(true));
    $("dice").addEventListener("click", () => this.roll());
    $("lock").addEventListener("click", () => this.lock(!this.locked));
    $("count").addEventListener("input", changed);
    $("fewer").addEventListener("click", () => this.addCount(-1));
    $("more").addEventListener("click", () => this.addCount(1));
    this.reset();
    if (limits.cfg_scale[0] === limits.cfg_scale[1]) this.withoutGuidance();
  }

  withoutGuidance() {
    for (const input of $("guidance").children) input.disabled = true;
    $("guidance-hint").textContent = "This model was trained without guidance.";
  }

  reset() {
    const { defaults } = this.model;
    this.guidance.value = defaults.cfg_scale;
    this.steps.value = defaults.num_sampling_steps;
    this.interval.value = defaults.guidance_interval ?? [0, 1];
    $("sampler").value = defaults.sampler;
    $("seed").value = drawSeed();
    $("count").value = "1";
  }

  /** What a request would be made of. `label` is a class of the catalogue, or a text. */
  get value() {
    const quality = this.quality.custom ? null : this.quality.value;
    return {
      label: this.label.value,
      quality,
      guidance: this.guidance.value,
      ...(this.quality.recipe(quality, this.guidance.value) ?? this.custom),
      seed: $("seed").value.trim(),
      count: Number($("count").value || NaN),
    };
  }

  get custom() {
    return { steps: this.steps.value, sampler: $("sampler").value, interval: this.interval.value };
  }

  /** Show the settings of a picture; its seed stays until it is unlocked. */
  set value({ label, quality, guidance, steps, sampler, interval, seed, count }) {
    if (label !== undefined) this.label.value = label;
    if (guidance !== undefined) this.guidance.value = guidance;
    if (quality !== undefined) this.quality.value = quality;
    if (steps !== undefined) this.steps.value = steps;
    if (sampler !== undefined) $("sampler").value = sampler;
    if (interval !== undefined) this.interval.value = interval;
    if (count !== undefined) $("count").value = count;
    if (seed !== undefined) $("seed").value = seed;
    this.lock(seed !== undefined);
  }

  /** Custom begins with what the preset before it meant. */
  onQuality() {
    const before = this.quality.recipe(this.shown, this.guidance.value);
    if (this.quality.custom && before) {
      this.steps.value = before.steps;
      this.interval.value = before.interval;
      $("sampler").value = before.sampler;
    }
    this.changed();
  }

  /** Samplers with tables take only the steps that these were made for. */
  onSampler() {
    const made = this.tables.map(({ num_sampling_steps: steps }) => steps);
    if (made.length && !made.includes(this.steps.value)) this.steps.value = Math.max(...made);
    this.changed();
  }

  get tables() {
    return (this.quality.custom && this.limits[$("sampler").value]) || [];
  }

  changed() {
    this.shown = this.quality.value;
    this.clearErrors();
    this.restrict();
    this.onchange();
  }

  /** Show what the choices so far leave open. */
  restrict() {
    const { custom } = this.quality;
    $("custom").hidden = !custom;
    $("interval-field").hidden = !custom || !(this.guidance.value > 1);
    $("fewer").disabled = Number($("count").value) <= 1;
    $("more").disabled = Number($("count").value) >= this.limits.num_images[1];
    $("sampler-hint").textContent = madeFor(this.tables);
  }

  roll() {
    $("seed").value = drawSeed();
    this.lock(this.locked);
  }

  lock(locked) {
    this.locked = locked;
    $("lock").setAttribute("aria-pressed", String(locked));
    $("lock").replaceChildren(icon(locked ? "lock" : "open"));
    this.changed();
  }

  addCount(more) {
    const [low, high] = this.limits.num_images;
    $("count").value = Math.min(Math.max((Number($("count").value) || low) + more, low), high);
    this.changed();
  }

  clearErrors() {
    for (const name of [...new Set(Object.values(FIELDS)), "request"]) mark(name);
    $("nearest").hidden = true;
  }

  /** What is missing, marked at its field; true if nothing is. */
  complete() {
    const { label, guidance, seed, count, steps } = this.value;
    const missing = {
      class: label === "" && "Choose a class first.",
      guidance: Number.isNaN(guidance) && between("a number", this.limits.cfg_scale),
      steps: Number.isNaN(steps) && between("a whole number", this.limits.num_sampling_steps),
      seed: !/^\d{1,19}$/.test(seed) && "Needs a whole number from 0 to 2^63 - 1.",
      count: Number.isNaN(count) && between("a whole number", this.limits.num_images),
      interval: this.interval.value.some(Number.isNaN) && between("two numbers", [0, 1]),
    };
    const found = Object.entries(missing).filter(([, text]) => text);
    for (const [name, text] of found) mark(name, text);
    this.focusError();
    return !found.length;
  }

  /** A refusal in words, at the fields that it names. */
  show(problem) {
    for (const { field, message } of problem.errors) {
      mark(this.isShown(field) ? FIELDS[field] : "request", sentence(field, message, this.isShown(field)));
    }
    if (problem.status === 404) this.showNearest(problem);
    else if (!problem.errors.length) mark("request", problem.message);
    this.focusError();
  }

  isShown(field) {
    return FIELDS[field] !== undefined && $(`${FIELDS[field]}-error`).closest("[hidden]") === null;
  }

  showNearest({ nearest }) {
    mark("class", `No class is called “${this.label.input.value}”.${nearest.length ? " Nearest:" : ""}`);
    const chips = nearest.map((name) => {
      const onclick = () => {
        this.label.choose(this.catalogue.find(name) ?? name);
        this.label.input.focus();
      };
      return make("button", { type: "button", className: "chip", onclick }, name);
    });
    $("nearest").replaceChildren(...chips);
    $("nearest").hidden = !chips.length;
  }

  focusError() {
    document.querySelector(".rail [aria-invalid=true]")?.focus();
  }

  /** The address's fragment for these settings; a seed only where it is locked. */
  get fragment() {
    const { label, quality, guidance, steps, sampler, interval, seed, count } = this.value;
    const pairs = { class: label.id ?? label, quality: quality ?? "custom", guidance };
    if (!quality) Object.assign(pairs, { steps, sampler, interval: interval.join("-") });
    if (this.locked) pairs.seed = seed;
    if (count !== 1) pairs.count = count;
    return new URLSearchParams(pairs);
  }

  set fragment(pairs) {
    const number = (name) => (pairs.has(name) ? Number(pairs.get(name)) || undefined : undefined);
    const label = pairs.get("class") || undefined;
    this.value = {
      label: label && (this.catalogue.find(label) ?? label),
      quality: pairs.get("quality") ?? undefined,
      guidance: number("guidance"),
      steps: number("steps"),
      sampler: this.limits.sampler.find((name) => name === pairs.get("sampler")),
      interval: pairs.has("interval") ? pairs.get("interval").split("-").map(Number) : undefined,
      seed: /^\d+$/.test(pairs.get("seed") ?? "") ? pairs.get("seed") : undefined,
      count: number("count") ?? 1,
    };
  }
}

/** The members of a request for these settings. */
function membersOf({ label, quality, guidance, steps, sampler, interval, seed, count }) {
  const recipe = { sampler, num_sampling_steps: steps, guidance_interval: interval };
  return {
    class_label: label.id ?? label,
    cfg_scale: guidance,
    ...(quality ? { quality } : recipe),
    seed,
    num_images: count,
  };
}

export const bodyOf = (settings, more = {}) => writeJson({ ...membersOf(settings), ...more });

const between = (what, [low, high]) => `Needs ${what} from ${low} to ${high}.`;

const sentence = (field, message, shown) =>
  shown ? message[0].toUpperCase() + message.slice(1) + "." : `${field}: ${message}.`;

/** What tables there are, those for the same guidance together. */
function madeFor(tables) {
  const groups = Map.groupBy(tables, ({ cfg_scale: [low, high] }) => `guidance ${low} to ${high}`);
  const parts = [...groups].map(([range, each]) => `${each.map((one) => one.num_sampling_steps).join(", ")} steps at ${range}`);
  return parts.length ? `Made for ${parts.join("; ")}.` : "";
}
