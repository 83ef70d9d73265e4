// Snippets: a picture's request for a terminal, for Python and for the OpenAI client.

import { ROOT, key, writeJson } from "./api.js";
import { fileName } from "./record.js";

export const LANGUAGES = { curl: "curl", python: "Python", openai: "OpenAI client" };

export function snippet(language, record, catalogue) {
  return { curl, python, openai }[language](record, catalogue.label(record.label));
}

const own = ({ guidance, steps, sampler, interval, seed }) => ({
  cfg_scale: guidance,
  num_sampling_steps: steps,
  sampler,
  guidance_interval: interval,
  seed,
});

const url = (path) => new URL(path, ROOT).href;

function curl(record, label) {
  const body = writeJson({ class_label: label, ...own(record) }).replaceAll("'", "'\\''");
  const lines = [
    `curl --fail-with-body ${url("generate")}`,
    ...(key.get() ? ['-H "Authorization: Bearer $DIT_API_KEY"'] : []),
    "-H 'Content-Type: application/json' -H 'Accept: image/png'",
    `-d '${body}'`,
    `-o ${fileName(record)}`,
  ];
  return lines.join(" \\\n  ");
}

function python(record, label) {
  const headers = { Accept: "image/png" };
  const head = key.get() ? '{"Accept": "image/png", "Authorization": f"Bearer {os.environ[\'DIT_API_KEY\']}"}' : writeJson(headers);
  return `${key.get() ? "import os\n" : ""}from pathlib import Path

import httpx

answer = httpx.post(
    "${url("generate")}",
    json=${indented({ class_label: label, ...own(record) })},
    headers=${head},
    timeout=300,
)
answer.raise_for_status()
Path("${fileName(record)}").write_bytes(answer.content)
`;
}

function openai(record, label) {
  return `import base64
${key.get() ? "import os\n" : ""}from pathlib import Path

from openai import OpenAI

client = OpenAI(base_url="${url("v1")}", api_key=${key.get() ? 'os.environ["DIT_API_KEY"]' : '"none"'})
answer = client.images.generate(
    model=${JSON.stringify(record.model)},
    prompt=${JSON.stringify(String(label))},
    extra_body=${indented(own(record))},
)
Path("${fileName(record)}").write_bytes(base64.b64decode(answer.data[0].b64_json))
`;
}

/** JSON of numbers, strings and lists is Python, too. */
const indented = (value) =>
  `{\n${Object.entries(value)
    .map(([name, each]) => `        "${name}": ${name === "seed" ? each : JSON.stringify(each)},\n`)
    .join("")}    }`;
