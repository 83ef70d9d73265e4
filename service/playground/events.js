// Events: a server-sent event stream, read from an answer's body.

/** Every event as {name, data}. Leaving the loop closes the stream. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { name: "message", data: [] };
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line) read(line, event);
        else {
          if (event.data.length) yield { name: event.name, data: event.data.join("\n") };
          event = { name: "message", data: [] };
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function read(line, event) {
  const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
  if (field === "event") event.name = value;
  if (field === "data") event.data.push(value);
}
