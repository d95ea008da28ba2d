// The official client of OpenAI.

import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { AGENT, MOCK, MOCK_URL, PROMPTS, WEATHER_SCHEMA, attempt, check, checkWeather, errorOf, firstThat, runAttempts } from "./report.mjs";

const client = new OpenAI({ baseURL: `${MOCK_URL}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the weather like in Oslo?" }];
const weather = { name: "get_weather", description: "The weather of a city", parameters: WEATHER_SCHEMA, strict: true };
const tools = [{ type: "function", function: weather }];
const Weather = z.object({ city: z.string(), days: z.number().int() });

attempt("plain", "plain", async () => {
  const answer = await client.chat.completions.create({ model: MOCK, messages, max_tokens: 8 });
  check(answer.choices[0].message.content && answer.usage.completion_tokens === 8, answer);
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  check(names.includes(MOCK), names);
});

attempt("stream", "stream", async () => {
  const whole = await client.chat.completions.create({ model: MOCK, messages, max_tokens: 8 });
  const stream = await client.chat.completions.create({
    model: MOCK, messages, max_tokens: 8, stream: true, stream_options: { include_usage: true },
  });
  let text = "";
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  check(text === whole.choices[0].message.content && usage.completion_tokens === 8, { text, usage });
});

attempt("schema", "schema", async () => {
  const response_format = zodResponseFormat(Weather, "weather");
  const parsed = await client.chat.completions.parse({ model: MOCK, messages, response_format });
  checkWeather(parsed.choices[0].message.parsed);
  const stream = client.chat.completions.stream({ model: MOCK, messages, response_format });
  checkWeather((await stream.finalChatCompletion()).choices[0].message.parsed);
});

attempt("tools", "tools", async () => {
  for (const tool_choice of ["required", { type: "function", function: { name: "get_weather" } }]) {
    const answer = await client.chat.completions.create({ model: MOCK, messages, tools, tool_choice });
    checkWeather(answer.choices[0].message.tool_calls[0].function.arguments);
  }
});

attempt("tools", "parsed", async () => {
  const answer = await client.chat.completions.parse({
    model: MOCK, messages, tool_choice: "required", tools: [zodFunction({ name: "get_weather", parameters: Weather })],
  });
  checkWeather(answer.choices[0].message.tool_calls[0].function.parsed_arguments);
});

attempt("tools stream", "stream", async () => {
  const whole = await client.chat.completions.create({ model: MOCK, messages, tools, tool_choice: "required" });
  const stream = client.chat.completions.stream({ model: MOCK, messages, tools, tool_choice: "required" });
  let parts = 0;
  stream.on("tool_calls.function.arguments.delta", () => (parts += 1));
  const final = await stream.finalChatCompletion();
  const call = final.choices[0].message.tool_calls[0].function;
  check(call.arguments === whole.choices[0].message.tool_calls[0].function.arguments && parts > 1, { call, parts });
});

attempt("tool result", "loop", async () => {
  await firstThat(PROMPTS, async (prompt) => {
    let calls = 0;
    const runner = client.chat.completions.runTools(
      {
        model: AGENT,
        messages: [{ role: "user", content: prompt }],
        max_tokens: 200,
        tools: [{ type: "function", function: { ...weather, parse: JSON.parse, function: () => ((calls += 1), "rain") } }],
      },
      { maxChatCompletions: 6 },
    );
    const text = await runner.finalContent().catch(() => null);
    return calls && text;
  });
});

attempt("logprobs", "logprobs", async () => {
  const answer = await client.chat.completions.create({ model: MOCK, messages, max_tokens: 4, logprobs: true, top_logprobs: 2 });
  check(answer.choices[0].logprobs.content.length === 4, answer);
});

attempt("reasoning", "effort", async () => {
  const answer = await client.chat.completions.create({ model: MOCK, messages, max_tokens: 8, reasoning_effort: "medium" });
  check(answer.choices[0].message.content, answer);
});

attempt("embeddings", "embeddings", async () => {
  const made = await client.embeddings.create({ model: MOCK, input: ["red", "blue"] });
  check(made.data.length === 2 && typeof made.data[1].embedding[0] === "number", made);
});

attempt("responses", "responses", async () => {
  const made = await client.responses.create({ model: MOCK, input: "Hello", max_output_tokens: 8 });
  check(made.output_text, made);
  const stream = client.responses.stream({ model: MOCK, input: "Hello", max_output_tokens: 8 });
  check((await stream.finalResponse()).output_text === made.output_text, made);
});

attempt("responses tools", "tools", async () => {
  const asked = { model: MOCK, input: messages, tools: [{ type: "function", ...weather }], max_output_tokens: 300 };
  const made = await client.responses.create({ ...asked, tool_choice: "required" });
  const call = made.output.find((item) => item.type === "function_call");
  checkWeather(call.arguments);
  const result = { type: "function_call_output", call_id: call.call_id, output: "rain" };
  const after = await client.responses.create({ ...asked, input: [...messages, call, result], tool_choice: "none" });
  check(after.output_text, after);
  const final = await client.responses.stream({ ...asked, tool_choice: "required" }).finalResponse();
  checkWeather(final.output.find((item) => item.type === "function_call").arguments);
});

attempt("responses tools", "schema", async () => {
  const made = await client.responses.parse({ model: MOCK, input: "Hello", text: { format: zodTextFormat(Weather, "weather") } });
  checkWeather(made.output_parsed);
});

attempt("errors", "errors", async () => {
  const missing = await errorOf(() => client.chat.completions.create({ model: "absent", messages }));
  check(missing instanceof OpenAI.NotFoundError, missing);
  const wrong = await errorOf(() => client.chat.completions.create({ model: MOCK, messages, temperature: 9 }));
  check(wrong instanceof OpenAI.BadRequestError && wrong.param === "temperature", wrong);
});

attempt("resume", "idempotency key", async () => {
  const asked = { model: MOCK, messages, max_tokens: 8 };
  const headers = { "Idempotency-Key": "openai-npm" };
  const first = await client.chat.completions.create(asked, { headers });
  const second = await client.chat.completions.create(asked, { headers });
  check(first.id === second.id, { first, second });
});

await runAttempts();
