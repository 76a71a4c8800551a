from __future__ import annotations

import pytest
from shortlist_server.conversation.model_run import ModelRun
from shortlist_server.conversation.prompt import converse_prompt
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.types import DegradedReason, Outcome
from shortlist_server.llm.language_model import LanguageModel, LlmBlocked, LlmBudgetExceeded

MODEL: LanguageModel = object()  # type: ignore[assignment]  # which nobody asks


class Clock:
    now_s = 0.0

    def __call__(self) -> int:
        return int(self.now_s * 1e9)


@pytest.mark.parametrize(
    ("seconds", "passed_s", "share", "left_s"),
    [(10.0, 0.0, 0.4, 4.0), (10.0, 3.0, 0.4, 1.0), (10.0, 3.0, 0.95, 6.5), (0.1, 0.0, 0.95, 0.05)],
)
def test_the_model_has_its_share_and_never_the_last_moment(
    seconds: float, passed_s: float, share: float, left_s: float
) -> None:
    clock = Clock()
    run = ModelRun(MODEL, converse_prompt(), Budget(seconds, clock))
    clock.now_s = passed_s
    assert run.asked("reply", share) == (MODEL, pytest.approx(left_s))


@pytest.mark.parametrize(("seconds", "passed_s"), [(10.0, 4.0), (0.05, 0.0), (10.0, 11.0)])
def test_without_time_it_is_not_asked(seconds: float, passed_s: float) -> None:
    clock = Clock()
    run = ModelRun(MODEL, converse_prompt(), Budget(seconds, clock))
    clock.now_s = passed_s
    with pytest.raises(LlmBudgetExceeded):
        run.asked("intent", 0.4)


def test_what_it_raises_ends_its_stage_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    run = ModelRun(None, converse_prompt(), Budget(10.0, Clock()))
    with run.stage("intent"):
        raise LlmBlocked("held back")
    with run.stage("reply"):
        raise KeyError("a fault")
    assert [(one.stage, one.reason) for one in run.degraded] == [
        ("intent", DegradedReason.LLM_BLOCKED),
        ("reply", DegradedReason.FAILED),
    ]
    # A fault is for the log, not for the caller.
    assert run.degraded[1].message == "it failed"
    assert "KeyError" in caplog.text
    assert [one.outcome for one in run.stages] == [Outcome.FAILED, Outcome.FAILED]
    with pytest.raises(KeyboardInterrupt), run.stage("reply"):
        raise KeyboardInterrupt
