// Vercel's `ai`, with the provider that the argument names: `compatible`, `chat`, `responses` or `anthropic`.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, embedMany, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";
import { AGENT, MOCK, MOCK_URL, PROMPTS, attempt, check, checkWeather, errorOf, firstThat, restarts, runAttempts } from "./report.mjs";

const kind = process.argv[2];
const baseURL = `${MOCK_URL}/v1`;
const openai = createOpenAI({ baseURL, apiKey: "none" });
const compatible = createOpenAICompatible({ name: "llmactors", baseURL, supportsStructuredOutputs: true });
const anthropic = createAnthropic({ baseURL, apiKey: "none" });
const models = {
  compatible: (name) => compatible.chatModel(name),
  chat: (name) => openai.chat(name),
  responses: (name) => openai.responses(name),
  anthropic: (name) => anthropic(name),
};
const model = models[kind];
const common = { maxRetries: 0 };
const prompt = "What is the weather like in Oslo?";
const schema = z.object({ city: z.string(), days: z.number().int() });
const get_weather = { description: "The weather of a city", inputSchema: schema };

function fail({ error }) {
  throw error;
}

attempt("plain", "generateText", async () => {
  const { text, usage } = await generateText({ ...common, model: model(MOCK), prompt, maxOutputTokens: 20 });
  check(text && usage.outputTokens === 20, { text, usage });
});

attempt("stream", "streamText", async () => {
  const whole = await generateText({ ...common, model: model(MOCK), prompt, maxOutputTokens: 20 });
  const result = streamText({ ...common, model: model(MOCK), prompt, maxOutputTokens: 20, onError: fail });
  let text = "";
  for await (const part of result.textStream) text += part;
  check(text === whole.text && (await result.finishReason) === "length", { text, whole: whole.text });
});

attempt("schema", "generateObject", async () => {
  checkWeather((await generateObject({ ...common, model: model(AGENT), prompt, schema })).object);
});

attempt("schema", "Output.object", async () => {
  const result = await generateText({ ...common, model: model(AGENT), prompt, output: Output.object({ schema }) });
  checkWeather(result.output);
});

attempt("schema", "streamObject", async () => {
  const result = streamObject({ ...common, model: model(AGENT), prompt, schema, onError: fail });
  let parts = 0;
  for await (const _ of result.partialObjectStream) parts += 1;
  checkWeather(await result.object);
  check(parts > 0, parts);
});

attempt("tools", "required", async () => {
  for (const toolChoice of ["required", { type: "tool", toolName: "get_weather" }]) {
    const result = await generateText({
      ...common, model: model(AGENT), prompt, tools: { get_weather: tool(get_weather) }, toolChoice,
    });
    checkWeather(result.toolCalls[0].input);
  }
});

attempt("tools stream", "streamText", async () => {
  const result = streamText({
    ...common, model: model(AGENT), prompt, tools: { get_weather: tool(get_weather) }, toolChoice: "required", onError: fail,
  });
  const kinds = new Set();
  for await (const part of result.fullStream) {
    if (part.type === "error") throw part.error;
    kinds.add(part.type);
  }
  checkWeather((await result.toolCalls)[0].input);
  check(kinds.has("tool-input-delta"), [...kinds]);
});

attempt("tool result", "loop", async () => {
  await firstThat(PROMPTS, async (each) => {
    let calls = 0;
    const execute = async () => ((calls += 1), "rain");
    const result = await generateText({
      ...common, model: model(AGENT), prompt: each, stopWhen: stepCountIs(6), tools: { get_weather: tool({ ...get_weather, execute }) },
    });
    return calls && result.finishReason === "stop" && result.text;
  });
});

if (kind === "chat" || kind === "responses") {
  attempt("logprobs", "top", async () => {
    const result = await generateText({
      ...common, model: model(MOCK), prompt, maxOutputTokens: 20, providerOptions: { openai: { logprobs: 2 } },
    });
    check(result.providerMetadata?.openai?.logprobs?.length, result.providerMetadata);
  });
}

const thinking = {
  openai: { reasoningEffort: "medium", reasoningSummary: null, forceReasoning: true },
  llmactors: { reasoningEffort: "medium" },
  anthropic: { thinking: { type: "enabled", budgetTokens: 1024 } },
};

attempt("reasoning", "effort", async () => {
  const result = await generateText({
    ...common, model: model(AGENT), prompt, maxOutputTokens: 200, providerOptions: thinking,
  });
  check(result.text || result.reasoningText, result);
});

if (kind === "responses") {
  attempt("reasoning", "effort with summary", async () => {
    const providerOptions = { openai: { reasoningEffort: "medium", forceReasoning: true } };
    const result = await generateText({ ...common, model: model(AGENT), prompt, maxOutputTokens: 200, providerOptions });
    check(result.text || result.reasoningText, result);
  });
}

if (kind === "compatible" || kind === "chat") {
  attempt("embeddings", "embedMany", async () => {
    const embedder = kind === "compatible" ? compatible.embeddingModel(MOCK) : openai.embedding(MOCK);
    const { embeddings } = await embedMany({ ...common, model: embedder, values: ["red", "blue"] });
    check(embeddings.length === 2, embeddings);
  });
}

if (kind === "responses") {
  attempt("takeover", "streamText", async () => {
    const inputs = [];
    for (const name of ["fragile-ai", MOCK]) {
      const result = streamText({
        ...common, model: model(name), prompt, tools: { get_weather: tool(get_weather) }, toolChoice: "required", onError: fail,
      });
      await result.consumeStream();
      inputs.push(JSON.stringify((await result.toolCalls).map((call) => call.input)));
    }
    check(inputs[0] === inputs[1] && inputs[0] !== "[]", inputs);
    check((await restarts("fragile-ai")) === 1, "restarts");
  });
}

attempt("errors", "errors", async () => {
  for (const [status, wrong] of [[404, { model: model("absent") }], [400, { topP: 5 }]]) {
    const error = await errorOf(() => generateText({ ...common, model: model(AGENT), prompt, ...wrong }));
    check(APICallError.isInstance(error) && error.statusCode === status && error.isRetryable === false, { error, status });
    check(error.message && !error.message.includes("Not Found"), error.message);
  }
});

await runAttempts();
