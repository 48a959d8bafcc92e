# SPDX-License-Identifier: Apache-2.0
"""The error tree: the place that knows a cause picks the class, each transport maps it once.

    ApinalyticsError
    ├── ConfigError           a setting, path, port or database that the service cannot start with
    ├── BackupError           a backup that could not be made, or cannot be restored
    ├── AuthenticationError   no key, or one that is not known
    ├── PermissionDeniedError a known key that may not do this
    ├── InvalidRequestError   a request that can never succeed as it stands
    │   ├── RequestTooLargeError
    │   └── UnsupportedMediaTypeError
    └── RetryableError        our trouble or our limit: the same request may succeed later

Messages are lower case, name the offending value and what is allowed, and never contain a key.
"""

from __future__ import annotations


class ApinalyticsError(Exception):
    """Base class of all errors of this package."""


class ConfigError(ApinalyticsError):
    """The service cannot start as it is configured."""


class BackupError(ApinalyticsError):
    """A backup could not be made, or cannot be restored as it is."""


class AuthenticationError(ApinalyticsError):
    """The request carries no key, or one that is not known.

    Args:
        message: Why, in one sentence.
        application: The application that it names, if that one is known. Not for the sender.
    """

    def __init__(self, message: str, application: str | None = None) -> None:
        super().__init__(message)
        self.application = application


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
