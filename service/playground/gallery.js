// The gallery: a tile for every picture, and for every one that is under way; the newest first.

import { confirmed } from "./dialog.js";
import { $, download, iconButton, make, toast } from "./dom.js";
import { Picture } from "./picture.js";
import { fileName } from "./record.js";
import { LIMIT } from "./store.js";

export class Gallery {
  constructor(page, store) {
    Object.assign(this, { page, store, records: [], tiles: new Map() });
    $("filter").addEventListener("change", () => this.filter());
    $("clear").addEventListener("click", () => this.clear());
  }

  async load() {
    for (const record of await this.store.all()) this.insert(record, $("tiles").firstChild);
    this.changed();
  }

  /** Tiles for a request; each becomes its picture's where it is. */
  expect(request) {
    const name = String(request.settings.label.name ?? request.settings.label);
    const pending = request.images.map(() => new Pending(name, request));
    $("tiles").prepend(...pending.map(({ element }) => element));
    request.addEventListener("change", () => pending.forEach((each, index) => each.update(index)));
    request.addEventListener("end", () => {
      if (request.state === "done") return;
      const failed = request.state === "failed" && request.problem.status >= 500;
      for (const each of pending) {
        if (failed) each.fail(() => this.page.start(request.settings));
        else each.element.remove();
      }
      this.changed();
    });
    this.changed();
    return pending;
  }

  /** Keep the pictures of a request in the place of its tiles. */
  async accept(records, pending = []) {
    for (const [index, record] of records.entries()) {
      const kept = await this.store.add(record);
      if (!kept && this.store.lasting) toast("The browser has no room for more pictures; this one is gone after a reload.");
      this.insert(record, pending[index]?.element ?? $("tiles").firstChild, pending[index]?.picture);
      pending[index]?.element.remove();
    }
    for (const old of this.records.slice(0, -LIMIT)) await this.remove(old);
    this.changed();
  }

  insert(record, before, picture) {
    record.url ??= URL.createObjectURL(record.blob);
    this.records.push(record);
    const tile = tileOf(record, this.page, picture);
    this.tiles.set(record, tile);
    $("tiles").insertBefore(tile, before ?? null);
  }

  async remove(record) {
    const tile = this.tiles.get(record);
    const focused = tile?.contains(document.activeElement);
    const next = tile?.nextElementSibling ?? tile?.previousElementSibling;
    await this.store.remove(record.id);
    this.forget(record);
    if (this.page.stage.subject === record) this.page.stage.welcome();
    if (focused) (next?.querySelector("button") ?? $("filter")).focus();
    this.changed();
  }

  forget(record) {
    this.tiles.get(record)?.remove();
    this.tiles.delete(record);
    this.records = this.records.filter((each) => each !== record);
    URL.revokeObjectURL(record.url);
  }

  async clear() {
    const many = this.records.length === 1 ? "the picture" : `all ${this.records.length} pictures`;
    if (!(await confirmed("Clear the gallery?", `This removes ${many} from this browser. It cannot be undone.`, "Clear all"))) return;
    await this.store.clear();
    for (const record of [...this.records]) this.forget(record);
    this.page.stage.welcome();
    this.changed();
    toast("The gallery is empty.");
  }

  select(record) {
    for (const [each, tile] of this.tiles) {
      tile.querySelector(".open").setAttribute("aria-pressed", String(each === record));
    }
  }

  filter() {
    const name = $("filter").value;
    for (const [record, tile] of this.tiles) tile.hidden = name !== "" && record.name !== name;
    this.count();
  }

  changed() {
    const names = [...new Set(this.records.map(({ name }) => name))].sort();
    const chosen = names.includes($("filter").value) ? $("filter").value : "";
    const options = names.map((name) => make("option", { value: name }, name));
    $("filter").replaceChildren(make("option", { value: "" }, "All classes"), ...options);
    $("filter").value = chosen;
    const empty = !this.records.length;
    $("filter").hidden = $("clear").hidden = empty;
    $("gallery-empty").hidden = $("tiles").childElementCount > 0;
    this.filter();
  }

  count() {
    const shown = this.records.filter((record) => !this.tiles.get(record).hidden).length;
    const { length } = this.records;
    const kept = this.store.lasting ? `the newest ${LIMIT} are kept in this browser` : "this browser keeps none after a reload";
    const many = shown < length ? `${shown} of ${length}` : length;
    $("gallery-count").textContent = length ? `${many} ${length === 1 ? "picture" : "pictures"}; ${kept}` : "";
  }
}

/** A tile of a request under way. */
class Pending {
  constructor(name, request) {
    this.request = request;
    this.picture = new Picture(name);
    this.words = make("span", {}, "Sending");
    this.cancel = iconButton("close", `Cancel ${name}`, () => request.cancel());
    const watch = make("button", { type: "button", className: "open", onclick: () => request.watch() }, this.picture.element);
    watch.setAttribute("aria-label", `Watch ${name}`);
    this.bar = make("div", { className: "progress" });
    this.element = make(
      "li", { className: "tile pending" },
      make("div", { className: "square" }, watch, this.bar, make("div", { className: "over" }, this.cancel)),
      make("p", {}, make("b", {}, name), this.words),
    );
  }

  update(index) {
    const { request } = this;
    this.picture.show(request.images[index].url);
    this.words.textContent = request.words;
    this.element.classList.toggle("waiting", request.state === "waiting");
    this.bar.style.setProperty("--done", request.share);
  }

  fail(again) {
    const retry = () => {
      this.element.remove();
      again();
    };
    this.element.classList.add("failed");
    this.cancel.replaceWith(
      iconButton("recall", "Try again", retry),
      iconButton("remove", "Remove", () => this.element.remove()),
    );
  }
}

function tileOf(record, page, picture) {
  const { name, seed, guidance, steps, sampler } = record;
  const shown = picture ?? new Picture(name);
  shown.show(record.url, { name: `${name}, seed ${seed}`, fade: false });
  const onclick = () => {
    page.stage.show(record);
    page.stage.reveal();
  };
  const open = make("button", { type: "button", className: "open", onclick }, shown.element);
  open.setAttribute("aria-label", `Show ${name}, seed ${seed}`);
  const more = iconButton("more", "All actions", () => page.actions.openMenu(record, more));
  more.setAttribute("aria-haspopup", "menu");
  const over = make(
    "div", { className: "over" },
    iconButton("recall", "Use these settings", () => page.actions.recall(record)),
    iconButton("download", "Download", () => download(record.blob, fileName(record))),
    more,
  );
  const facts = make("span", {}, `guidance ${guidance} · ${steps} ${sampler}`);
  return make("li", { className: "tile" }, make("div", { className: "square" }, open, over), make("p", {}, make("b", {}, name), facts));
}
