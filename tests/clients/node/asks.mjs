// What a program in Node asks of a cluster, with OpenAI's own client: `node asks.mjs BASE_URL` prints one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none is needed", maxRetries: 0, timeout: 60_000 });
const chat = client.chat.completions;
const messages = [{ role: "user", content: "Tell me a joke" }];
const said = {};

async function refused(asked) {
  try {
    await asked;
  } catch (error) {
    const { status, code, param, type } = error;
    return { kind: error.constructor.name, status, code, param, type, retry: error.headers?.get("retry-after") };
  }
  return "it was answered";
}

said.models = [];
for await (const model of client.models.list()) said.models.push(model.id);
said.model = (await client.models.retrieve("org/frail")).id;

said.whole = await chat.create({ model: "mock", messages, max_tokens: 30, seed: 5 });

const streamed = { text: "", chunks: 0 };
const wanted = { model: "mock", messages, max_tokens: 30, seed: 5, stream: true };
for await (const chunk of await chat.create({ ...wanted, stream_options: { include_usage: true } })) {
  streamed.chunks += 1;
  streamed.text += chunk.choices[0]?.delta.content ?? "";
  streamed.finish = chunk.choices[0]?.finish_reason ?? streamed.finish;
  streamed.usage = chunk.usage ?? streamed.usage;
}
said.streamed = streamed;

// The helper gathers the events by itself.
const runner = chat.stream({ model: "mock", messages, max_tokens: 30, seed: 5 });
said.gathered = (await runner.finalChatCompletion()).choices[0].message.content;

said.three = await chat.create({ model: "mock", messages, max_tokens: 8, seed: 5, n: 3, ignore_eos: true });
const stop = said.whole.choices[0].message.content.slice(4, 6);
said.stopped = await chat.create({ model: "mock", messages, max_tokens: 30, seed: 5, stop });
said.likely = await chat.create({ model: "mock", messages, max_tokens: 3, logprobs: true, top_logprobs: 2 });
said.completion = await client.completions.create({ model: "mock", prompt: "once", max_tokens: 6, seed: 5 });

const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
said.refusals = {
  tools: await refused(chat.create({ model: "mock", messages, tools })),
  model: await refused(chat.create({ model: "mo", messages })),
  length: await refused(chat.create({ model: "mock", messages, max_tokens: 5000 })),
  huge: await refused(client.completions.create({ model: "mock", prompt: "x".repeat(9_000_000) })),
};
const busy = () => client.completions.create({ model: "busy", prompt: "x", max_tokens: 1 });
const both = [await refused(busy()), await refused(busy())];
said.refusals.busy = both.find((one) => one.status);

// Leaving in the middle of an answer ends it; the program can end only if nothing is left open.
for await (const _ of await chat.create({ ...wanted, max_tokens: 4000, ignore_eos: true })) break;

console.log(JSON.stringify(said));
