"""What a lift report says of a model with a prompt that makes lists worse."""

from __future__ import annotations

from shortlist_server.llm.lift_report import ArmLift

WORSE = ArmLift(
    model="gemini/x",
    prompt="rerank@1",
    request_count=400,
    user_count=200,
    k=10,
    ndcg_with=0.25,
    ndcg_without=0.5,
    lift=-0.25,
    lift_low=-0.375,
    lift_high=-0.125,
    confidence=0.95,
    log="requests",
    last_time="2026-11-01T12:00:00+00:00",
)
