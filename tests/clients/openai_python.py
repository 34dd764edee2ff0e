"""Run by openai_test.py under a Python that has the openai package: argv[1] is the server's URL."""
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
HI = [{"role": "user", "content": "What is 7 times 8?"}]

assert [m.id for m in client.models.list()] == ["mini"]
assert client.models.retrieve("mini").id == "mini"

whole = client.chat.completions.create(model="anything", messages=HI, temperature=0, max_tokens=30, logprobs=True, top_logprobs=2, seed=1)
text = whole.choices[0].message.content
assert text and whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
assert whole.usage.prompt_tokens_details.cached_tokens >= 0
assert len(whole.choices[0].logprobs.content) == whole.usage.completion_tokens

streamed, usage = "", None
for chunk in client.chat.completions.create(model="m", messages=HI, temperature=0, max_completion_tokens=30, stream=True, stream_options={"include_usage": True}):
    usage = chunk.usage or usage
    streamed += "".join(c.delta.content or "" for c in chunk.choices)
assert streamed == text, (streamed, text)
assert usage.completion_tokens == whole.usage.completion_tokens

with client.chat.completions.stream(model="m", messages=HI, temperature=0, max_tokens=30) as stream:
    final = stream.get_final_completion()
assert final.choices[0].message.content == text

done = client.completions.create(model="m", prompt=["The sea", "I have"], max_tokens=5, n=2, temperature=1, seed=3, echo=True, logprobs=1)
assert len(done.choices) == 4 and done.choices[0].text.startswith("The sea")
assert done.choices[0].logprobs.token_logprobs[0] is None

# A tool call, as a stream and in one piece, and its way back into the conversation.
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]
CALL = '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{"city": "Oslo"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>'
call = client.chat.completions.create(model="m", messages=HI, tools=TOOLS, extra_body={"force_tokens": CALL}).choices[0]
assert call.finish_reason == "tool_calls" and call.message.content is None, call
assert call.message.tool_calls[0].function.name == "weather" and call.message.tool_calls[0].function.arguments == '{"city": "Oslo"}'
with client.chat.completions.stream(model="m", messages=HI, tools=TOOLS, extra_body={"force_tokens": CALL}) as stream:
    streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
assert (streamed.function.name, streamed.function.arguments) == ("weather", '{"city": "Oslo"}'), streamed
back = HI + [call.message, {"role": "tool", "tool_call_id": call.message.tool_calls[0].id, "content": "rain"}]
assert client.chat.completions.create(model="m", messages=back, tools=TOOLS, max_tokens=5).usage.completion_tokens <= 5

vectors = client.embeddings.create(model="m", input=["a", "b"])  # asks for base64
assert len(vectors.data) == 2 and len(vectors.data[0].embedding) == 192 and isinstance(vectors.data[0].embedding[0], float)

try:
    client.chat.completions.create(model="m", messages=HI, temperature=-1)
    raise AssertionError("temperature -1 was taken")
except openai.BadRequestError as e:
    assert e.param == "temperature" and e.type == "invalid_request_error", e.body
try:
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "word " * 2000}])
    raise AssertionError("a long prompt was taken")
except openai.BadRequestError as e:
    assert e.code == "context_length_exceeded", e.body

# An error inside a stream is raised.
try:
    for chunk in client.chat.completions.create(model="m", messages=HI, stream=True, max_tokens=5, extra_body={"response_format": {"type": "json_schema", "json_schema": {"schema": 7}}}):
        pass
    raise AssertionError("a schema that is a number was taken")
except openai.APIError:
    pass
print("ok")
