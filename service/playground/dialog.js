// The dialog: one modal dialog for whatever has to be read or decided.

import { $, make, toast } from "./dom.js";

/** Show it; resolves to the value of the button that closed it, "" for none. */
export function ask(title, body, ...buttons) {
  const dialog = $("dialog");
  $("dialog-title").textContent = title;
  $("dialog-body").replaceChildren(...body);
  $("dialog-footer").replaceChildren(...buttons);
  $("dialog-footer").hidden = !buttons.length;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}

export async function confirmed(title, text, yes) {
  const buttons = [make("button", { value: "" }, "Keep"), make("button", { value: "yes", className: "primary" }, yes)];
  return (await ask(title, [make("p", {}, text)], ...buttons)) === "yes";
}

/** Copy a text; where the browser refuses (a page without TLS), show it to be copied by hand. */
export async function copy(text, title) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`Copied: ${title}.`);
  } catch {
    const area = make("textarea", { value: text, readOnly: true, rows: 14, attributes: { "aria-label": title } });
    const shown = ask(title, [make("p", { className: "hint" }, "Copy it with Ctrl+C."), area]);
    area.select();
    await shown;
  }
}
