"""OpenTelemetry spans, sent by OTLP/HTTP. Until `configure` is called nothing of it is loaded and every call is a no-op.

The request's span is current while the request runs; those of its stages are its children.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

_EXPORT_S = 1.0  # on Lambda a request waits for its spans to leave
_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def configure(endpoint: str | None, service: str) -> None:
    """endpoint: the collector's base address, or None for no tracing."""
    global _provider, _tracer
    shutdown()
    if endpoint is None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
        OTLPSpanExporter,
    )  # heavy: loaded when used
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_S)
    _provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}), shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("ragzero")


def on() -> bool:
    return _tracer is not None


def start(name: str) -> Span | None:
    """A child of the current span."""
    return None if _tracer is None else _tracer.start_span(name)


def failed(span: Span | None, error: BaseException) -> None:
    """The kind of error only: what it says may quote documents."""
    if span is not None:
        from opentelemetry.trace import StatusCode

        span.set_status(StatusCode.ERROR, type(error).__name__)


def end(span: Span | None) -> None:
    if span is not None:
        span.end()


class RequestSpan:
    """The span of an HTTP request, current from now on; a child of the caller's where that sent its traceparent."""

    def __init__(self, method: str, headers: Mapping[str, str], attributes: Mapping[str, str]) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        assert _tracer is not None
        caller = TraceContextTextMapPropagator().extract(headers)
        known = {"http.request.method": method, **attributes}
        self._method = method
        self._span = _tracer.start_span(method, caller, trace.SpanKind.SERVER, known)
        self._token: Token[Any] = context.attach(trace.set_span_in_context(self._span))

    def end(self, route: str, status: int, attributes: Mapping[str, str]) -> None:
        from opentelemetry import context
        from opentelemetry.trace import StatusCode

        self._span.update_name(f"{self._method} {route}")
        self._span.set_attributes({"http.route": route, "http.response.status_code": status, **attributes})
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        context.detach(self._token)


def headers() -> dict[str, str]:
    """What tells a service asked on behalf of this request which trace it is part of."""
    found: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(found)
    return found


def flush() -> None:
    """Returns when the spans that ended have left, or after a second."""
    if _provider is not None:
        _provider.force_flush(int(_EXPORT_S * 1000))


def shutdown() -> None:
    global _provider, _tracer
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None
