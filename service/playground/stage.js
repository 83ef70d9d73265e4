// The stage: the request that runs, the pictures that came of it, or a sheet.

import { $, announce, iconButton, make } from "./dom.js";
import { Picture } from "./picture.js";
import { factsOf } from "./record.js";

export class Stage {
  constructor(page) {
    this.page = page;
    this.subject = null; // a request, a record or a sheet
    $("pixels").addEventListener("click", () => {
      const hard = $("stage").classList.toggle("hard");
      $("pixels").setAttribute("aria-pressed", String(hard));
    });
  }

  /** Nothing yet: classes to begin with. */
  welcome() {
    this.subject = null;
    const chips = this.page.catalogue.suggestions().map((entry) => {
      const onclick = () => this.page.begin(entry);
      return make("button", { type: "button", className: "chip", onclick }, entry.name);
    });
    const welcome = make(
      "div", { className: "welcome" },
      make("p", {}, "Draw your first picture"),
      make("div", { className: "chips" }, ...chips),
      make("p", { className: "hint" }, `or search all ${this.page.catalogue.entries.length} classes by name.`),
    );
    this.fill(1, welcome);
    this.say([make("span", { className: "hint" }, "What made a picture is told here, below it.")], []);
  }

  /** Follow a request to its end. */
  watch(request) {
    this.subject = request;
    const name = String(request.settings.label.name ?? request.settings.label);
    this.name = name;
    this.pictures = request.images.map((_, index) => new Picture(`${name}, picture ${index + 1}`));
    this.bar = make("div", { className: "progress", attributes: { role: "progressbar", "aria-label": name } });
    const cells = this.pictures.map(({ element }) => make("div", { className: "cell" }, element));
    this.fill(Math.ceil(Math.sqrt(cells.length)), ...cells, this.bar);
    this.told = -1;
    request.addEventListener("change", () => this.subject === request && this.update(request));
    this.update(request);
  }

  update(request) {
    request.images.forEach(({ url }, index) => this.pictures[index].show(url));
    this.bar.style.setProperty("--done", request.share);
    this.bar.setAttribute("aria-valuenow", Math.round(request.share * 100));
    const buttons = [];
    if (request.state === "waiting" || request.state === "failed") {
      const retry = () => (request.tryNow ?? (() => this.page.start(request.settings)))();
      buttons.push(make("button", { type: "button", className: "plain", onclick: retry }, "Try now"));
    }
    if (request.state === "waiting") {
      buttons.push(make("button", { type: "button", className: "plain", onclick: () => request.cancel() }, "Give up"));
    }
    const bad = buttons.length ? "bad" : "";
    this.say([make("b", {}, this.name), make("span", { className: bad }, request.words)], buttons);
    this.tell(request);
  }

  /** Screen readers hear the quarters of the way, not every step. */
  tell({ state, share, words }) {
    const quarter = state === "running" ? `running ${Math.floor(share * 4)}` : state;
    if (quarter === this.told || state === "sending") return;
    this.told = quarter;
    announce(`${this.name}: ${words}`);
  }

  /** The records of the request that is shown: its pictures stay where they are. */
  finish(request, records) {
    if (this.subject !== request) return;
    if (records.length === 1) return this.facts(records[0]);
    this.bar.remove();
    [...$("frame").children].forEach((cell, index) => {
      const record = records[index];
      const onclick = () => this.show(record);
      const button = make("button", { type: "button", className: "cell", onclick }, cell.firstChild);
      button.setAttribute("aria-label", `Show ${record.name}, seed ${record.seed}`);
      cell.replaceWith(button);
    });
    const { parts } = factsOf(records[0]);
    this.say([make("b", {}, this.name), make("span", {}, `${records.length} pictures · ${parts.slice(1).join(" · ")} · choose one to see more`)], []);
  }

  show(record) {
    const picture = new Picture(`${record.name}, seed ${record.seed}`);
    picture.show(record.url, { fade: false });
    this.fill(1, make("div", { className: "cell" }, picture.element));
    this.facts(record);
  }

  facts(record) {
    this.subject = record;
    this.bar?.remove();
    const { name, parts, stages } = factsOf(record);
    this.say(
      [make("b", {}, name), make("span", {}, parts.join(" · ")), make("small", {}, stages)],
      this.page.actions.buttons(record),
    );
    if (this.page.sweep?.sheet) {
      const back = iconButton("sheet", "Back to the sheet", () => this.page.sweep.show());
      $("stage-actions").prepend(back);
    }
    this.page.gallery.select(record);
  }

  /** A sheet in the frame, with its own words and buttons. */
  showSheet(sheet, element) {
    this.subject = sheet;
    this.fill(1, element);
    $("frame").classList.add("wide");
  }

  /** Scroll to it, where it is out of sight. */
  reveal() {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    $("frame").scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
  }

  fill(columns, ...children) {
    const frame = $("frame");
    frame.className = "frame";
    frame.style.setProperty("--columns", columns);
    frame.replaceChildren(...children);
    $("stage").classList.toggle("bare", this.subject === null);
    this.page.gallery?.select(null);
  }

  say(words, buttons) {
    $("line").replaceChildren(...words.flatMap((word) => [word, " "]));
    const actions = $("stage-actions");
    const held = actions.contains(document.activeElement) ? document.activeElement.textContent : null;
    if (sameButtons(actions, buttons)) return;
    actions.replaceChildren(...buttons);
    if (held) buttons.find(({ textContent }) => textContent === held)?.focus();
  }
}

/** Buttons of words that are there already stay, and keep the focus. */
function sameButtons(place, buttons) {
  const texts = (list) => list.map(({ textContent }) => textContent).join();
  return buttons.length > 0 && texts(buttons) !== "" && texts([...place.children]) === texts(buttons);
}
