"""What was said: messages, transcript and artifact of a call.

In recorded Vapi data a call of 25 seconds weighs about 39 KB as JSON, most of it a long system prompt that
is repeated three times; the `full` detail reaches that size, `small` stays near 5 KB.
"""

from __future__ import annotations

from calltally.sandbox.calls import Call, Detail
from calltally.sandbox.wire import JsonObject

SUMMARY = "The caller moved an appointment to another day and the assistant confirmed it."

_STORAGE = "https://storage.vapi.ai"
_SMALL_PROMPT = "You answer the phone for the Sandbox Clinic. Keep answers short."
_FULL_PROMPT_CHARACTERS = 9_800
_FULL_TURN_SECONDS = 6
_FULL_TURN_CHARACTERS = 330
_SMALL_TURNS = 4
_REPLIES = (
    "Thanks for calling the Sandbox Clinic, how can I help?",
    "Hello, I would like to move my appointment to Thursday.",
    "Of course. Thursday at nine is free, shall I book that?",
    "Yes please, thank you and goodbye.",
)


def system_prompt(detail: Detail) -> str:
    """Return the instructions of the assistant: one line, or the several pages usual in production."""
    if detail != "full":
        return _SMALL_PROMPT
    return _padded(_SMALL_PROMPT, _FULL_PROMPT_CHARACTERS)


def artifact_of(call: Call, started_at_ms: int, duration_ms: int) -> JsonObject:
    """Return the `artifact` object of a connected call."""
    messages = _messages(call.detail, started_at_ms, duration_ms)
    variables = {"tenant_id": call.route.tenant_id} if call.route.tenant_id else {}
    recording = f"{_STORAGE}/{call.id}-{call.updated_at_ms}"
    return {
        "recordingUrl": f"{recording}-mono.wav",
        "stereoRecordingUrl": f"{recording}-stereo.wav",
        "recording": {
            "stereoUrl": f"{recording}-stereo.wav",
            "mono": {
                "combinedUrl": f"{recording}-mono.wav",
                "assistantUrl": f"{recording}-assistant.wav",
                "customerUrl": f"{recording}-customer.wav",
            },
        },
        "messages": messages,
        "messagesOpenAIFormatted": openai_formatted(messages),
        "transcript": _transcript(messages),
        "logUrl": f"{recording}-call.log.jsonl.gz",
        "nodes": [],
        "variables": variables,
        "variableValues": variables,
        "performanceMetrics": {"turnLatencies": [], "turnLatencyAverage": 1441},
        "scorecards": [],
        "transfers": [],
    }


def opening_message(detail: Detail, started_at_ms: int) -> JsonObject:
    """Return the system message, the only one there is when the call begins."""
    return {
        "role": "system",
        "message": system_prompt(detail),
        "time": started_at_ms,
        "secondsFromStart": 0,
    }


def openai_formatted(messages: list[JsonObject]) -> list[JsonObject]:
    """Return the same conversation with the roles that OpenAI uses."""
    roles = {"system": "system", "bot": "assistant", "user": "user"}
    return [{"role": roles[message["role"]], "content": message["message"]} for message in messages]


def _messages(detail: Detail, started_at_ms: int, duration_ms: int) -> list[JsonObject]:
    turns = _SMALL_TURNS if detail != "full" else max(2, duration_ms // (_FULL_TURN_SECONDS * 1000))
    spoken_ms = duration_ms // turns
    messages = [opening_message(detail, started_at_ms)]
    for turn in range(turns):
        text = _REPLIES[turn % len(_REPLIES)]
        offset_ms = turn * spoken_ms
        messages.append(
            {
                "role": "user" if turn % 2 else "bot",
                "message": text if detail != "full" else _padded(text, _FULL_TURN_CHARACTERS),
                "time": started_at_ms + offset_ms,
                "secondsFromStart": offset_ms / 1000,
                "endTime": started_at_ms + offset_ms + spoken_ms,
                "duration": spoken_ms,
            }
        )
    return messages


def _transcript(messages: list[JsonObject]) -> str:
    speakers = {"bot": "AI", "user": "User"}
    spoken = [message for message in messages if message["role"] in speakers]
    return "".join(f"{speakers[message['role']]}: {message['message']}\n" for message in spoken)


def _padded(text: str, characters: int) -> str:
    repeats = characters // (len(text) + 1) + 1
    return " ".join([text] * repeats)[:characters]
