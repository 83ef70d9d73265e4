// A picture on the page: noise at first, then each preview fades in over the one before.

import { make } from "./dom.js";

const NOISE_SIZE = 96;

export class Picture {
  constructor(name) {
    this.element = make("div", { className: "picture" });
    this.name = name;
    this.url = "";
  }

  /** Show an image's URL; what is there already stays, and nothing changes its size. */
  show(url, { name = this.name, fade = true } = {}) {
    this.name = name;
    if (!url || url === this.url) return;
    this.url = url;
    const before = [...this.element.children];
    const image = make("img", { src: url, alt: name, draggable: false });
    if (fade) image.classList.add("fading");
    const drop = () => before.forEach((each) => each.remove());
    image.addEventListener(fade ? "animationend" : "load", drop, { once: true });
    before.forEach((each) => each.setAttribute("alt", ""));
    this.element.append(image);
  }
}

/** The style sheet's --noise: grey noise, drawn once. */
export function drawNoise() {
  const canvas = make("canvas", { width: NOISE_SIZE, height: NOISE_SIZE });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(NOISE_SIZE, NOISE_SIZE);
  for (let place = 0; place < pixels.data.length; place += 4) {
    const grey = 128 + (Math.random() + Math.random() + Math.random() - 1.5) * 90;
    pixels.data.set([grey, grey, grey, 255], place);
  }
  context.putImageData(pixels, 0, 0);
  canvas.toBlob((blob) => {
    document.documentElement.style.setProperty("--noise", `url("${URL.createObjectURL(blob)}")`);
  });
}
