// What the scripts share: each attempt of a feature, and the line of JSON that says how the attempt ended.

export const MOCK_URL = process.env.MOCK_URL;
export const MOCK = "mock";
// A mock that ends an answer of its own accord after about 16 words.
export const AGENT = "agent";
export const WEATHER_SCHEMA = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer" } },
  required: ["city", "days"],
  additionalProperties: false,
};
export const PROMPTS = Array.from({ length: 24 }, (_, number) => `What is the weather like in town ${number}?`);

const attempts = [];

// Adds a function that tries a feature. Several functions may try the same feature; then all of them must pass.
export function attempt(feature, name, run) {
  attempts.push({ feature, name, run });
}

export function check(condition, found) {
  if (!condition) throw new Error(`found ${JSON.stringify(found)}`);
}

// Checks the arguments of a call of `get_weather`.
export function checkWeather(given) {
  const fields = typeof given === "string" ? JSON.parse(given) : given;
  check(typeof fields.city === "string" && Number.isInteger(fields.days), fields);
}

// The result for the first of the prompts that has one: whether the mock calls a tool of its own accord depends on the
// prompt.
export async function firstThat(prompts, resultOf) {
  for (const prompt of prompts) {
    const result = await resultOf(prompt);
    if (result) return result;
  }
  throw new Error("no prompt led to what was wanted");
}

// How often the backend of a model of the mock's node was started again.
export async function restarts(model) {
  const text = await (await fetch(`${MOCK_URL}/metrics`)).text();
  const name = `llmactors_actor_restarts_total{actor="node/serving/backends/${model}"} `;
  const line = text.split("\n").find((each) => each.startsWith(name));
  return line === undefined ? 0 : Number(line.slice(name.length));
}

export async function errorOf(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("there was no error");
}

function text(error) {
  const cause = error?.cause ? `; ${error.cause}` : "";
  const body = error?.responseBody ? `; ${error.responseBody}` : "";
  return `${error?.name}: ${error?.message}${cause}${body}`.slice(0, 1500);
}

// Makes all attempts, one after the other, and prints how each ended.
export async function runAttempts() {
  for (const { feature, name, run } of attempts) {
    let error = "";
    let note = "";
    try {
      const result = await run();
      if (typeof result === "string") note = result;
    } catch (raised) {
      error = text(raised);
    }
    console.log("\n" + `{"feature": ${JSON.stringify(feature)}, ` + JSON.stringify({ attempt: name, error, note }).slice(1));
  }
}
