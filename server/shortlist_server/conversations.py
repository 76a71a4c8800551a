"""What the configuration says of conversations."""

from __future__ import annotations

from collections.abc import Callable

from shortlist_server.config import ServerConfig
from shortlist_server.conversation.dialogue import Dialogue, DialogueOptions, Ended, Understood
from shortlist_server.conversation.kept import (
    KeptConversations,
    KeptOptions,
    MemoryConversations,
)
from shortlist_server.conversation.kept_file import FileConversations
from shortlist_server.errors import ConfigError
from shortlist_server.llm.language_model import LanguageModel
from shortlist_server.llm.prompt import PromptInvalid
from shortlist_server.observability.metrics import Metrics
from shortlist_server.rpc.conversation_service import ConversationService
from shortlist_server.rpc.generations import Generations
from shortlist_server.runtime.compute import ComputePool


def make_conversation_service(
    config: ServerConfig,
    generations: Callable[[], Generations],
    compute: ComputePool,
    language_model: LanguageModel | None,
    metrics: Metrics | None,
) -> ConversationService:
    """Return the service of conversations.

    Args:
        config: The configuration.
        generations: Returns what a turn that arrives now is answered from.
        compute: Where the funnel runs.
        language_model: Understands and words the replies; None where there is none.
        metrics: Counts turns; None where nobody asks.

    Raises:
        ConfigError: the file of the prompt, or that of kept conversations, cannot be used.
    """
    section = config.conversation
    kept = _kept(config)
    if metrics is not None and kept is not None:
        _watch(metrics, kept)
    return ConversationService(
        generations=generations,
        compute=compute,
        dialogue=_dialogue(config, language_model),
        kept=kept,
        default_timeout_s=section.timeout_ms / 1e3,
        observe=None if metrics is None else metrics.answered,
        observe_turn=None if metrics is None else _counting(metrics),
    )


def _kept(config: ServerConfig) -> KeptConversations | None:
    section = config.conversation
    if not section.count_max:
        return None
    options = KeptOptions(
        ttl_s=section.ttl_s, count_max=section.count_max, bytes_max=section.bytes_max
    )
    if not config.workers:
        return MemoryConversations(options)
    # The next turn may come to any worker.
    return None if config.state_dir is None else FileConversations(config.state_dir, options)


def _dialogue(config: ServerConfig, language_model: LanguageModel | None) -> Dialogue:
    section = config.conversation
    template = ""
    if (file := section.prompt_file) is not None:
        try:
            template = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"conversation.prompt_file: {file}: cannot be read") from error
    options = DialogueOptions(
        template=template, intent_share=section.intent_share, reply_share=section.reply_share
    )
    try:
        return Dialogue(language_model, options)
    except PromptInvalid as error:
        raise ConfigError(f"conversation.prompt_file: {section.prompt_file}: {error}") from error


def _watch(metrics: Metrics, kept: KeptConversations) -> None:
    metrics.watch("conversations_kept", "Conversations that the server keeps.", lambda: len(kept))
    metrics.watch("conversations_kept_bytes", "What they take.", lambda: kept.size_bytes)


def _counting(metrics: Metrics) -> Callable[[Understood, Ended], None]:
    def ended(understood: Understood, end: Ended) -> None:
        metrics.turn_ended(
            understood.intent.action.value,
            {one.stage: one.reason.value for one in end.degraded},
            () if end.use is None else end.use.violations,
        )

    return ended
