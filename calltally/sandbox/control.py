"""`/control`: makes things happen in the sandbox, for people with curl.

Bodies are JSON objects with the fields of the dataclass named beside each route; a field nobody knows
is refused, so that a typing error does not pass for a default.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as HttpRoute

from calltally.sandbox.call_json import render_call
from calltally.sandbox.faults import FaultQueue
from calltally.sandbox.orders import (
    BadOrder,
    CorrectCall,
    DeliverCalls,
    DeliverEvents,
    Dispute,
    FinishCall,
    PayTopUp,
    Refund,
    SpoilAnswers,
    read_order,
)
from calltally.sandbox.stripe import Event
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.wire import JsonObject, encode_json
from calltally.sandbox.world import Delivered, NoTarget, Sandbox

DEMO_ASSISTANT_ID = "a3d6c1f2-9b44-4e0b-8f52-6c1e7d90ab34"

_DEFAULT_COUNT = 10
# Calls of the last day that have ended long enough for a night to see all of them.
_DEFAULT_START = timedelta(hours=23)
_DEFAULT_END = timedelta(hours=1)


def control_app(sandbox: Sandbox) -> Starlette:
    """Return the control routes of this sandbox."""
    control = _Control(sandbox)
    return Starlette(
        routes=[
            HttpRoute("/state", control.state),
            HttpRoute("/vapi/calls", control.place_calls, methods=["POST"]),  # Traffic
            HttpRoute("/vapi/calls/{call_id}", control.delete_call, methods=["DELETE"]),
            HttpRoute("/vapi/calls/{call_id}/correct", control.correct_call, methods=["POST"]),  # CorrectCall
            HttpRoute("/vapi/calls/{call_id}/finish", control.finish_call, methods=["POST"]),  # FinishCall
            HttpRoute("/vapi/calls/{call_id}/spoil", control.spoil_call, methods=["POST"]),
            HttpRoute("/vapi/deliver", control.deliver_calls, methods=["POST"]),  # DeliverCalls
            HttpRoute("/stripe/topups", control.pay_topup, methods=["POST"]),  # PayTopUp
            HttpRoute("/stripe/refunds", control.refund, methods=["POST"]),  # Refund
            HttpRoute("/stripe/disputes", control.dispute, methods=["POST"]),  # Dispute
            HttpRoute("/stripe/deliver", control.deliver_events, methods=["POST"]),  # DeliverEvents
            HttpRoute("/{provider}/faults", control.spoil_answers, methods=["POST"]),  # SpoilAnswers
            HttpRoute("/{provider}/faults", control.clear_faults, methods=["DELETE"]),
        ],
        exception_handlers={
            BadOrder: _answer_with(400),
            NoTarget: _answer_with(400),
            ValueError: _answer_with(400),
            KeyError: _answer_with(404),
        },
    )


class _Control:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def state(self, _: Request) -> Response:
        sandbox = self._sandbox
        calls = await run_in_threadpool(sandbox.vapi.calls)
        return _json(
            {
                "vapi": {
                    "rows": len(sandbox.vapi),
                    "calls": Counter(call.status for call in calls),
                    "unsent": len(sandbox.unsent_calls()),
                    "target": sandbox.vapi_target,
                    "faults": len(sandbox.vapi.faults),
                },
                "stripe": {
                    "events": Counter(event.type for event in sandbox.stripe.events()),
                    "undelivered": len(sandbox.undelivered_events()),
                    "target": sandbox.stripe_target,
                    "faults": len(sandbox.stripe.faults),
                },
                "slack": {"messages": len(sandbox.slack.messages), "faults": len(sandbox.slack.faults)},
            }
        )

    async def place_calls(self, request: Request) -> Response:
        now = self._sandbox.clock()
        traffic = read_order(
            await request.body(),
            Traffic,
            count=_DEFAULT_COUNT,
            routes=[{"assistant_id": DEMO_ASSISTANT_ID}],
            start=now - _DEFAULT_START,
            end=now - _DEFAULT_END,
        )
        calls = await run_in_threadpool(self._sandbox.vapi.place_calls, traffic)
        return _json({"placed": len(calls), "call_ids": [call.id for call in calls]}, 201)

    async def delete_call(self, request: Request) -> Response:
        self._sandbox.vapi.delete_call(request.path_params["call_id"])
        return Response(status_code=204)

    async def correct_call(self, request: Request) -> Response:
        order = read_order(await request.body(), CorrectCall)
        call = self._sandbox.vapi.correct_call(
            request.path_params["call_id"],
            at=self._sandbox.clock(),
            duration_ms=order.duration_ms,
            cost=order.cost,
        )
        return _json(render_call(call))

    async def finish_call(self, request: Request) -> Response:
        order = read_order(await request.body(), FinishCall)
        call_id = request.path_params["call_id"]
        return _json(render_call(self._sandbox.vapi.finish_call(call_id, duration_ms=order.duration_ms)))

    async def spoil_call(self, request: Request) -> Response:
        """Overlay the listed call with the body's fields; null removes a field."""
        call_id = request.path_params["call_id"]
        overlaid = self._sandbox.vapi.shown(call_id) | await request.json()
        spoiled = {key: value for key, value in overlaid.items() if value is not None}
        self._sandbox.vapi.spoil_call(call_id, spoiled)
        return _json(spoiled)

    async def deliver_calls(self, request: Request) -> Response:
        order = read_order(await request.body(), DeliverCalls)
        sandbox = self._sandbox
        if order.call_ids is None:
            calls = sandbox.unsent_calls()
        else:
            calls = [sandbox.vapi.call(call_id) for call_id in order.call_ids]
        delivered = await run_in_threadpool(
            sandbox.deliver_calls, calls, url=order.url, weather=order.weather, seed=order.seed
        )
        return _json(_summary(delivered))

    async def pay_topup(self, request: Request) -> Response:
        order = read_order(await request.body(), PayTopUp)
        sandbox = self._sandbox
        topup = sandbox.stripe.pay_topup(order.payment, at=order.at or sandbox.clock(), settlement=order.settlement)
        answer: JsonObject = {
            "payment_intent": topup.payment_intent_id,
            "checkout_session": topup.session_id,
            "events": [event.id for event in topup.events],
        }
        return await self._told(order, topup.events, answer)

    async def refund(self, request: Request) -> Response:
        order = read_order(await request.body(), Refund)
        world, now = self._sandbox.stripe, self._sandbox.clock()
        topup = world.topup(order.payment_intent)
        events = world.refund(topup, order.amount_minor, at=now, outcome=order.outcome)
        return await self._told(order, events, {"events": [event.id for event in events]})

    async def dispute(self, request: Request) -> Response:
        order = read_order(await request.body(), Dispute)
        world, now = self._sandbox.stripe, self._sandbox.clock()
        topup = world.topup(order.payment_intent)
        events = world.dispute(topup, order.amount_minor, at=now, reinstated_minor=order.reinstated_minor)
        return await self._told(order, events, {"events": [event.id for event in events]})

    async def _told(
        self, order: PayTopUp | Refund | Dispute, events: tuple[Event, ...], answer: JsonObject
    ) -> Response:
        """Send the events, unless the order says not to."""
        if order.deliver:
            delivered = await run_in_threadpool(
                self._sandbox.deliver_events, events, url=order.url, weather=order.weather
            )
            answer |= _summary(delivered)
        return _json(answer, 201)

    async def deliver_events(self, request: Request) -> Response:
        order = read_order(await request.body(), DeliverEvents)
        sandbox = self._sandbox
        delivered = await run_in_threadpool(
            sandbox.deliver_events,
            sandbox.undelivered_events(),
            url=order.url,
            weather=order.weather,
            seed=order.seed,
        )
        return _json(_summary(delivered))

    async def spoil_answers(self, request: Request) -> Response:
        order = read_order(await request.body(), SpoilAnswers)
        faults = self._faults(request)
        faults.add(order.fault(), order.times)
        return _json({"waiting": len(faults)}, 201)

    async def clear_faults(self, request: Request) -> Response:
        self._faults(request).clear()
        return Response(status_code=204)

    def _faults(self, request: Request) -> FaultQueue:
        queues = {
            "vapi": self._sandbox.vapi.faults,
            "stripe": self._sandbox.stripe.faults,
            "slack": self._sandbox.slack.faults,
            "twilio": self._sandbox.twilio.faults,
        }
        return queues[request.path_params["provider"]]


def _summary(delivered: Delivered) -> JsonObject:
    return {
        "deliveries": len(delivered.plan.deliveries),
        "duplicates": delivered.plan.duplicates,
        "lost_messages": len(delivered.plan.lost_messages),
        "lost_reports": delivered.plan.lost,
        "statuses": delivered.report.final_statuses,
    }


def _answer_with(status: int) -> Callable[[Request, Exception], Response]:
    def answer(_: Request, error: Exception) -> Response:
        return _json({"error": str(error)}, status)

    return answer


def _json(body: object, status: int = 200) -> Response:
    return Response(encode_json(body), status, media_type="application/json")
