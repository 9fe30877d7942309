"""OpenAPI: schemathesis finds nothing that the service answers otherwise than its description says."""

import contextlib

import pytest
from served import saved  # first, because it skips these tests without the extra `serve`

import neuralcf

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis: pip install 'neuralcf[test]'")

import jsonschema_rs  # noqa: E402 - which schemathesis needs
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.errors import Unsatisfiable  # noqa: E402
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance  # noqa: E402

from neuralcf.serving.http.app import Settings, make_app  # noqa: E402

UNSAID = (
    *("one for each", "a list for each", "equal lengths", "vectors", "already", "twice"),
    *("only for search", "recall or probes", "needs an index", "does not take max_per_group"),
)
"""What OpenAPI cannot say, by the words of refusals: that one array is as long as another, that an id is new, that one
query parameter goes with another, or what a model has that may be exchanged at any time."""


def is_right_as_text(case):
    """Tell whether a query is right in spite of its types: there a value and an array of that one value look alike."""
    schemas = {each["name"]: each["schema"] for each in case.operation.definition.raw.get("parameters", ())}

    def is_right(name, value):
        alone = value[0] if isinstance(value, list) and len(value) == 1 else value
        return name in schemas and any(jsonschema_rs.is_valid(schemas[name], read) for read in (value, alone, [alone]))

    return bool(case.query) and all(is_right(name, value) for name, value in case.query.items())


def expressions():
    """Make expressions of named sets."""
    names = st.sampled_from(["in_stock", "shoes", "a.b:c"])

    def joined(part):
        return st.tuples(part, st.sampled_from("-&^|"), part).map(lambda three: "({} {} {})".format(*three))

    return st.recursive(names, joined, max_leaves=5)


schemathesis.openapi.format("set-expression", expressions())


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    recommender = neuralcf.Recommender.load(saved(tmp_path_factory.mktemp("described") / "model"))
    limits = Settings(max_users=3, max_items=5, max_k=20, timeout=30)
    return schemathesis.openapi.from_asgi("/openapi.json", make_app(recommender, limits))


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.name)
@pytest.mark.filterwarnings("default")
def test_answers_are_as_described(api, mode):
    checked = []
    for operation in (found.ok() for found in api.get_all_operations()):
        examples = 40 if operation.path in ("/recommend", "/score", "/similar", "/explain") else 5

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=operation.as_strategy(generation_mode=mode))
        def answers_as_described(case):
            response = case.call()
            unsaid = response.status_code == 422 and any(words in response.json()["error"] for words in UNSAID)
            excluded = [positive_data_acceptance] if unsaid else []
            excluded += [negative_data_rejection] if is_right_as_text(case) else []
            case.validate_response(response, excluded_checks=excluded)
            checked.append(case.operation.label)

        with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request that takes nothing
            answers_as_described()
    assert {"GET /recommend", "POST /recommend", "GET /score", "POST /score"} <= set(checked)
