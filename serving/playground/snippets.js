// A request as a command or a program, with file names in place of pictures and no key.

const WIDTH = 88;
const quoted = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;
// The JSON stands in a here-document, where the shell still reads these.
const inHere = (text) => text.replace(/[\\$`]/g, String.raw`\$&`);

/**
 * @param {object} body
 * @param {{dataUrl: string, name: string}[]} pictures those in it
 * @param {string} base address of the endpoint's /v1/
 * @param {boolean} key whether one is needed
 */
export function curl(body, pictures, base, key) {
  const names = namesOf(pictures);
  const style = {
    text: (value) => {
      const name = names.get(value);
      if (!name) return inHere(JSON.stringify(value));
      return `"${value.slice(0, value.indexOf(",") + 1)}$(base64 < ${quoted(name)} | tr -d '\\n')"`;
    },
    word: (value) => String(value),
  };
  const lines = [
    `curl -N ${base}chat/completions \\`,
    ...(key ? ['  -H "Authorization: Bearer $SGL_API_KEY" \\'] : []),
    '  -H "Content-Type: application/json" -d @- <<JSON',
  ];
  return [...lines, printed(body, style), "JSON"].join("\n");
}

/** As `curl`, with the official client of Python. */
export function python(body, pictures, base, key) {
  const names = namesOf(pictures);
  const words = new Map([[true, "True"], [false, "False"], [null, "None"]]);
  const style = {
    text: (value) => {
      const name = names.get(value);
      return name ? `picture(${JSON.stringify(name)}, ${JSON.stringify(value.slice(5, value.indexOf(";")))})` : JSON.stringify(value);
    },
    word: (value) => words.get(value) ?? String(value),
  };
  const { sgl, ...rest } = body;
  const named = Object.entries({ ...rest, extra_body: { sgl } });
  return [
    ...(names.size ? ["import base64"] : []),
    ...(key ? ["import os"] : []),
    ...(names.size ? ["from pathlib import Path"] : []),
    ...(names.size || key ? [""] : []),
    "from openai import OpenAI",
    "",
    ...(names.size ? [PICTURE, ""] : []),
    `client = OpenAI(base_url="${base.replace(/\/$/, "")}", api_key=${key ? 'os.environ["SGL_API_KEY"]' : '"none"'})`,
    "stream = client.chat.completions.create(",
    ...named.map(([name, value]) => `    ${name}=${printed(value, style, 4)},`),
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    '        print(chunk.choices[0].delta.content or "", end="", flush=True)',
  ].join("\n");
}

const PICTURE = `
def picture(path, kind):
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return f"data:{kind};base64,{data}"
`;

// Without line ends, one of which could end the here-document, and the rest of what no shell shows.
const namesOf = (pictures) => new Map(pictures.map((one) => [one.dataUrl, one.name.replace(/\p{Cc}/gu, "_")]));

/** A value of JSON, on one line where it is short. */
function printed(value, style, depth = 0) {
  const flat = flatly(value, style);
  if (depth + flat.length <= WIDTH || value === null || typeof value !== "object") return flat;
  const pad = " ".repeat(depth + 2);
  const inner = Array.isArray(value)
    ? value.map((one) => pad + printed(one, style, depth + 2))
    : Object.entries(value).map(([name, one]) => `${pad}${JSON.stringify(name)}: ${printed(one, style, depth + 2)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return `${open}\n${inner.join(",\n")}\n${" ".repeat(depth)}${close}`;
}

function flatly(value, style) {
  if (typeof value === "string") return style.text(value);
  if (value === null || typeof value !== "object") return style.word(value);
  if (Array.isArray(value)) return `[${value.map((one) => flatly(one, style)).join(", ")}]`;
  const parts = Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${flatly(one, style)}`);
  return `{${parts.join(", ")}}`;
}
