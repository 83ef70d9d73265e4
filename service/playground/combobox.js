// The combobox: one class, chosen from a list that typing narrows (the ARIA pattern of that name).

import { make } from "./dom.js";

export class Combobox {
  /** `search` gives entries for a text; `onchange` hears of every choice and every edit. */
  constructor(input, list, search, onchange) {
    Object.assign(this, { input, list, search, onchange, options: [], active: -1, chosen: null });
    input.addEventListener("input", () => {
      this.chosen = null;
      this.open();
      onchange();
    });
    input.addEventListener("click", () => this.open());
    input.addEventListener("blur", () => this.close());
    input.addEventListener("focus", () => input.select());
    input.addEventListener("keydown", (event) => this.onKey(event));
    list.addEventListener("mousedown", (event) => event.preventDefault()); // the focus stays in the field
    list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.choose(this.options[Number(option.dataset.place)]);
    });
  }

  /** What a request takes: an entry, or the text where no class was chosen. */
  get value() {
    return this.chosen ?? this.input.value.trim();
  }

  /** Show an entry, or a text. */
  set value(value) {
    this.chosen = typeof value === "object" ? value : null;
    this.input.value = this.chosen ? this.chosen.name : (value ?? "");
  }

  choose(entry) {
    this.value = entry;
    this.close();
    this.onchange();
  }

  open() {
    this.options = this.search(this.chosen ? "" : this.input.value);
    const nodes = this.options.map((entry, place) => optionOf(entry, place, this.input.value));
    this.list.replaceChildren(...(nodes.length ? nodes : [nothing()]));
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    const own = this.options.indexOf(this.chosen);
    this.activate(own >= 0 ? own : this.input.value && this.options.length ? 0 : -1);
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.activate(-1);
  }

  activate(place) {
    this.list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    this.active = place;
    const option = place >= 0 ? this.list.children[place] : null;
    option?.setAttribute("aria-selected", "true");
    option?.scrollIntoView({ block: "nearest" });
    if (option) this.input.setAttribute("aria-activedescendant", option.id);
    else this.input.removeAttribute("aria-activedescendant");
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey) return;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (step) this.move(step);
    else if (event.key === "Enter" && !this.list.hidden && this.active >= 0) {
      this.choose(this.options[this.active]);
    } else if (event.key === "Escape" && !this.list.hidden) this.close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  move(step) {
    if (this.list.hidden) return this.open();
    const last = this.options.length - 1;
    const next = this.active + step;
    const wraps = Math.abs(step) === 1 && last >= 0;
    if (wraps && next < 0) return this.activate(last);
    if (wraps && next > last) return this.activate(0);
    this.activate(Math.max(Math.min(next, last), last < 0 ? -1 : 0));
  }
}

function optionOf(entry, place, text) {
  const other = entry.others.join(", ");
  const option = make(
    "li",
    { id: `class-${place}`, attributes: { role: "option", "aria-selected": "false" } },
    make("span", {}, ...marked(entry.name, text.trim())),
    make("small", {}, other ? `${other} · ${entry.id}` : String(entry.id)),
  );
  option.dataset.place = place;
  return option;
}

const nothing = () =>
  make("li", { className: "none", attributes: { role: "option", "aria-disabled": "true" } }, "No class has this in its name.");

/** The name with the text that was typed in it marked. */
function marked(name, text) {
  const place = text ? name.toLowerCase().indexOf(text.toLowerCase()) : -1;
  if (place < 0) return [name];
  const end = place + text.length;
  return [name.slice(0, place), make("mark", {}, name.slice(place, end)), name.slice(end)];
}
