"""Import of prices: fields that are missing are filled, and an unknown LLM is named."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from routing.__main__ import main
from routing.budgets.known_prices import find_prices, with_prices
from routing.budgets.model import Model

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", ["gpt-4o", "openai/gpt-4o", "GPT-4o"])
def test_find_prices_of_a_name_with_or_without_provider(name: str):
    known = find_prices(name, AT)

    assert known is not None
    assert (known.provider, known.tiered) == ("openai", False)
    assert known.fields == {
        "input_price": 2.5,
        "output_price": 10.0,
        "cached_input_price": 1.25,
        "context_window": 128000,
    }


def test_find_prices_with_tiers_gives_the_lowest_and_says_so():
    known = find_prices("gemini-1.5-pro-002", AT)

    assert known is not None
    assert (known.tiered, known.fields["input_price"]) == (True, 1.25)


def test_find_prices_unknown_llm_or_provider_is_none():
    assert find_prices("my-own-llm", AT) is None
    assert find_prices("gpt-4o", AT, "no-such-provider") is None


def test_with_prices_keeps_set_fields_unless_overwriting():
    known = find_prices("gpt-4o", AT)
    assert known is not None

    model, lines = with_prices(Model("gpt-4o", input_price=7.0), known)
    assert (model.input_price, model.output_price, model.context_window) == (7.0, 10.0, 128000)
    assert "gpt-4o: output_price none -> 10" in lines
    replaced, lines = with_prices(Model("gpt-4o", input_price=7.0), known, overwrite=True)
    assert replaced.input_price == 2.5
    assert "gpt-4o: input_price 7 -> 2.5" in lines


def test_prices_import_writes_a_catalogue_and_names_unknown_llms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file, out = tmp_path / "in.yaml", tmp_path / "out.yaml"
    models = ["gpt-4o", {"name": "my-own-llm", "input_price": 1.0}]
    file.write_text(yaml.safe_dump({"budget_usd": 5, "models": models}))

    assert main(["prices", "import", "--catalogue", str(file), "--out", str(out)]) == 1

    written = yaml.safe_load(out.read_text())
    assert written["budget_usd"] == 5
    assert written["models"][0]["output_price"] == 10.0
    assert written["models"][1] == models[1]
    errors = capsys.readouterr().err
    assert "my-own-llm: genai-prices does not know it; set its prices by hand" in errors
    assert main(["prices", "import", "--catalogue", str(tmp_path / "missing.yaml")]) == 2
