"""The formats of weights keep the accuracy that they promise, on the bundled model."""

import accuracy
import pytest

# Over bf16: the most that the perplexity of answers may grow, and that the closed set may lose.
BARS = {"f32": (0.002, 0.005), "int8": (0.005, 0.01), "int4": (0.04, 0.01)}
NUM_CONVERSATIONS, NUM_PROMPTS = 450, 800


def measure(weights):
    return accuracy.measure(accuracy.FORMATS[weights], NUM_CONVERSATIONS, NUM_PROMPTS)


@pytest.fixture(scope="module")
def bf16():
    return measure("bf16")


def test_bf16_answers_what_the_model_knows(bf16):
    assert bf16.num_tokens >= 20000
    assert bf16.perplexity < 1.25
    assert bf16.closed_set > 0.95


@pytest.mark.parametrize("weights", BARS)
def test_a_format_stays_within_its_bar(bf16, weights):
    found = measure(weights)

    growth, loss = BARS[weights]
    assert found.perplexity <= (1 + growth) * bf16.perplexity
    assert found.closed_set >= bf16.closed_set - loss
