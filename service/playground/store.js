// The store: pictures in the browser's database, the newest LIMIT of them.

export const LIMIT = 300;
const PICTURES = "pictures";

export class Store {
  /** Where the browser refuses a database, pictures last as long as the page. */
  static async open() {
    try {
      const opening = indexedDB.open("dit-playground", 1);
      opening.onupgradeneeded = () =>
        opening.result.createObjectStore(PICTURES, { keyPath: "id", autoIncrement: true });
      return new Store(await result(opening));
    } catch {
      return new Store(null);
    }
  }

  constructor(database) {
    this.database = database;
    this.next = -1;
  }

  get lasting() {
    return this.database !== null;
  }

  /** Every record, the oldest first. */
  async all() {
    return this.database ? result(this.pictures("readonly").getAll()) : [];
  }

  /** Give the record its id; true if it will be there after a reload. */
  async add(record) {
    const { url, ...kept } = record;
    try {
      record.id = await result(this.pictures("readwrite").add(kept));
      return true;
    } catch {
      record.id = this.next--; // no database, or no room
      return false;
    }
  }

  async remove(id) {
    if (this.database) await result(this.pictures("readwrite").delete(id));
  }

  async clear() {
    if (this.database) await result(this.pictures("readwrite").clear());
  }

  pictures(mode) {
    return this.database.transaction(PICTURES, mode).objectStore(PICTURES);
  }
}

const result = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("blocked"));
  });
