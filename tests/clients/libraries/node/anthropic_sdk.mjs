// The official client of Anthropic.

import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";
import { AGENT, MOCK, MOCK_URL, PROMPTS, WEATHER_SCHEMA, attempt, check, checkWeather, errorOf, firstThat, runAttempts } from "./report.mjs";

const client = new Anthropic({ baseURL: MOCK_URL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the weather like in Oslo?" }];
const tools = [{ name: "get_weather", description: "The weather of a city", input_schema: WEATHER_SCHEMA }];
const Weather = z.object({ city: z.string(), days: z.number().int() });

attempt("plain", "plain", async () => {
  const answer = await client.messages.create({ model: MOCK, messages, max_tokens: 8 });
  check(answer.content[0].text && answer.stop_reason === "max_tokens", answer);
  const counted = await client.messages.countTokens({ model: MOCK, messages });
  check(counted.input_tokens === answer.usage.input_tokens, { counted, answer });
});

attempt("stream", "stream", async () => {
  const whole = await client.messages.create({ model: MOCK, messages, max_tokens: 8 });
  const text = await client.messages.stream({ model: MOCK, messages, max_tokens: 8 }).finalText();
  check(text === whole.content[0].text, { text, whole });
});

attempt("schema", "schema", async () => {
  const parsed = await client.messages.parse({
    model: MOCK, messages, max_tokens: 300, output_config: { format: zodOutputFormat(Weather) },
  });
  checkWeather(parsed.parsed_output);
});

attempt("tools", "tools", async () => {
  for (const tool_choice of [{ type: "any" }, { type: "tool", name: "get_weather" }]) {
    const answer = await client.messages.create({ model: MOCK, messages, max_tokens: 300, tools, tool_choice });
    check(answer.stop_reason === "tool_use", answer);
    checkWeather(answer.content.find((block) => block.type === "tool_use").input);
  }
});

attempt("tools stream", "stream", async () => {
  let parts = 0;
  const stream = client.messages.stream({ model: MOCK, messages, max_tokens: 300, tools, tool_choice: { type: "any" } });
  stream.on("inputJson", () => (parts += 1));
  const final = await stream.finalMessage();
  checkWeather(final.content.find((block) => block.type === "tool_use").input);
  check(parts > 1, parts);
});

attempt("tool result", "loop", async () => {
  await firstThat(PROMPTS, async (prompt) => {
    let calls = 0;
    const runner = client.beta.messages.toolRunner({
      model: AGENT,
      max_tokens: 300,
      max_iterations: 6,
      messages: [{ role: "user", content: prompt }],
      tools: [{ ...tools[0], parse: (input) => input, run: () => ((calls += 1), "rain") }],
    });
    const final = await runner;
    return calls && final.stop_reason !== "tool_use";
  });
});

attempt("reasoning", "thinking", async () => {
  const answer = await client.messages.create({
    model: MOCK, messages, max_tokens: 1100, thinking: { type: "enabled", budget_tokens: 1024 },
  });
  check(answer.content.length, answer);
});

attempt("errors", "errors", async () => {
  const missing = await errorOf(() => client.messages.create({ model: "absent", messages, max_tokens: 8 }));
  check(missing instanceof Anthropic.NotFoundError && missing.error.type === "error", missing);
  const wrong = await errorOf(() => client.messages.create({ model: MOCK, messages, max_tokens: 8, temperature: 9 }));
  check(wrong instanceof Anthropic.BadRequestError && wrong.error.error.type === "invalid_request_error", wrong);
});

attempt("resume", "idempotency key", async () => {
  const headers = { "Idempotency-Key": "anthropic-npm" };
  const first = await client.messages.create({ model: MOCK, messages, max_tokens: 8 }, { headers });
  const second = await client.messages.create({ model: MOCK, messages, max_tokens: 8 }, { headers });
  check(first.id === second.id, { first, second });
});

await runAttempts();
