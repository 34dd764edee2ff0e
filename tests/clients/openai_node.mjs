// Run by openai_test.py beside node_modules with the openai package: argv[2] is the server's URL.
import OpenAI from "openai";
import assert from "node:assert";

const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is 7 times 8?" }];

const models = await client.models.list();
assert.deepEqual(models.data.map((m) => m.id), ["mini"]);

const whole = await client.chat.completions.create({ model: "m", messages, temperature: 0, max_tokens: 30 });
const text = whole.choices[0].message.content;
assert.ok(text.length > 0);

let streamed = "";
const stream = await client.chat.completions.create({ model: "m", messages, temperature: 0, max_tokens: 30, stream: true, stream_options: { include_usage: true } });
let usage = null;
for await (const chunk of stream) {
  streamed += chunk.choices.map((c) => c.delta.content ?? "").join("");
  usage = chunk.usage ?? usage;
}
assert.equal(streamed, text);
assert.equal(usage.completion_tokens, whole.usage.completion_tokens);

const runner = client.chat.completions.stream({ model: "m", messages, temperature: 0, max_tokens: 30 });
assert.equal((await runner.finalChatCompletion()).choices[0].message.content, text);

const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
const said = '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{"city": "Oslo"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>';
const calling = client.chat.completions.stream({ model: "m", messages, tools, force_tokens: said });
const call = (await calling.finalChatCompletion()).choices[0];
assert.deepEqual([call.finish_reason, call.message.tool_calls[0].function.name, call.message.tool_calls[0].function.arguments], ["tool_calls", "weather", '{"city": "Oslo"}']);

const done = await client.completions.create({ model: "m", prompt: "The sea", max_tokens: 5 });
assert.equal(done.object, "text_completion");
const vectors = await client.embeddings.create({ model: "m", input: "a" });
assert.equal(vectors.data[0].embedding.length, 192);

await assert.rejects(client.chat.completions.create({ model: "m", messages, temperature: -1 }), (e) => e.status === 400 && e.param === "temperature");

// A client that loses interest.
const left = await client.chat.completions.create({ model: "m", messages, ignore_eos: true, max_tokens: 900, stream: true });
for await (const chunk of left) if (chunk.choices[0].delta.content) break;
console.log("ok");
