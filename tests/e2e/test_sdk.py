# SPDX-License-Identifier: Apache-2.0
"""The OpenTelemetry SDK with its stock exporter as client, and the demo as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.clients import APPLICATION, WRITE_KEY
from tests.support.service_process import environment, service_process
from tests.support.waiting import wait_for

# A user's program: environment variables and the SDK, nothing of ours.
_PROGRAM = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = provider.get_tracer("program")
for number in range(1000):
    attributes = {
        "http.request.method": "GET", "http.route": "/n/{n}", "url.path": f"/n/{number}",
        "http.response.status_code": 500 if number % 10 == 0 else 200,
        "user.id": f"user-{number % 4}",
    }
    with tracer.start_as_current_span("GET /n/{n}", kind=trace.SpanKind.SERVER) as span:
        span.set_attributes(attributes)
        with tracer.start_as_current_span("work"):
            pass
provider.shutdown()
"""


def test_spans_of_the_sdk_are_counted(tmp_path: Path) -> None:
    """A thousand calls, each with an inner span that is no call."""
    with service_process(tmp_path) as service:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{service.client.grpc}",
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-auth-user={APPLICATION},x-auth-key={WRITE_KEY}",
            "OTEL_SERVICE_NAME": "program",
        }
        subprocess.run([sys.executable, "-c", _PROGRAM], env=environment() | variables, check=True)
        wait_for(service.client.count, until=lambda count: count >= 1000)
        users = service.client.groups({"group": "consumer_id"})
        assert {user: points[0][1] for user, points in users.items()} == {
            f"user-{n}": 250 for n in range(4)
        }
        errors = service.client.groups({"include": "is_error:true", "group": "service"})
        assert errors["program"][0][1] == 100
        assert service.client.count() == 1000


def test_the_demo_counts_every_request() -> None:
    """Five questions, five answers, and the counts agree with what was sent."""
    command = [sys.executable, "-m", "otel_apinalytics", "demo", "--once", "--seconds", "1.5"]
    ended = subprocess.run(
        [*command, "--grpc", "localhost:0", "--http", "localhost:0"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    assert ended.stdout.count("/1/timeseries/") == 5
    assert "Every request is counted" in ended.stdout
