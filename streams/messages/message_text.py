"""The text of chat messages, which is the prompt of a query without one."""

from __future__ import annotations

from typing import Any


class MessagesError(ValueError):
    """Messages without text, or not in the form of the chat completions API.

    Parameters
    ----------
    place : str
        The invalid part, such as `messages[2].content`.
    reason : str
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


def message_text(messages: object) -> str:
    """Return the text by which a query with these messages is embedded and estimated.

    The last message of the user comes first, then the others in their order: an embedding model reads only
    the beginning of a long text.

    Parameters
    ----------
    messages : object
        A list of messages of the chat completions API.

    Raises
    ------
    MessagesError
        They are not messages, or have no text.

    Examples
    --------
    >>> message_text([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}])
    'Why?\\n\\nBe brief.'
    """
    if not isinstance(messages, list) or not messages:
        raise MessagesError("messages", f"{_shown(messages)} must be a list that is not empty")
    texts = [_text(message, f"messages[{number}]") for number, message in enumerate(messages)]
    last = max((n for n, message in enumerate(messages) if message["role"] == "user" and texts[n]), default=0)
    text = "\n\n".join(piece for piece in (texts[last], *texts[:last], *texts[last + 1 :]) if piece)
    if not text:
        raise MessagesError("messages", "have no text, and queries are routed by their text")
    return text


def _text(message: Any, place: str) -> str:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise MessagesError(place, "must be an object with role and content")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise MessagesError(f"{place}.content", f"{_shown(content)} must be a text or a list of parts")
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n\n".join(text for text in texts if isinstance(text, str) and text)


def _shown(value: object) -> str:
    text = "is missing or null;" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
