from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Payload(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAYLOAD_UNSPECIFIED: _ClassVar[Payload]
    PAYLOAD_TRACES: _ClassVar[Payload]
    PAYLOAD_EVENTS: _ClassVar[Payload]
    PAYLOAD_REJECTED: _ClassVar[Payload]
    PAYLOAD_DUPLICATE: _ClassVar[Payload]
    PAYLOAD_REFUSED: _ClassVar[Payload]
    PAYLOAD_AUDIT: _ClassVar[Payload]
PAYLOAD_UNSPECIFIED: Payload
PAYLOAD_TRACES: Payload
PAYLOAD_EVENTS: Payload
PAYLOAD_REJECTED: Payload
PAYLOAD_DUPLICATE: Payload
PAYLOAD_REFUSED: Payload
PAYLOAD_AUDIT: Payload

class GateRequest(_message.Message):
    __slots__ = ("resource_spans",)
    RESOURCE_SPANS_FIELD_NUMBER: _ClassVar[int]
    resource_spans: _containers.RepeatedCompositeFieldContainer[GateResourceSpans]
    def __init__(self, resource_spans: _Optional[_Iterable[_Union[GateResourceSpans, _Mapping]]] = ...) -> None: ...

class GateResourceSpans(_message.Message):
    __slots__ = ("scope_spans",)
    SCOPE_SPANS_FIELD_NUMBER: _ClassVar[int]
    scope_spans: _containers.RepeatedCompositeFieldContainer[GateScopeSpans]
    def __init__(self, scope_spans: _Optional[_Iterable[_Union[GateScopeSpans, _Mapping]]] = ...) -> None: ...

class GateScopeSpans(_message.Message):
    __slots__ = ("spans",)
    SPANS_FIELD_NUMBER: _ClassVar[int]
    spans: _containers.RepeatedCompositeFieldContainer[GateSpan]
    def __init__(self, spans: _Optional[_Iterable[_Union[GateSpan, _Mapping]]] = ...) -> None: ...

class GateSpan(_message.Message):
    __slots__ = ("trace_id", "span_id", "parent_span_id", "kind", "flags")
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    kind: int
    flags: int
    def __init__(self, trace_id: _Optional[bytes] = ..., span_id: _Optional[bytes] = ..., parent_span_id: _Optional[bytes] = ..., kind: _Optional[int] = ..., flags: _Optional[int] = ...) -> None: ...

class LogHeader(_message.Message):
    __slots__ = ("record_id", "application", "key_id", "transport", "received_ns", "received_count", "reject_reason", "payload", "digest", "batch_rules")
    RECORD_ID_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_NS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_COUNT_FIELD_NUMBER: _ClassVar[int]
    REJECT_REASON_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BATCH_RULES_FIELD_NUMBER: _ClassVar[int]
    record_id: bytes
    application: str
    key_id: str
    transport: str
    received_ns: int
    received_count: int
    reject_reason: str
    payload: Payload
    digest: bytes
    batch_rules: int
    def __init__(self, record_id: _Optional[bytes] = ..., application: _Optional[str] = ..., key_id: _Optional[str] = ..., transport: _Optional[str] = ..., received_ns: _Optional[int] = ..., received_count: _Optional[int] = ..., reject_reason: _Optional[str] = ..., payload: _Optional[_Union[Payload, str]] = ..., digest: _Optional[bytes] = ..., batch_rules: _Optional[int] = ...) -> None: ...

class LogRecord(_message.Message):
    __slots__ = ("record_id", "application", "key_id", "transport", "received_ns", "received_count", "reject_reason", "payload", "batch_rules", "digest", "hash_key", "traces", "events", "audit")
    RECORD_ID_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_NS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_COUNT_FIELD_NUMBER: _ClassVar[int]
    REJECT_REASON_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    BATCH_RULES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    HASH_KEY_FIELD_NUMBER: _ClassVar[int]
    TRACES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_FIELD_NUMBER: _ClassVar[int]
    record_id: bytes
    application: str
    key_id: str
    transport: str
    received_ns: int
    received_count: int
    reject_reason: str
    payload: Payload
    batch_rules: int
    digest: bytes
    hash_key: bytes
    traces: TraceRequest
    events: EventBatch
    audit: AuditBatch
    def __init__(self, record_id: _Optional[bytes] = ..., application: _Optional[str] = ..., key_id: _Optional[str] = ..., transport: _Optional[str] = ..., received_ns: _Optional[int] = ..., received_count: _Optional[int] = ..., reject_reason: _Optional[str] = ..., payload: _Optional[_Union[Payload, str]] = ..., batch_rules: _Optional[int] = ..., digest: _Optional[bytes] = ..., hash_key: _Optional[bytes] = ..., traces: _Optional[_Union[TraceRequest, _Mapping]] = ..., events: _Optional[_Union[EventBatch, _Mapping]] = ..., audit: _Optional[_Union[AuditBatch, _Mapping]] = ...) -> None: ...

class TraceRequest(_message.Message):
    __slots__ = ("resource_spans",)
    RESOURCE_SPANS_FIELD_NUMBER: _ClassVar[int]
    resource_spans: _containers.RepeatedCompositeFieldContainer[ResourceSpans]
    def __init__(self, resource_spans: _Optional[_Iterable[_Union[ResourceSpans, _Mapping]]] = ...) -> None: ...

class ResourceSpans(_message.Message):
    __slots__ = ("resource", "scope_spans")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_SPANS_FIELD_NUMBER: _ClassVar[int]
    resource: Resource
    scope_spans: _containers.RepeatedCompositeFieldContainer[ScopeSpans]
    def __init__(self, resource: _Optional[_Union[Resource, _Mapping]] = ..., scope_spans: _Optional[_Iterable[_Union[ScopeSpans, _Mapping]]] = ...) -> None: ...

class Resource(_message.Message):
    __slots__ = ("attributes",)
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    attributes: _containers.RepeatedCompositeFieldContainer[KeyValue]
    def __init__(self, attributes: _Optional[_Iterable[_Union[KeyValue, _Mapping]]] = ...) -> None: ...

class ScopeSpans(_message.Message):
    __slots__ = ("scope", "spans")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    scope: Scope
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    def __init__(self, scope: _Optional[_Union[Scope, _Mapping]] = ..., spans: _Optional[_Iterable[_Union[Span, _Mapping]]] = ...) -> None: ...

class Scope(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    def __init__(self, name: _Optional[bytes] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("trace_id", "span_id", "trace_state", "parent_span_id", "name", "kind", "start_time_unix_nano", "end_time_unix_nano", "attributes", "events", "status", "flags")
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_STATE_FIELD_NUMBER: _ClassVar[int]
    PARENT_SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    START_TIME_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    END_TIME_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    trace_id: bytes
    span_id: bytes
    trace_state: bytes
    parent_span_id: bytes
    name: bytes
    kind: int
    start_time_unix_nano: int
    end_time_unix_nano: int
    attributes: _containers.RepeatedCompositeFieldContainer[KeyValue]
    events: _containers.RepeatedCompositeFieldContainer[SpanEvent]
    status: Status
    flags: int
    def __init__(self, trace_id: _Optional[bytes] = ..., span_id: _Optional[bytes] = ..., trace_state: _Optional[bytes] = ..., parent_span_id: _Optional[bytes] = ..., name: _Optional[bytes] = ..., kind: _Optional[int] = ..., start_time_unix_nano: _Optional[int] = ..., end_time_unix_nano: _Optional[int] = ..., attributes: _Optional[_Iterable[_Union[KeyValue, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[SpanEvent, _Mapping]]] = ..., status: _Optional[_Union[Status, _Mapping]] = ..., flags: _Optional[int] = ...) -> None: ...

class SpanEvent(_message.Message):
    __slots__ = ("name", "attributes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    attributes: _containers.RepeatedCompositeFieldContainer[TextAttribute]
    def __init__(self, name: _Optional[bytes] = ..., attributes: _Optional[_Iterable[_Union[TextAttribute, _Mapping]]] = ...) -> None: ...

class TextAttribute(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: Text
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[_Union[Text, _Mapping]] = ...) -> None: ...

class Text(_message.Message):
    __slots__ = ("string_value",)
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    string_value: bytes
    def __init__(self, string_value: _Optional[bytes] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("code",)
    CODE_FIELD_NUMBER: _ClassVar[int]
    code: int
    def __init__(self, code: _Optional[int] = ...) -> None: ...

class KeyValue(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: AnyValue
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[_Union[AnyValue, _Mapping]] = ...) -> None: ...

class AnyValue(_message.Message):
    __slots__ = ("string_value", "bool_value", "int_value", "double_value", "array_value")
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    ARRAY_VALUE_FIELD_NUMBER: _ClassVar[int]
    string_value: bytes
    bool_value: int
    int_value: int
    double_value: float
    array_value: ArrayValue
    def __init__(self, string_value: _Optional[bytes] = ..., bool_value: _Optional[int] = ..., int_value: _Optional[int] = ..., double_value: _Optional[float] = ..., array_value: _Optional[_Union[ArrayValue, _Mapping]] = ...) -> None: ...

class ArrayValue(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[ArrayItem]
    def __init__(self, values: _Optional[_Iterable[_Union[ArrayItem, _Mapping]]] = ...) -> None: ...

class ArrayItem(_message.Message):
    __slots__ = ("string_value", "bool_value", "int_value", "double_value")
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    string_value: bytes
    bool_value: int
    int_value: int
    double_value: float
    def __init__(self, string_value: _Optional[bytes] = ..., bool_value: _Optional[int] = ..., int_value: _Optional[int] = ..., double_value: _Optional[float] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("event_id", "trace_id", "span_id", "parent_span_id", "timestamp_us", "response_us", "status_code", "consumer_id", "method", "url", "function", "route", "direction", "service", "host", "is_error", "consumer_source", "developer_id", "app_id", "organization_id", "plan_id", "client_id", "service_version", "environment", "region", "route_source", "api_version", "error_type", "rpc_status", "cache_status", "is_stream", "upstream_us", "queue_us", "request_bytes", "response_bytes", "resend_count", "quota_consumed", "weight", "user_agent", "client_name", "client_version", "client_ip_hash", "protocol_version", "sdk_language", "synthetic", "experiment", "variant", "job_type", "attributes", "metrics", "span_service", "span_name")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_US_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_US_FIELD_NUMBER: _ClassVar[int]
    STATUS_CODE_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_ID_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    IS_ERROR_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_SOURCE_FIELD_NUMBER: _ClassVar[int]
    DEVELOPER_ID_FIELD_NUMBER: _ClassVar[int]
    APP_ID_FIELD_NUMBER: _ClassVar[int]
    ORGANIZATION_ID_FIELD_NUMBER: _ClassVar[int]
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ROUTE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    API_VERSION_FIELD_NUMBER: _ClassVar[int]
    ERROR_TYPE_FIELD_NUMBER: _ClassVar[int]
    RPC_STATUS_FIELD_NUMBER: _ClassVar[int]
    CACHE_STATUS_FIELD_NUMBER: _ClassVar[int]
    IS_STREAM_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_US_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESEND_COUNT_FIELD_NUMBER: _ClassVar[int]
    QUOTA_CONSUMED_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    USER_AGENT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_IP_HASH_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SDK_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SYNTHETIC_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    SPAN_SERVICE_FIELD_NUMBER: _ClassVar[int]
    SPAN_NAME_FIELD_NUMBER: _ClassVar[int]
    event_id: int
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    timestamp_us: int
    response_us: int
    status_code: int
    consumer_id: str
    method: str
    url: str
    function: str
    route: str
    direction: str
    service: str
    host: str
    is_error: bool
    consumer_source: str
    developer_id: str
    app_id: str
    organization_id: str
    plan_id: str
    client_id: str
    service_version: str
    environment: str
    region: str
    route_source: str
    api_version: str
    error_type: str
    rpc_status: str
    cache_status: str
    is_stream: bool
    upstream_us: int
    queue_us: int
    request_bytes: int
    response_bytes: int
    resend_count: int
    quota_consumed: int
    weight: int
    user_agent: str
    client_name: str
    client_version: str
    client_ip_hash: str
    protocol_version: str
    sdk_language: str
    synthetic: str
    experiment: str
    variant: str
    job_type: str
    attributes: _containers.ScalarMap[str, str]
    metrics: _containers.ScalarMap[str, float]
    span_service: str
    span_name: str
    def __init__(self, event_id: _Optional[int] = ..., trace_id: _Optional[bytes] = ..., span_id: _Optional[bytes] = ..., parent_span_id: _Optional[bytes] = ..., timestamp_us: _Optional[int] = ..., response_us: _Optional[int] = ..., status_code: _Optional[int] = ..., consumer_id: _Optional[str] = ..., method: _Optional[str] = ..., url: _Optional[str] = ..., function: _Optional[str] = ..., route: _Optional[str] = ..., direction: _Optional[str] = ..., service: _Optional[str] = ..., host: _Optional[str] = ..., is_error: _Optional[bool] = ..., consumer_source: _Optional[str] = ..., developer_id: _Optional[str] = ..., app_id: _Optional[str] = ..., organization_id: _Optional[str] = ..., plan_id: _Optional[str] = ..., client_id: _Optional[str] = ..., service_version: _Optional[str] = ..., environment: _Optional[str] = ..., region: _Optional[str] = ..., route_source: _Optional[str] = ..., api_version: _Optional[str] = ..., error_type: _Optional[str] = ..., rpc_status: _Optional[str] = ..., cache_status: _Optional[str] = ..., is_stream: _Optional[bool] = ..., upstream_us: _Optional[int] = ..., queue_us: _Optional[int] = ..., request_bytes: _Optional[int] = ..., response_bytes: _Optional[int] = ..., resend_count: _Optional[int] = ..., quota_consumed: _Optional[int] = ..., weight: _Optional[int] = ..., user_agent: _Optional[str] = ..., client_name: _Optional[str] = ..., client_version: _Optional[str] = ..., client_ip_hash: _Optional[str] = ..., protocol_version: _Optional[str] = ..., sdk_language: _Optional[str] = ..., synthetic: _Optional[str] = ..., experiment: _Optional[str] = ..., variant: _Optional[str] = ..., job_type: _Optional[str] = ..., attributes: _Optional[_Mapping[str, str]] = ..., metrics: _Optional[_Mapping[str, float]] = ..., span_service: _Optional[str] = ..., span_name: _Optional[str] = ...) -> None: ...

class AuditBatch(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("at_us", "application", "key_id", "key_name", "action", "method", "route", "parameters", "status", "rows", "bytes", "client_address")
    AT_US_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_NAME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    at_us: int
    application: str
    key_id: str
    key_name: str
    action: str
    method: str
    route: str
    parameters: _containers.RepeatedCompositeFieldContainer[AuditParameter]
    status: int
    rows: int
    bytes: int
    client_address: str
    def __init__(self, at_us: _Optional[int] = ..., application: _Optional[str] = ..., key_id: _Optional[str] = ..., key_name: _Optional[str] = ..., action: _Optional[str] = ..., method: _Optional[str] = ..., route: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[AuditParameter, _Mapping]]] = ..., status: _Optional[int] = ..., rows: _Optional[int] = ..., bytes: _Optional[int] = ..., client_address: _Optional[str] = ...) -> None: ...

class AuditParameter(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
