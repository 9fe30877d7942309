"""OpenAPI: schemathesis finds nothing that the service answers otherwise than its description says."""

import contextlib

import pytest
from served import saved  # first, because it skips these tests without the extra `serve`

import neuralcf

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis: pip install 'neuralcf[test]'")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis.errors import Unsatisfiable  # noqa: E402

from neuralcf.serving.http.app import Settings, make_app  # noqa: E402


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
        examples = 40 if operation.path in ("/recommend", "/score") else 3

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=operation.as_strategy(generation_mode=mode))
        def answers_as_described(case):
            case.call_and_validate()
            checked.append(case.operation.label)

        with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request that takes nothing
            answers_as_described()
    assert {"GET /recommend", "POST /recommend", "GET /score", "POST /score"} <= set(checked)
