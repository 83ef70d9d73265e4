// Memory: small values that the browser keeps, as far as it lets us.

export function recall(name, storage = "localStorage") {
  try {
    return globalThis[storage].getItem(name);
  } catch {
    return null;
  }
}

export function keep(name, value, storage = "localStorage") {
  try {
    globalThis[storage].setItem(name, value);
  } catch {
    // It is gone after a reload.
  }
}
