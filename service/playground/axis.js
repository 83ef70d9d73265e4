// An axis of a sweep: a setting, and the values that it takes.

const MOST_VALUES = 24;

/** By name: a heading, values to begin with, how to read one, how to set it in settings. */
export function axesOf({ limits }, catalogue) {
  const number = (low, high, whole) => (text) => {
    const value = Number(text);
    if (!(value >= low && value <= high) || (whole && !Number.isInteger(value))) {
      throw new Error(`${text} is not ${whole ? "a whole number" : "a number"} from ${low} to ${high}.`);
    }
    return value;
  };
  const plain = limits.sampler.filter((name) => !limits[name]); // others have tables for a few steps
  const [low, high] = limits.cfg_scale;
  return {
    guidance: {
      heading: "Guidance", read: number(low, high, false), set: (guidance) => ({ guidance }),
      initial: [1, 1.5, 2, 4].filter((value) => value >= low && value <= high),
    },
    seed: {
      heading: "Seed", initial: ["1..4"], set: (seed) => ({ seed }),
      read(text) {
        if (/^\d{1,19}$/.test(text)) return text;
        throw new Error(`${text} is not a whole number from 0 to 2^63 - 1.`);
      },
    },
    steps: {
      heading: "Steps", recipe: true, read: number(...limits.num_sampling_steps, true), set: (steps) => ({ steps }),
      initial: [5, 10, 20, 50].filter((value) => value <= limits.num_sampling_steps[1]),
    },
    sampler: {
      heading: "Sampler", recipe: true, initial: plain, set: (sampler) => ({ sampler }),
      read(text) {
        if (limits.sampler.includes(text)) return text;
        throw new Error(`${text} is not one of ${limits.sampler.join(", ")}.`);
      },
    },
    class: {
      heading: "Class", initial: catalogue.suggestions().slice(0, 4).map(({ name }) => name),
      set: (label) => ({ label }), show: ({ name }) => name,
      read(text) {
        const found = catalogue.find(text);
        if (found) return found;
        throw new Error(`No class is called ${text}.`);
      },
    },
  };
}

/** The values of a list such as "1, 2, 5..8". */
export function valuesOf(axis, text) {
  const parts = text.split(",").map((part) => part.trim()).filter(Boolean).flatMap(expand);
  if (!parts.length) throw new Error("Needs at least one value.");
  if (parts.length > MOST_VALUES) throw new Error(`Takes at most ${MOST_VALUES} values.`);
  return parts.map((part) => axis.read(part));
}

function expand(part) {
  const range = /^(\d{1,15})\s*\.\.\s*(\d{1,15})$/.exec(part);
  if (!range) return [part];
  const [from, to] = range.slice(1).map(Number);
  if (to < from) throw new Error(`${part} ends before it begins.`);
  return Array.from({ length: Math.min(to - from, MOST_VALUES) + 1 }, (_, place) => String(from + place));
}
