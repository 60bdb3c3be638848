"""What can go wrong with a broker: something is missing, or it does not start."""


class BrokerError(RuntimeError):
    """A broker that could not be started, reached or stopped; the message says why and what to do."""


class MissingToolError(BrokerError):
    """A program that a kind of broker needs is not on this machine; the message says how to get it."""
