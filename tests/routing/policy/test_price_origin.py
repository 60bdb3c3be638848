"""JSON of a plan's price origin."""

import orjson

from routing.policy.price_origin import PriceOrigin

OF_RESTART = (
    b'{"base":3,"samples_from":null,"period":2,"observed":0,"rows":0,"mean_cost":[1.0,2.5],'
    b'"from_samples":false,"solver":"exact","warmup":"buffer"}'
)
PUBLISHED = OF_RESTART.replace(b"null", b"17")[:-1] + b',"warmup_seconds":5.0}'


def test_to_dict_of_a_restart_has_the_keys_in_order():
    origin = PriceOrigin(base=3, period=2, mean_cost=(1.0, 2.5), solver="exact", warmup="buffer")
    assert orjson.dumps(origin.to_dict()) == OF_RESTART


def test_from_dict_and_back_keeps_every_byte():
    for message in (b"{}", OF_RESTART, PUBLISHED):
        assert orjson.dumps(PriceOrigin.from_dict(orjson.loads(message)).to_dict()) == message


def test_from_dict_ignores_unknown_keys():
    assert PriceOrigin.from_dict({"observed": 8, "later": 1}) == PriceOrigin(observed=8)
