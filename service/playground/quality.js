// The quality: what fast, balanced and best mean with this model at a guidance; or custom.

import { $ } from "./dom.js";
import { inWords } from "./pace.js";

const CUSTOM = "custom";

export class Quality {
  constructor(model, onchange) {
    this.presets = model.presets ?? {};
    this.defaults = model.defaults;
    this.radios = [...$("quality").querySelectorAll("input")];
    for (const radio of this.radios) {
      radio.closest("label").hidden = radio.value !== CUSTOM && !this.presets[radio.value];
      radio.addEventListener("change", onchange);
    }
    $("quality-field").hidden = !Object.keys(this.presets).length;
    this.value = this.initial;
  }

  get initial() {
    const named = this.defaults.quality;
    return named && this.presets[named] ? named : CUSTOM;
  }

  get value() {
    return this.radios.find((radio) => radio.checked)?.value ?? CUSTOM;
  }

  set value(name) {
    const known = this.presets[name] ? name : CUSTOM;
    for (const radio of this.radios) radio.checked = radio.value === known;
  }

  get custom() {
    return this.value === CUSTOM;
  }

  /** The recipe of a preset at a guidance; undefined for custom. */
  recipe(name, guidance) {
    const holds = ({ cfg_scale: [low, high] }) => low <= guidance && guidance <= high;
    const found = this.presets[name]?.find(holds);
    return found && {
      steps: found.num_sampling_steps,
      sampler: found.sampler,
      interval: found.guidance_interval ?? [0, 1],
    };
  }

  /** Write under each choice its steps and seconds. */
  show(guidance, own, pace) {
    for (const radio of this.radios) {
      const recipe = radio.value === CUSTOM ? own : this.recipe(radio.value, guidance);
      const seconds = recipe && pace.seconds({ ...recipe, guidance });
      const parts = [recipe && `${recipe.steps || "?"} steps`, seconds && inWords(seconds)];
      radio.nextElementSibling.querySelector("small").replaceChildren(
        ...parts.filter(Boolean).flatMap((part, index) => (index ? [document.createElement("br"), part] : [part])),
      );
    }
    const recipe = this.recipe(this.value, guidance);
    $("recipe").textContent = recipe ? `${recipe.sampler}${during(recipe.interval)}` : "";
  }
}

const during = ([low, high]) => (low > 0 || high < 1 ? `, guided from noise ${high} to ${low}` : "");
