// Sliders: a value, or the two ends of an interval; each with a number field that takes any value.

import { make } from "./dom.js";

/** The places of a slider from `low` to `high`: finer where the values are small. */
export function stopsBetween(low, high, parts) {
  const stops = [];
  for (let value = low; value < high; ) {
    stops.push(value);
    const [, step] = parts.find(([end]) => value < end - 1e-9) ?? parts.at(-1);
    value = Math.round((value + step) * 100) / 100;
  }
  return [...stops, high];
}

export class Slider {
  /** `place` gets the two inputs; the number field has the id `name`-number. */
  constructor(place, { name, label, stops, step, onchange }) {
    this.stops = stops;
    const shared = { "aria-describedby": `${name}-error` };
    this.range = make("input", { type: "range", min: 0, max: stops.length - 1, step: 1 });
    this.range.setAttribute("aria-label", label);
    this.number = make("input", { id: `${name}-number`, type: "number", attributes: shared });
    Object.assign(this.number, { min: stops[0], max: stops.at(-1), step });
    this.range.addEventListener("input", () => this.take(this.stops[this.range.value], onchange));
    this.number.addEventListener("input", () => this.take(this.number.value, onchange, false));
    place.replaceChildren(this.range, this.number);
  }

  /** The field's number; NaN where there is none. */
  get value() {
    return this.number.value === "" ? NaN : Number(this.number.value);
  }

  set value(value) {
    this.take(value);
  }

  take(value, onchange = () => {}, write = true) {
    if (write) this.number.value = value;
    const nearest = nearestIn(this.stops, Number(value));
    this.range.value = nearest;
    this.range.setAttribute("aria-valuetext", String(value));
    this.range.style.setProperty("--to", nearest / (this.stops.length - 1 || 1));
    onchange();
  }
}

/** From noise, on the left, to the picture: `value` is [low, high] as shares of the noise range. */
export class Span {
  constructor(place, { name, onchange }) {
    this.onchange = onchange;
    const [from, to] = ["Guidance starts at noise", "Guidance ends at noise"];
    this.ranges = [from, to].map((label) => this.rangeOf(label));
    this.numbers = [from, to].map((label) => this.numberOf(label, name));
    this.track = make("div", { className: "handles" }, ...this.ranges);
    place.replaceChildren(
      make("div", { className: "ends" }, make("span", {}, "Noise"), make("span", {}, "Picture")),
      this.track,
      make("div", { className: "ends" }, ...this.numbers),
    );
    this.value = [0, 1];
  }

  rangeOf(label) {
    const range = make("input", { type: "range", min: 0, max: 1, step: 0.05, attributes: { "aria-label": label } });
    range.addEventListener("input", () => {
      const [from, to] = this.ranges.map((each) => Number(each.value));
      if (from > to) range.value = range === this.ranges[0] ? to : from; // the handles do not cross
      this.numbers.forEach((each, index) => (each.value = noiseOf(this.ranges[index].value)));
      this.draw();
      this.onchange();
    });
    return range;
  }

  numberOf(label, name) {
    const attributes = { "aria-label": label, "aria-describedby": `${name}-error` };
    const number = make("input", { type: "number", min: 0, max: 1, step: 0.05, attributes });
    number.addEventListener("input", () => {
      this.ranges.forEach((each, index) => (each.value = noiseOf(this.numbers[index].value)));
      this.draw();
      this.onchange();
    });
    return number;
  }

  get value() {
    const [high, low] = this.numbers.map((each) => (each.value === "" ? NaN : Number(each.value)));
    return [low, high];
  }

  set value([low, high]) {
    [high, low].forEach((noise, index) => {
      this.numbers[index].value = noise;
      this.ranges[index].value = noiseOf(noise);
    });
    this.draw();
  }

  draw() {
    const [from, to] = this.ranges.map((each) => each.value);
    this.track.style.setProperty("--from", from);
    this.track.style.setProperty("--to", to);
    this.ranges.forEach((each) => each.setAttribute("aria-valuetext", `${noiseOf(each.value)} of the noise`));
  }
}

/** A slider's place as a share of the noise, and the reverse. */
const noiseOf = (place) => Math.round((1 - place) * 100) / 100;

function nearestIn(stops, value) {
  const distances = stops.map((stop) => Math.abs(stop - value));
  return Math.max(distances.indexOf(Math.min(...distances)), 0);
}
