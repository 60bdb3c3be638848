"""Messages as a consumer returns them."""

from dataclasses import dataclass, field


@dataclass
class MadeMessage:
    """A message with the methods of confluent-kafka's that readers call."""

    name: str
    own_key: bytes
    own_value: bytes | None
    own_headers: list = field(default_factory=list)
    own_offset: int = 0

    def topic(self) -> str:
        return self.name

    def key(self) -> bytes:
        return self.own_key

    def value(self) -> bytes | None:
        return self.own_value

    def headers(self) -> list:
        return self.own_headers

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.own_offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000
