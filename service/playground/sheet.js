// The sheet: a sweep's pictures in rows and columns, on the page and as one PNG.

import { make } from "./dom.js";
import { Picture } from "./picture.js";

const LEAST_CELL = 128;
const GAP = 8;
const MARGIN = 24;
const LINE = 24;

export class Sheet {
  /** `cells` are rows of settings; `onopen` hears of the cell that was chosen. */
  constructor({ title, note, columns, rows, corner, size }, onopen) {
    Object.assign(this, { title, note, columns, rows, corner, size });
    this.pictures = rows.map((row) => columns.map((column) => new Picture(`${row}, ${column}`)));
    const head = make("tr", {}, make("td", { className: "corner" }, ...corner.split("  ").map((part) => make("span", {}, part))), ...columns.map((text) => header(text, "col")));
    const body = rows.map((text, row) =>
      make("tr", {}, header(text, "row"), ...this.pictures[row].map((picture, column) => {
        const button = make("button", { type: "button", className: "cell", onclick: () => onopen(row, column) }, picture.element);
        button.setAttribute("aria-label", `${text}, ${columns[column]}`);
        return make("td", {}, button);
      })));
    const table = make("table", {}, make("caption", { className: "unseen" }, title), make("thead", {}, head), make("tbody", {}, ...body));
    table.style.setProperty("--across", columns.length);
    table.style.setProperty("--down", rows.length);
    this.element = make("div", { className: "sheet", tabIndex: 0, attributes: { role: "region", "aria-label": title } }, table);
  }

  show(row, column, url) {
    this.pictures[row][column].show(url);
  }

  /** One PNG with the title and the labels in it. */
  async png() {
    const cell = Math.max(this.size, LEAST_CELL);
    const canvas = make("canvas");
    const context = canvas.getContext("2d");
    const font = "14px system-ui, sans-serif";
    context.font = font;
    const labels = Math.ceil(Math.max(...[...this.rows, this.corner].map((text) => context.measureText(text).width))) + 2 * GAP;
    const titles = Math.max(context.measureText(this.title).width * 1.2, context.measureText(this.note).width);
    const across = labels + this.columns.length * (cell + GAP) - GAP;
    canvas.width = Math.ceil(Math.max(across, titles)) + 2 * MARGIN;
    const top = MARGIN + 3 * LINE + GAP;
    canvas.height = top + this.rows.length * (cell + GAP) - GAP + MARGIN;
    Object.assign(context, { fillStyle: "#fff", textBaseline: "middle" });
    context.fillRect(0, 0, canvas.width, canvas.height);
    const write = (text, x, y, own = font, colour = "#1b1b1a") => {
      Object.assign(context, { font: own, fillStyle: colour });
      context.fillText(text, x, y);
    };
    write(this.title, MARGIN, MARGIN + LINE / 2, "600 16px system-ui, sans-serif");
    write(this.note, MARGIN, MARGIN + LINE * 1.5, font, "#5f5f5c");
    write(this.corner, MARGIN, MARGIN + LINE * 2.5, font, "#5f5f5c");
    const x = (column) => MARGIN + labels + column * (cell + GAP);
    const y = (row) => top + row * (cell + GAP);
    this.columns.forEach((text, column) => write(fit(context, text, cell), x(column), MARGIN + LINE * 2.5));
    this.rows.forEach((text, row) => write(text, MARGIN, y(row) + cell / 2));
    await Promise.all(this.pictures.flatMap((line, row) => line.map(async ({ url }, column) => {
      if (url) context.drawImage(await loaded(url), x(column), y(row), cell, cell);
    })));
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }
}

const header = (text, scope) => make("th", { scope }, text);

async function loaded(url) {
  const image = make("img", { src: url });
  await image.decode();
  return image;
}

function fit(context, text, width) {
  let short = text;
  while (context.measureText(short).width > width && short.length > 2) short = `${short.slice(0, -2)}…`;
  return short;
}
