// DOM: making elements, and telling people what happens.

export const $ = (id) => document.getElementById(id);

/** An element with properties, attributes (in `attributes`), listeners (on...) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  const { attributes = {}, ...own } = properties;
  Object.assign(element, own);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export function iconButton(name, label, onclick) {
  const attributes = { "aria-label": label };
  return make("button", { type: "button", className: "icon", title: label, attributes, onclick }, icon(name));
}

/** For screen readers alone. */
export function announce(text) {
  $("announcer").textContent = text;
}

let fading;

/** For everybody, and gone after a while. */
export function toast(text) {
  const place = $("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => place.classList.remove("shown"), 6000);
}

/** An error at its field, or its removal where there is no text. */
export function mark(field, text = "") {
  $(`${field}-error`).textContent = text;
  for (const each of document.querySelectorAll(`[aria-describedby~="${field}-error"]`)) {
    if (text) each.setAttribute("aria-invalid", "true");
    else each.removeAttribute("aria-invalid");
  }
}

export function download(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
