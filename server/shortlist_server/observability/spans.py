"""Spans of OpenTelemetry. The only importer of opentelemetry, which is an optional extra."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shortlist_server.errors import MissingExtra
from shortlist_server.funnel.types import SourceReport
from shortlist_server.observability.traced_call import TracedAnswer, TracedCall

EXPORT_S_MAX = 5.0
"""How long sending may take, with what is tried again."""
TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
FAULTS = frozenset({2, 4, 12, 13, 14, 15})
"""Codes that are faults of the server by OpenTelemetry's conventions for RPC: UNKNOWN,
DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingOptions:
    """What is traced, and where it goes."""

    endpoint: str
    """URL of the collector, without the path of the signal: `http://127.0.0.1:4318`."""
    share: float
    """Share of the calls without a caller's trace that are traced, 0..1."""
    waiting_max: int
    """Most calls that wait to be sent."""
    service_name: str
    service_version: str


class Spans:
    """What uses opentelemetry: identities, sampling, spans, and the exporter."""

    def __init__(self, options: TracingOptions) -> None:
        """Take where spans go.

        Raises:
            MissingExtra: opentelemetry is not installed.
        """
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk import trace as sdk
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import id_generator, sampling
            from opentelemetry.sdk.trace.export import SpanExportResult
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
            from opentelemetry.trace.propagation import tracecontext
        except ImportError as error:
            raise MissingExtra(feature="tracing (otel_endpoint)", extra="otel") from error
        self._trace, self._sdk = trace, sdk
        self._success = SpanExportResult.SUCCESS
        self._ids = id_generator.RandomIdGenerator()
        self._sampler = sampling.ParentBased(sampling.TraceIdRatioBased(options.share))
        self._propagator = tracecontext.TraceContextTextMapPropagator()
        self._resource = Resource.create(
            {"service.name": options.service_name, "service.version": options.service_version}
        )
        self._scope = InstrumentationScope("shortlist_server", options.service_version)
        self._exporter = OTLPSpanExporter(
            endpoint=f"{options.endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_S_MAX
        )
        # It would say at each attempt what `Tracing` says once a minute.
        logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)

    def place(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> tuple[Any, Any]:
        """Return the context of a call's span, and that of its caller's span or None."""
        carrier = self._carrier(metadata)
        context = self._propagator.extract(carrier) if carrier else None
        parent = self._trace.get_current_span(context).get_span_context() if context else None
        if parent is None or not parent.is_valid:
            context = parent = None
        trace_id = self._ids.generate_trace_id() if parent is None else parent.trace_id
        sampled = self._sampler.should_sample(context, trace_id, method)
        is_sampled = bool(sampled.decision.is_sampled())  # type: ignore[no-untyped-call]  # as below
        flags = self._trace.TraceFlags
        own = self._trace.SpanContext(
            trace_id=trace_id,
            span_id=self._ids.generate_span_id(),
            is_remote=False,
            trace_flags=flags(flags.SAMPLED if is_sampled else flags.DEFAULT),
            trace_state=sampled.trace_state,
        )
        return own, parent

    def _carrier(self, metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, list[str]]:
        """Return the headers of the caller's trace. Of two `traceparent` gRPC hands on the last."""
        carrier: dict[str, list[str]] = {}
        for key, value in metadata:
            if key in (TRACEPARENT, TRACESTATE) and isinstance(value, str):
                carrier.setdefault(key, []).append(value)
        return carrier

    def export(self, calls: Iterable[TracedCall]) -> bool:
        """Send the spans of calls; returns whether the collector took them."""
        spans = [span for call in calls for span in self._spans(call)]
        return self._exporter.export(spans) is self._success

    def shutdown(self) -> None:
        """Send nothing more, and give up what is being sent again."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # it has no annotations

    def _spans(self, call: TracedCall) -> Iterable[Any]:
        """Yield the spans of a call, inner ones first."""
        alone = call.answers.get(call.request_id)
        if alone is not None:
            yield from self._of_answer(call, alone, call.context)
        for request_id, answered in call.answers.items():
            if answered is alone:
                continue
            context = self._child(call.context)
            yield from self._of_answer(call, answered, context)
            yield self._span(
                "row",
                context,
                call.context,
                begin_ns=call.unix_ns(answered.stages[0].begin_ns),
                end_ns=call.unix_ns(answered.stages[-1].end_ns),
                attributes={"shortlist.request_id": request_id, **_of_answer(answered)},
            )
        service, _, method = call.method.strip("/").rpartition("/")
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": method,
            "rpc.grpc.status_code": call.code,
            "shortlist.request_id": call.request_id,
            "shortlist.answer_count": call.answer_count,
        }
        if alone is not None:
            attributes |= _of_answer(alone)
        if call.reason:
            attributes["error.type"] = call.reason
        codes = self._trace.StatusCode
        yield self._span(
            f"{service}/{method}",
            call.context,
            call.parent,
            begin_ns=call.begin_ns,
            end_ns=call.end_ns,
            attributes=attributes,
            kind=self._trace.SpanKind.SERVER,
            # No description: messages may name items and users.
            status=self._trace.Status(codes.ERROR if call.code in FAULTS else codes.UNSET),
        )

    def _of_answer(self, call: TracedCall, answered: TracedAnswer, parent: Any) -> Iterable[Any]:
        for stage in answered.stages:
            context = self._child(parent)
            # Each source says how it searched, in a span of its own.
            plan = "" if stage.name == "retrieval" and answered.sources else stage.plan
            if stage.name == "retrieval":
                yield from self._of_sources(call, answered.sources, context)
            yield self._span(
                stage.name,
                context,
                parent,
                begin_ns=call.unix_ns(stage.begin_ns),
                end_ns=call.unix_ns(stage.end_ns),
                attributes={
                    "shortlist.items_in": stage.items_in,
                    "shortlist.items_out": stage.items_out,
                    "shortlist.outcome": stage.outcome.value,
                    **({"shortlist.plan": plan} if plan else {}),
                },
            )

    def _of_sources(
        self, call: TracedCall, sources: Iterable[SourceReport], parent: Any
    ) -> Iterable[Any]:
        for source in sources:
            if not source.begin_ns:
                continue  # it did not run: the server's span says what was left out
            yield self._span(
                f"source {source.kind}",
                self._child(parent),
                parent,
                begin_ns=call.unix_ns(source.begin_ns),
                end_ns=call.unix_ns(source.begin_ns + source.duration_ns),
                attributes={
                    "shortlist.items_out": source.item_count,
                    "shortlist.outcome": source.outcome.value,
                    # What stands behind is an attribute's value, which may be the user's own.
                    "shortlist.plan": source.plan.partition(" = ")[0],
                },
            )

    def _child(self, parent: Any) -> Any:
        return self._trace.SpanContext(
            trace_id=parent.trace_id,
            span_id=self._ids.generate_span_id(),
            is_remote=False,
            trace_flags=parent.trace_flags,
            trace_state=parent.trace_state,
        )

    def _span(
        self,
        name: str,
        context: Any,
        parent: Any,
        *,
        begin_ns: int,
        end_ns: int,
        attributes: dict[str, Any],
        **more: Any,
    ) -> Any:
        # Made as a whole: a tracer's spans begin and end by calls, each of which takes a lock.
        return self._sdk.ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            start_time=begin_ns,
            end_time=end_ns,
            instrumentation_scope=self._scope,
            **more,
        )


def _of_answer(answered: TracedAnswer) -> dict[str, Any]:
    return {
        "shortlist.bundle": answered.bundle,
        "shortlist.items_out": answered.item_count,
        "shortlist.degraded": answered.degraded,
    }
