// The sweep: two settings varied against each other, drawn as one sheet.

import { axesOf, valuesOf } from "./axis.js";
import { $, announce, download, iconButton, make, mark } from "./dom.js";
import { inWords } from "./pace.js";
import { recordsOf } from "./record.js";
import { Request } from "./request.js";
import { Sheet } from "./sheet.js";

const AT_ONCE = 4;
const MOST_CELLS = 144;

export class Sweep {
  constructor(page) {
    this.page = page;
    this.axes = axesOf(page.model, page.catalogue);
    this.running = new Set();
    for (const [axis, name] of [["x", "guidance"], ["y", "seed"]]) {
      const options = Object.entries(this.axes).map(([value, { heading }]) => make("option", { value }, heading));
      $(`${axis}-axis`).replaceChildren(...options);
      $(`${axis}-axis`).addEventListener("change", () => this.choose(axis, $(`${axis}-axis`).value));
      $(`${axis}-values`).addEventListener("input", () => page.changed());
      this.choose(axis, name);
    }
  }

  choose(axis, name, values = this.axes[name].initial.join(", ")) {
    $(`${axis}-axis`).value = name;
    $(`${axis}-values`).value = values;
    const other = axis === "x" ? "y" : "x";
    if ($(`${other}-axis`).value === name) {
      const free = Object.keys(this.axes).find((each) => each !== name);
      this.choose(other, free);
    }
    this.page.changed();
  }

  /** The two axes with their values; errors are marked, and then there is no plan. */
  get plan() {
    const [x, y] = ["x", "y"].map((axis) => {
      mark(axis);
      const own = this.axes[$(`${axis}-axis`).value];
      try {
        return { ...own, values: valuesOf(own, $(`${axis}-values`).value) };
      } catch (error) {
        return void mark(axis, error.message);
      }
    });
    if (!x || !y) return undefined;
    if (x.values.length * y.values.length > MOST_CELLS) return void mark("y", `A sheet has at most ${MOST_CELLS} pictures.`);
    return { x, y, cells: y.values.map((down) => x.values.map((across) => this.cell(x, y, across, down))) };
  }

  /** The settings of one cell. A varied recipe begins with what the preset means. */
  cell(x, y, across, down) {
    const { settings } = this.page;
    const base = settings.value;
    const cell = { ...base, count: 1, ...x.set(across), ...y.set(down) };
    if (!x.recipe && !y.recipe) return { ...cell, ...settings.quality.recipe(base.quality, cell.guidance) };
    const { limits } = this.page.model;
    const replaced = limits[cell.sampler] && base.quality; // fitted and ns take few numbers of steps
    return { ...cell, sampler: replaced ? this.page.plainSampler : cell.sampler, quality: null };
  }

  /** How many pictures, and about how long. */
  estimate() {
    const cells = this.plan?.cells.flat();
    if (!cells) return "";
    const seconds = this.page.pace.together(cells);
    const many = cells.length === 1 ? "1 picture" : `${cells.length} pictures`;
    return seconds === undefined ? many : `${many}, about ${inWords(seconds)}`;
  }

  async start() {
    const { plan, page } = this;
    if (!plan) return;
    this.cancel();
    const { x, y, cells } = plan;
    const shown = ({ show = String }, value) => show(value);
    const run = { records: cells.map((row) => row.map(() => null)), total: cells.flat().length, done: 0 };
    Object.assign(this, { run, sheet: new Sheet({
      title: titleOf(x, y, cells[0][0]),
      note: noteOf(x, y, cells[0][0], page.model),
      columns: x.values.map((value) => shown(x, value)),
      rows: y.values.map((value) => shown(y, value)),
      corner: `${x.heading} →  ${y.heading} ↓`,
      size: page.model.image_size,
    }, (row, column) => this.open(run, row, column)) });
    this.show();
    const queue = cells.flatMap((line, row) => line.map((settings, column) => ({ settings, row, column })));
    await Promise.all(Array.from({ length: AT_ONCE }, () => this.work(run, queue)));
    if (run.stopped) return;
    run.ended = true;
    this.say(run);
    announce(`The sheet is finished: ${run.done} of ${run.total} pictures.`);
  }

  async work(run, queue) {
    while (queue.length && !run.stopped) {
      const { settings, row, column } = queue.shift();
      const request = new Request(settings, { previews: false });
      this.running.add(request);
      this.page.busy();
      request.addEventListener("change", () => this.say(run, request));
      await request.run();
      this.running.delete(request);
      if (request.state === "done") this.take(run, request, row, column);
      else if (request.state === "failed") this.fail(run, request);
      this.page.busy();
    }
  }

  take(run, request, row, column) {
    const [record] = recordsOf(request, this.page.model);
    record.url = request.images[0].url;
    run.records[row][column] = record;
    run.done += 1;
    if (run === this.run) this.sheet.show(row, column, record.url);
    this.say(run);
  }

  /** What is refused once would be refused again. */
  fail(run, request) {
    if (run.stopped) return;
    run.problem = request.problem;
    this.stop(run);
    this.page.refuse(request.problem);
  }

  cancel() {
    if (this.run) this.stop(this.run);
  }

  stop(run) {
    run.stopped = !run.ended;
    for (const request of this.running) request.cancel();
    this.say(run);
  }

  show() {
    this.page.stage.showSheet(this.sheet, this.sheet.element);
    this.say(this.run);
  }

  say(run, request) {
    if (run !== this.run || this.page.stage.subject !== this.sheet) return;
    const waiting = request?.state === "waiting" ? request.words : "";
    const state = run.problem?.message ?? (run.stopped ? "cancelled" : run.ended ? "" : "under way");
    const words = [`${run.done} of ${run.total} pictures`, state, waiting].filter(Boolean).join(" · ");
    const save = iconButton("download", "Download the sheet as PNG", () => this.save());
    save.disabled = !run.done;
    this.page.stage.say([make("b", {}, this.sheet.title), make("span", {}, words)], [save]);
  }

  async save() {
    download(await this.sheet.png(), `sheet-${this.sheet.title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}.png`);
  }

  /** A cell goes to the gallery when somebody looks at it. */
  async open(run, row, column) {
    const record = run.records[row][column];
    if (!record) return;
    if (record.id === undefined) await this.page.gallery.accept([record]);
    this.page.stage.show(record);
  }

  get fragment() {
    return ["x", "y"].map((axis) => [axis, `${$(`${axis}-axis`).value}:${$(`${axis}-values`).value}`]);
  }

  set fragment(pairs) {
    for (const axis of ["x", "y"]) {
      const [name, ...values] = (pairs.get(axis) ?? "").split(":");
      if (Object.hasOwn(this.axes, name)) this.choose(axis, name, values.join(":"));
    }
  }
}

const nameOf = ({ label }) => String(label.name ?? label);

function titleOf(x, y, cell) {
  const varied = `${x.heading.toLowerCase()} by ${y.heading.toLowerCase()}`;
  return [x, y].some(({ heading }) => heading === "Class") ? `Classes, ${varied}` : `${nameOf(cell)}, ${varied}`;
}

/** What all cells have in common. */
function noteOf(x, y, { guidance, steps, sampler, seed, quality }, model) {
  const varied = new Set([x.heading, y.heading].map((heading) => heading.toLowerCase()));
  const fixed = { guidance: `guidance ${guidance}`, seed: `seed ${seed}` };
  if (quality) fixed.quality = `quality ${quality}`;
  else Object.assign(fixed, { steps: `${steps} steps`, sampler });
  const parts = Object.entries(fixed).filter(([name]) => !varied.has(name)).map(([, text]) => text);
  return [...parts, model.id].join(" · ");
}
