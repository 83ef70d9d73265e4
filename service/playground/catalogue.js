// The catalogue: the model's classes, found by name, synonym and id.

const MOST = 50;
const SUGGESTED = 6;

/** Case, accents and kinds of space do not matter. */
const fold = (text) =>
  text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[\s_-]+/g, " ").trim();

export class Catalogue {
  constructor(entries) {
    this.entries = entries.map((entry) => {
      const { id, name, synonyms } = entry;
      const others = [...synonyms, entry.wordnet_id ?? []].flat();
      return { id, name, others, keys: [name, ...others].map(fold) };
    });
    this.byId = new Map(this.entries.map((entry) => [entry.id, entry]));
  }


  /** The best matches: whole names, then beginnings, then beginnings of words, then parts. */
  search(query) {
    const key = fold(query);
    if (!key) return this.entries.slice(0, MOST);
    return this.entries
      .map((entry) => ({ entry, rank: rankOf(entry, key) }))
      .filter(({ rank }) => rank < 5)
      .sort((a, b) => a.rank - b.rank)
      .slice(0, MOST)
      .map(({ entry }) => entry);
  }

  /** The class that a text means, or undefined. */
  find(text) {
    const key = fold(String(text));
    const named = this.entries.filter((entry) => entry.keys[0] === key);
    if (named.length === 1) return named[0];
    if (/^\d+$/.test(key) && this.byId.has(Number(key))) return this.byId.get(Number(key));
    const called = this.entries.filter((entry) => entry.keys.includes(key));
    return called.length === 1 ? called[0] : undefined;
  }

  /** A few classes from all over the list, with short names. */
  suggestions() {
    const each = this.entries.length / SUGGESTED;
    const plain = ({ name }) => name.length < 14 && !/\d/.test(name);
    const chosen = Array.from({ length: SUGGESTED }, (_, place) => {
      const part = this.entries.slice(Math.floor(place * each), Math.floor((place + 1) * each));
      return part.find(plain) ?? part[0];
    });
    return chosen.filter(Boolean);
  }

  /** How a request names the class: by its name where it is the only one of that name. */
  label(id) {
    const name = this.byId.get(id)?.name;
    return name !== undefined && this.find(name)?.id === id && !/^\d+$/.test(name) ? name : id;
  }
}

function rankOf(entry, key) {
  if (String(entry.id) === key) return 0;
  const ranks = entry.keys.map((own) => {
    if (own === key) return 0;
    if (own.startsWith(key)) return 1;
    if (own.includes(` ${key}`)) return 3;
    return own.includes(key) ? 4 : 5;
  });
  return Math.min(ranks[0], ...ranks.slice(1).map((rank) => rank + 0.5));
}
