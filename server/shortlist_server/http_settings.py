"""What the configuration says of calls over HTTP."""

from __future__ import annotations

from shortlist_server.bundle_label import BundleLabel
from shortlist_server.config import ServerConfig
from shortlist_server.errors import NotConfigured
from shortlist_server.labels import LabeledGenerations
from shortlist_server.rpc.http.options import CodelabOptions, HttpOptions


def http_options(config: ServerConfig, loaded: LabeledGenerations) -> HttpOptions | None:
    """Return how calls over HTTP are taken; None where they are not.

    Args:
        config: The configuration.
        loaded: What answers.

    Raises:
        NotConfigured: a bundle cannot answer the codelab's app, and `codelab_title` is set.
    """
    if config.http_listen is None:
        return None
    return HttpOptions(
        listen=config.http_listen,
        connections_max=config.http_connections_max,
        cors_origins=tuple((config.http_cors_origins or "").split()),
        playground=config.playground,
        codelab=_codelab(config, loaded),
    )


def _codelab(config: ServerConfig, loaded: LabeledGenerations) -> CodelabOptions | None:
    title = config.codelab_title
    if title is None:
        return None
    for label, generation in loaded.by_label():
        if label == BundleLabel.SHADOW:
            continue
        manifest = generation.bundle.manifest
        inputs = [entry for model in manifest.models.values() for entry in model.inputs]
        if manifest.users is None and not any(entry.source == "user.id" for entry in inputs):
            raise NotConfigured(
                setting="codelab_title",
                expected=f"none, since the {label} bundle {manifest.name} {manifest.version} knows "
                "no users and has no model that reads user.id",
            )
        columns = manifest.items.columns
        texts = [column.name for column in columns if column.type == "string"]
        if title not in texts:
            raise NotConfigured(
                setting="codelab_title",
                expected=f"one of {', '.join(texts) or 'none'}, which are the strings among the "
                f"attributes of the {label} bundle {manifest.name} {manifest.version}, not {title}",
            )
    return CodelabOptions(
        title=title,
        candidate_count=config.codelab_candidate_count,
        exclude_seen=config.codelab_exclude_seen,
    )
