"""The query function on Lambda, behind API Gateway or a function URL; answers come in one piece."""

from __future__ import annotations

from functions.query.app import create_app
from functions.query.gateway import adapted
from shared.settings import QuerySettings

_settings = QuerySettings.load()
handler = adapted(create_app(_settings, lazy=True), _settings.base_path)
