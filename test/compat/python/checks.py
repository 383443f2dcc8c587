"""Checks with the official Python clients against a running gateway. Prints one JSON object a line: what was checked, and the error.

The clients build their models without validation; here every one is validated again, strictly, by the types that they declare.

    checks.py BASE_URL KEY MODEL
"""

import json
import sys
import time
import traceback
from typing import Literal

import anthropic
import openai
from pydantic import BaseModel, TypeAdapter

BASE_URL, KEY, MODEL = sys.argv[1:4]
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}, "sure": {"type": "boolean"}},
    "required": ["city", "sure"],
    "additionalProperties": False,
}

# With this every answer and event that does not fit its declared type raises APIResponseValidationError.
STRICT = {"_strict_response_validation": True, "max_retries": 0, "timeout": 300}
client = openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=KEY, **STRICT)
# The type of a text completion does not allow that chunks before the last have no reason to end, as they have none with OpenAI.
lenient = openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=KEY, max_retries=0, timeout=300)
claude = anthropic.Anthropic(base_url=BASE_URL, api_key=KEY, **STRICT)
CHAT = {"model": MODEL, "messages": MESSAGES, "max_completion_tokens": 60, "temperature": 0, "seed": 5}
NO_THINKING = {"reasoning_effort": "none"}


class Place(BaseModel):
    city: Literal["Paris", "Rome"]
    sure: bool


def held(value):
    """The value, after a validation of what it holds by the type that it says to be."""
    TypeAdapter(type(value)).validate_python(value.to_dict(mode="python"))
    return value


def chat_stream():
    whole = held(client.chat.completions.create(**CHAT))
    text = ""
    for chunk in client.chat.completions.create(**CHAT, stream=True):
        held(chunk)
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text == (whole.choices[0].message.content or "")
    with client.chat.completions.stream(**CHAT) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == whole.choices[0].finish_reason


def chat_parse():
    asked = {**CHAT, **NO_THINKING, "max_completion_tokens": 300}
    parsed = client.chat.completions.parse(**asked, response_format=Place).choices[0].message.parsed
    assert isinstance(parsed, Place), parsed


def chat_tools():
    tools = [{"type": "function", "function": {"name": "place", "strict": True, "parameters": CITY}}]
    asked = {**CHAT, "max_completion_tokens": 300, "tools": tools, "parallel_tool_calls": False}
    answer = held(client.chat.completions.create(**asked, tool_choice="required"))
    call = answer.choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    result = {"role": "tool", "tool_call_id": call.id, "content": "noted"}
    history = [*MESSAGES, answer.choices[0].message.to_dict(), result]
    held(client.chat.completions.create(**{**asked, "messages": history}))


def completions():
    asked = {"model": MODEL, "prompt": "Once upon", "max_tokens": 6, "temperature": 0, "logprobs": 2}
    whole = held(client.completions.create(**asked))
    text = "".join(chunk.choices[0].text for chunk in lenient.completions.create(**asked, stream=True))
    assert text == whole.choices[0].text


def models():
    assert MODEL in [held(model).id for model in client.models.list()]
    assert held(client.models.retrieve(MODEL)).id == MODEL


def errors():
    for given, kind in [
        ({"temperature": 9}, openai.BadRequestError),
        ({"model": "none"}, openai.NotFoundError),
    ]:
        try:
            client.chat.completions.create(**{**CHAT, **given})
        except kind as error:
            assert error.request_id
        else:
            raise AssertionError(f"{given} was answered")
    try:
        client.with_options(api_key="wrong").models.list()
    except openai.AuthenticationError:
        return
    raise AssertionError("a wrong key was taken")


def responses():
    asked = {"model": MODEL, "input": MESSAGES[0]["content"], "max_output_tokens": 60, "temperature": 0}
    whole = held(client.responses.create(**asked))
    with client.responses.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == whole.output_text
    assert "response.output_item.done" in kinds
    assert held(client.responses.retrieve(whole.id)).output_text == whole.output_text
    assert len(list(client.responses.input_items.list(whole.id))) == 1
    client.responses.delete(whole.id)
    running = held(client.responses.create(**asked, background=True))
    assert client.responses.cancel(running.id).status in ("cancelled", "completed")
    parsed = client.responses.parse(
        **{**asked, "max_output_tokens": 300}, reasoning={"effort": "none"}, text_format=Place
    ).output_parsed
    assert isinstance(parsed, Place), parsed


def batches():
    body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 2}
    line = {"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": body}
    file = held(client.files.create(file=("in.jsonl", json.dumps(line).encode()), purpose="batch"))
    asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = held(client.batches.create(input_file_id=file.id, **asked))
    deadline = time.monotonic() + 240
    while batch.status not in ("completed", "failed", "expired", "cancelled") and time.monotonic() < deadline:
        time.sleep(0.2)
        batch = held(client.batches.retrieve(batch.id))
    assert batch.status == "completed", batch
    assert len(client.files.content(batch.output_file_id).text.splitlines()) == 1
    assert batch.id in [held(one).id for one in client.batches.list()]
    other = held(client.batches.create(input_file_id=file.id, **asked))
    try:
        assert held(client.batches.cancel(other.id)).status in ("cancelling", "cancelled")
    except openai.BadRequestError as error:
        # It was over before.
        assert held(client.batches.retrieve(other.id)).status == "completed", error
    assert held(client.files.delete(file.id)).deleted


def uploads():
    content = b"".join(b'{"line": %d}\n' % i for i in range(2000))
    upload = held(
        client.uploads.upload_file_chunked(
            file=content, filename="in.jsonl", bytes=len(content), mime_type="text/jsonl", purpose="batch", part_size=7000
        )
    )
    assert upload.status == "completed", upload
    assert client.files.content(upload.file.id).content == content
    assert held(client.files.delete(upload.file.id)).deleted


def messages():
    asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 60, "extra_body": {"temperature": 0}}
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 20}}
    whole = held(claude.messages.create(**asked, **thinking))
    with claude.messages.stream(**asked, **thinking) as stream:
        for _ in stream:
            pass
        final = stream.get_final_message()
    assert [block.to_dict() for block in final.content] == [block.to_dict() for block in whole.content]
    counted = held(claude.messages.count_tokens(model=MODEL, messages=MESSAGES))
    assert counted.input_tokens > 0
    try:
        claude.messages.create(**{**asked, "model": "none"})
    except anthropic.NotFoundError:
        return
    raise AssertionError("an unknown model was served")


def message_tools():
    tools = [{"name": "place", "strict": True, "input_schema": CITY}]
    choice = {"type": "tool", "name": "place"}
    asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 300, "tools": tools}
    answer = held(claude.messages.create(**asked, tool_choice=choice))
    assert answer.stop_reason == "tool_use"
    use = next(block for block in answer.content if block.type == "tool_use")
    assert use.input["city"] in ("Paris", "Rome")
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "noted"}
    history = [
        *MESSAGES,
        {"role": "assistant", "content": [block.to_dict() for block in answer.content]},
        {"role": "user", "content": [result]},
    ]
    held(claude.messages.create(**{**asked, "messages": history}))


OPENAI, ANTHROPIC = "openai (Python)", "anthropic (Python)"
CHECKS = [
    (OPENAI, "chat completions", "a stream, and one accumulated by the client, equal the whole answer", chat_stream),
    (OPENAI, "structured output", "`parse` with a Pydantic model", chat_parse),
    (OPENAI, "tool calls", "a strict call, and its result goes back", chat_tools),
    (OPENAI, "text completions", "a stream equals the whole answer, with log-probabilities", completions),
    (OPENAI, "models", "listed and retrieved by name", models),
    (OPENAI, "errors", "the client's classes for 400, 401 and 404, with request ids", errors),
    (OPENAI, "responses", "created, streamed, retrieved, input items, deleted, cancelled; `parse` with a Pydantic model", responses),
    (OPENAI, "batches", "a file, a batch until completed, its output, lists, cancel", batches),
    (OPENAI, "uploads", "`upload_file_chunked`, in parts", uploads),
    (ANTHROPIC, "messages", "a stream equals the whole message, with thinking; tokens counted; 404", messages),
    (ANTHROPIC, "tool calls", "a forced use, and its result goes back", message_tools),
]


def main():
    for name, feature, checked, check in CHECKS:
        error = None
        try:
            check()
        except Exception:  # noqa: BLE001 - each check reports its own failure
            error = traceback.format_exc(limit=8)
        print(json.dumps({"client": name, "feature": feature, "checked": checked, "error": error}), flush=True)


main()
