# SPDX-License-Identifier: Apache-2.0
"""The error tree: the place that knows a cause picks the class, each transport maps it once.

    ApinalyticsError
    ├── ConfigError           a setting, path, port or database that the service cannot start with
    ├── BackupError           a backup that could not be made, or cannot be restored
    ├── ClientError           a service that a command could not ask, or that refuses
    ├── AuthenticationError   no key, or one that is not known
    ├── PermissionDeniedError a known key that may not do this
    ├── InvalidRequestError   a request that can never succeed as it stands
    │   ├── RequestTooLargeError
    │   ├── UnsupportedMediaTypeError
    │   ├── NotFoundError     what it names is not there
    │   └── ConflictError     what it names is not in a state for it
    └── RetryableError        our trouble or our limit: the same request may succeed later
        └── TooManyRequestsError  more than a key, or a stranger, may do within a minute

Messages are lower case, name the offending value and what is allowed, and never contain a key.
"""

from __future__ import annotations


class ApinalyticsError(Exception):
    """Base class of all errors of this package."""


class ConfigError(ApinalyticsError):
    """The service cannot start as it is configured."""


class BackupError(ApinalyticsError):
    """A backup could not be made, or cannot be restored as it is."""


class ClientError(ApinalyticsError):
    """A command could not ask a service, or the service refuses.

    Args:
        message: Why, in one line.
        status: The status of its answer; None where there is none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AuthenticationError(ApinalyticsError):
    """The request carries no key, or one that is not known or valid.

    Args:
        message: Why, in one sentence.
        application: The application that it names, if that one is known. Not for the sender.
        key_id: The key, if it is a known one that is not valid any more.
    """

    def __init__(self, message: str, application: str | None = None, key_id: str = "") -> None:
        super().__init__(message)
        self.application = application
        self.key_id = key_id


class PermissionDeniedError(ApinalyticsError):
    """The key is known but may not do what was asked.

    Args:
        message: Why, in one sentence.
        application: The key's application.
        key_id: The key.
    """

    def __init__(self, message: str, application: str, key_id: str) -> None:
        super().__init__(message)
        self.application = application
        self.key_id = key_id


class InvalidRequestError(ApinalyticsError):
    """The request can never succeed as it stands.

    Args:
        message: What is wrong, in one sentence.
        parameter: The parameter or field at fault, if one is.
        value: Its value as received.
        allowed: What would be accepted, in words.
        index: For a batch, the position of the item at fault, from 0.
    """

    def __init__(
        self,
        message: str,
        *,
        parameter: str | None = None,
        value: str | None = None,
        allowed: str | None = None,
        index: int | None = None,
    ) -> None:
        super().__init__(message)
        self.parameter = parameter
        self.value = value
        self.allowed = allowed
        self.index = index


class RequestTooLargeError(InvalidRequestError):
    """The request is larger than the limit."""


class UnsupportedMediaTypeError(InvalidRequestError):
    """The request's body is of a type that is not taken here."""


class NotFoundError(InvalidRequestError):
    """What the request names is not there, or not the key's."""


class ConflictError(InvalidRequestError):
    """What the request names is not in a state in which this can be done."""


class RetryableError(ApinalyticsError):
    """The request could not be taken now. As a rule nothing of it was kept.

    Args:
        message: Why, in one sentence.
        retry_after_s: Seconds after which a retry makes sense. Short, because SDK queues are
            small (2048 spans) and give up within their own deadline.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooManyRequestsError(RetryableError):
    """A key, or an address with unknown keys, has done what it may within a minute.

    Args:
        message: Which limit it is.
        retry_after_s: Seconds after which there is some of it again.
        application: The key's application, or None where no known key came.
        key_id: The key, likewise.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float,
        application: str | None = None,
        key_id: str = "",
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.application = application
        self.key_id = key_id
