// Actions: what can be done with a picture; as a row of buttons, or as a menu.

import { readJson, send } from "./api.js";
import { ask, copy } from "./dialog.js";
import { $, download, icon, iconButton, make, toast } from "./dom.js";
import { readTexts } from "./metadata.js";
import { fileName, settingsOf } from "./record.js";
import { LANGUAGES, snippet } from "./snippet.js";

export class Actions {
  /** `page` has the settings, the catalogue and the gallery. */
  constructor(page) {
    this.page = page;
    const menu = $("menu");
    menu.addEventListener("keydown", (event) => onMenuKey(menu, event));
    menu.addEventListener("toggle", ({ newState }) => {
      if (newState === "closed") this.opener?.setAttribute("aria-expanded", "false");
    });
  }

  list(record) {
    const code = Object.entries(LANGUAGES).map(([language, name]) => [
      "code", `Copy as ${name}`, () => copy(snippet(language, record, this.page.catalogue), `${name} for this picture`),
    ]);
    return [
      ["recall", "Use these settings", () => this.recall(record)],
      ["guidance", "Same seed, other guidance", () => this.vary(record)],
      ...code,
      ["download", "Download", () => download(record.blob, fileName(record))],
      ["info", "Metadata", () => showMetadata(record)],
      ["verify", "Verify", () => verify(record)],
      ["remove", "Remove", () => this.page.gallery.remove(record)],
    ].map(([name, label, run]) => ({ name, label, run }));
  }

  /** The row on the stage; code is one button there, and what it copies can be seen first. */
  buttons(record) {
    const actions = this.list(record).filter(({ name }) => name !== "code");
    actions.splice(2, 0, { name: "code", label: "Code for this picture", run: () => this.showCode(record) });
    return actions.map(({ name, label, run }) => iconButton(name, label, run));
  }

  openMenu(record, opener) {
    const items = this.list(record).map(({ name, label, run }) => {
      const onclick = () => {
        $("menu").hidePopover();
        opener.focus();
        run();
      };
      return make("button", { type: "button", onclick, attributes: { role: "menuitem", tabindex: "-1" } }, icon(name), label);
    });
    const menu = $("menu");
    menu.replaceChildren(...items);
    menu.showPopover();
    place(menu, opener.getBoundingClientRect());
    this.opener = opener;
    opener.setAttribute("aria-expanded", "true");
    items[0].focus();
  }

  recall(record) {
    this.page.settings.value = settingsOf(record, this.page.catalogue);
    toast("The settings are this picture's, with its seed kept.");
  }

  vary(record) {
    this.page.settings.value = settingsOf(record, this.page.catalogue);
    this.page.openRail();
    $("guidance").querySelector("input").focus();
    toast("The seed is kept. Change the guidance, then generate.");
  }

  showCode(record) {
    const text = (language) => snippet(language, record, this.page.catalogue);
    const area = make("textarea", { readOnly: true, rows: 16, value: text("curl"), attributes: { "aria-label": "Code", spellcheck: "false" } });
    const choices = Object.entries(LANGUAGES).map(([language, name], index) => {
      const onchange = () => (area.value = text(language));
      const radio = make("input", { type: "radio", name: "language", value: language, checked: !index, onchange });
      return make("label", {}, radio, make("span", {}, name));
    });
    const legend = make("legend", { className: "unseen" }, "Language");
    const onclick = () => copy(area.value, "the code");
    ask(
      "Code for this picture",
      [make("fieldset", { className: "segments" }, legend, ...choices), area],
      make("button", { type: "button", className: "primary", onclick }, "Copy"),
    );
  }
}

async function showMetadata(record) {
  const texts = await readTexts(record.blob);
  const parts = Object.entries(texts).flatMap(([name, text]) => [
    make("h3", {}, name),
    make("pre", { tabIndex: 0, attributes: { "aria-label": name } }, pretty(text)),
  ]);
  await ask("Metadata in the file", parts.length ? parts : [make("p", {}, "This file has no texts in it.")]);
}

function pretty(text) {
  try {
    return JSON.stringify(readJson(text), null, 2);
  } catch {
    return text;
  }
}

async function verify(record) {
  toast("Drawing it again to compare…");
  try {
    const headers = { "Content-Type": "image/png" };
    const answer = await (await send("verify", { method: "POST", headers, body: record.blob })).json();
    toast(verdict(answer));
  } catch (problem) {
    toast(`Not verified: ${problem.message}`);
  }
}

function verdict({ verified, bytes_equal: equal, max_pixel_difference: most, reason }) {
  if (equal) return "Verified: drawn again, the same bytes came out.";
  if (verified) return `Verified: drawn again, pixels differ by at most ${most} of 255 (rounding).`;
  return `Not verified: ${reason}.`;
}

function place(menu, { left, right, top, bottom }) {
  const { offsetWidth: width, offsetHeight: height } = menu;
  const x = Math.max(8, Math.min(right - width, innerWidth - width - 8, Math.max(left, 8)));
  const below = bottom + height + 8 < innerHeight;
  const y = below ? bottom + 4 : Math.max(8, top - height - 4);
  Object.assign(menu.style, { left: `${x}px`, top: `${y}px` });
}

function onMenuKey(menu, event) {
  const items = [...menu.children];
  const place = items.indexOf(document.activeElement);
  const next = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: -1 }[event.key];
  if (event.key === "Tab") menu.hidePopover();
  if (next === undefined) return;
  event.preventDefault();
  items.at(next % items.length).focus();
}
