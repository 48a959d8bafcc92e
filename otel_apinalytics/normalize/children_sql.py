# SPDX-License-Identifier: Apache-2.0
"""The SQL of the batch rules: what spans of one segment say of each other (`batch_rules.py`).

A join over the segment, linear in its size: its records are read again for the spans that may say
something, and once more, if SERVER spans may be nested, for those that are calls. Only segments
with such spans pay for it; the door sees that by kinds, parents and flags.
"""

from __future__ import annotations

from otel_apinalytics.normalize import rules
from otel_apinalytics.normalize.rows_sql import Columns, layer

_PARENT_FLAGS = rules.FLAGS_PARENT_KNOWN + rules.FLAGS_PARENT_REMOTE
# Whether a span says that its parent is in the same process.
IS_LOCAL_SERVER = (
    f"bitAnd(flags, {_PARENT_FLAGS}) IN ({rules.FLAGS_PARENT_KNOWN}) "
    f"AND raw_kind IN ({rules.KIND_SERVER})"
)

_OF_OTHER = "span_parent_span_id != span_span_id"

# Targets that the children are asked for.
TARGETS = (
    "said_route", "said_function", "code_function", "code_namespace", "code_method", "handler",
    "rpc_system", "rpc_path", "rpc_service", "rpc_method", "graphql_type", "graphql_name",
    *rules.CONSUMER_PARTS,
)  # fmt: skip

# What children may say, where no child was asked.
NOTHING: Columns = {
    "child_route": "''",
    "child_function": "''",
    "child_graphql": "''",
    "child_consumer": "('', '')",
    "child_failed": "false",
    "is_nested": "false",
}

_ORDER = "(start_ns, span_span_id)"


def with_children(spans: str, children: str, servers: str | None) -> str:
    """Return spans with what their children say, and whether they are nested themselves.

    Args:
        spans: A SELECT with a row for each span.
        children: A SELECT with the spans that may be children, and the columns that this module
            groups.
        servers: A SELECT with the SERVER spans that are calls: application, trace id, span id,
            service. None where no span can be nested.
    """
    said = {
        "child_route": "route",
        "child_function": "function",
        "child_graphql": "graphql",
        "child_consumer": "(consumer, consumer_source)",
    }
    present = {name: value.strip("(").partition(",")[0] for name, value in said.items()}
    firsts = ", ".join(
        f"argMinIf({value}, {_ORDER}, notEmpty({present[name]})) AS {name}"
        for name, value in said.items()
    )
    grouped = (
        f"SELECT application AS of_application, span_trace_id AS of_trace_id, "
        f"span_parent_span_id AS of_span_id, {firsts}, "
        f"max(span_status IN ({rules.STATUS_ERROR}) AND notEmpty(graphql)) AS child_failed "
        f"FROM ({children}) GROUP BY of_application, of_trace_id, of_span_id "
        "HAVING notEmpty(child_route) OR notEmpty(child_function) OR notEmpty(child_graphql) "
        "OR notEmpty(child_consumer.1)"
    )
    joined = (
        f"SELECT * FROM ({spans}) AS spans ANY LEFT JOIN ({grouped}) AS families "
        "ON application = of_application "
        "AND span_trace_id = of_trace_id AND span_span_id = of_span_id"
    )
    if servers is None:
        return layer({"is_nested": "false"}, joined)
    key = "(application, span_trace_id, span_parent_span_id, raw_service)"
    return layer(
        {"is_nested": f"{IS_LOCAL_SERVER} AND {_OF_OTHER} AND {key} IN ({servers})"}, joined
    )
