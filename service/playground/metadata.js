// Metadata: the texts in a PNG that the service made.

const SIGNATURE = 8;

/** The text chunks by keyword. */
export async function readTexts(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const view = new DataView(bytes.buffer);
  const latin = new TextDecoder("latin1");
  const texts = {};
  for (let place = SIGNATURE; place + 8 <= bytes.length; ) {
    const length = view.getUint32(place);
    const kind = latin.decode(bytes.subarray(place + 4, place + 8));
    const data = bytes.subarray(place + 8, place + 8 + length);
    if (kind === "tEXt") {
      const end = data.indexOf(0);
      texts[latin.decode(data.subarray(0, end))] = latin.decode(data.subarray(end + 1));
    } else if (kind === "iTXt") {
      const [keyword, text] = international(data);
      if (text !== undefined) texts[keyword] = text;
    }
    place += length + 12;
  }
  return texts;
}

/** Keyword, flags, language, translated keyword, text; a compressed text is left out. */
function international(data) {
  const decode = (part) => new TextDecoder().decode(part);
  const first = data.indexOf(0);
  const language = data.indexOf(0, first + 3);
  const translated = data.indexOf(0, language + 1);
  const compressed = data[first + 1] === 1;
  return [decode(data.subarray(0, first)), compressed ? undefined : decode(data.subarray(translated + 1))];
}
