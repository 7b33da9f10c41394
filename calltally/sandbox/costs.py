"""What Vapi says a call cost: `costs`, `costBreakdown` and `cost`, in USD.

Vapi's own fee is 0.05 per minute, the minutes rounded half up to four decimals; `cost` is the sum of the
items rounded to four decimals. The other prices are invented and depend on the duration alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

from calltally.sandbox.calls import Call
from calltally.sandbox.wire import JsonObject

FOUR_DECIMALS = Decimal("0.0001")
VAPI_FEE_PER_MINUTE = Decimal("0.05")

_MS_PER_MINUTE = Decimal(60_000)
_MS_PER_SECOND = 1000
_TRANSCRIBER_PER_MINUTE = Decimal("0.0098")
_TRANSCRIBER_LEAD_MINUTES = Decimal("0.041333333333")
_PROMPT_TOKEN = Decimal("0.00000015")
_COMPLETION_TOKEN = Decimal("0.0000006")
_CHARACTER = Decimal("0.00005")
_SUMMARY = Decimal("0.00025")
_SUCCESS_EVALUATION = Decimal("0.00034")
_ANALYSIS_MODEL = {"provider": "google", "model": "gemini-2.5-flash"}


@dataclass(frozen=True, slots=True)
class CallCosts:
    """The three places in which Vapi states the money of one call."""

    total: Decimal
    items: list[JsonObject]
    breakdown: JsonObject


def rounded(amount: Decimal) -> Decimal:
    """Round to four decimals, half up."""
    return amount.quantize(FOUR_DECIMALS, ROUND_HALF_UP)


def billed_minutes(duration_ms: int) -> Decimal:
    """Return the minutes that Vapi charges its fee for."""
    return rounded(Decimal(duration_ms) / _MS_PER_MINUTE)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the duration alone decides; a correction lands on the voice, so that the items still add up."""

    minutes: Decimal
    heard_minutes: Decimal
    prompt_tokens: int
    completion_tokens: int
    characters: int
    transcriber: Decimal
    model: Decimal
    voice: Decimal
    vapi: Decimal

    @property
    def total(self) -> Decimal:
        return rounded(self.transcriber + self.model + self.voice + self.vapi + _SUMMARY + _SUCCESS_EVALUATION)


def _parts(duration_ms: int, extra_cost: Decimal) -> _Parts:
    seconds = duration_ms // _MS_PER_SECOND
    minutes = billed_minutes(duration_ms)
    heard_minutes = minutes + _TRANSCRIBER_LEAD_MINUTES
    prompt_tokens, completion_tokens = 900 + 28 * seconds, 25 + seconds
    characters = 170 + 3 * seconds
    return _Parts(
        minutes=minutes,
        heard_minutes=heard_minutes,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        characters=characters,
        transcriber=heard_minutes * _TRANSCRIBER_PER_MINUTE,
        model=prompt_tokens * _PROMPT_TOKEN + completion_tokens * _COMPLETION_TOKEN,
        voice=characters * _CHARACTER + extra_cost,
        vapi=minutes * VAPI_FEE_PER_MINUTE,
    )


@lru_cache(maxsize=1 << 18)
def _total(duration_ms: int, extra_cost: Decimal) -> Decimal:
    return _parts(duration_ms, extra_cost).total


def total_cost(call: Call) -> Decimal:
    """Return the sum alone, 0 for a call that never connected or still runs; quick enough for a million calls."""
    return Decimal(0) if call.duration_ms is None else _total(call.duration_ms, call.extra_cost)


def costs_of(call: Call) -> CallCosts | None:
    """Return what a call cost, or None when it never connected or still runs."""
    if call.duration_ms is None:
        return None
    parts = _parts(call.duration_ms, call.extra_cost)
    items: list[JsonObject] = [
        {
            "type": "transcriber",
            "transcriber": {"provider": "deepgram", "model": "nova-2"},
            "minutes": parts.heard_minutes,
            "cost": parts.transcriber,
        },
        {
            "type": "model",
            "model": {"provider": "openai", "model": "gpt-4o-mini"},
            "promptTokens": parts.prompt_tokens,
            "completionTokens": parts.completion_tokens,
            "cachedPromptTokens": 0,
            "cost": parts.model,
        },
        {
            "type": "voice",
            "voice": {"provider": "11labs", "voiceId": "sandboxVoiceId00000", "model": "eleven_turbo_v2_5"},
            "characters": parts.characters,
            "cost": parts.voice,
        },
        {"type": "vapi", "subType": "normal", "minutes": parts.minutes, "cost": parts.vapi},
        {
            "type": "knowledge-base",
            "model": {"provider": "google", "model": "gemini-2.0-flash"},
            "promptTokens": 0,
            "completionTokens": 0,
            "cost": 0,
        },
        _analysis_item("summary", _SUMMARY, prompt_tokens=352, completion_tokens=61),
        _analysis_item("successEvaluation", _SUCCESS_EVALUATION, prompt_tokens=1108, completion_tokens=4),
    ]
    breakdown: JsonObject = {
        "transport": 0,
        "stt": rounded(parts.transcriber),
        "llm": rounded(parts.model),
        "tts": rounded(parts.voice),
        "vapi": rounded(parts.vapi),
        "chat": 0,
        "total": parts.total,
        "llmPromptTokens": parts.prompt_tokens,
        "llmCompletionTokens": parts.completion_tokens,
        "llmCachedPromptTokens": 0,
        "ttsCharacters": parts.characters,
        "voicemailDetectionCost": 0,
        "knowledgeBaseCost": 0,
        "analysisCostBreakdown": _analysis_breakdown(),
    }
    return CallCosts(total=parts.total, items=items, breakdown=breakdown)


def _analysis_item(analysis_type: str, cost: Decimal, *, prompt_tokens: int, completion_tokens: int) -> JsonObject:
    return {
        "type": "analysis",
        "analysisType": analysis_type,
        "model": _ANALYSIS_MODEL,
        "promptTokens": prompt_tokens,
        "completionTokens": completion_tokens,
        "cost": cost,
    }


def _analysis_breakdown() -> JsonObject:
    spent = {
        "summary": (rounded(_SUMMARY), 352, 61),
        "structuredData": (0, 0, 0),
        "successEvaluation": (rounded(_SUCCESS_EVALUATION), 1108, 4),
        "structuredOutput": (0, 0, 0),
    }
    breakdown: JsonObject = {}
    for name, (cost, prompt_tokens, completion_tokens) in spent.items():
        breakdown[name] = cost
        breakdown[f"{name}PromptTokens"] = prompt_tokens
        breakdown[f"{name}CompletionTokens"] = completion_tokens
        breakdown[f"{name}CachedPromptTokens"] = 0
    return breakdown
