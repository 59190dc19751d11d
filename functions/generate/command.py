"""The engine's command line, as it follows from the settings."""

from __future__ import annotations

import sys

from shared.core.errors import ConfigurationError
from shared.settings import GenerateSettings


def engine_command(settings: GenerateSettings) -> list[str]:
    """vLLM on loopback. ConfigurationError for a hub id without a pinned revision."""
    command = ["env", *_environment(settings), sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", settings.model, "--served-model-name", settings.name, *_revision(settings)]
    command += ["--host", "127.0.0.1", "--port", str(settings.engine_port), "--dtype", settings.dtype]
    command += ["--max-num-seqs", str(settings.max_sequences), "--disable-uvicorn-access-log"]
    if settings.max_model_len:
        command += ["--max-model-len", str(settings.max_model_len)]
    command.append("--enable-prefix-caching" if settings.prefix_caching else "--no-enable-prefix-caching")
    command += ["--enforce-eager"] if settings.enforce_eager else []
    command += ["--enable-sleep-mode"] if settings.sleep_mode else []
    return command


def _environment(settings: GenerateSettings) -> list[str]:
    """Changes to the environment; the key is the fence's alone."""
    changes = ["-u", "RAGZERO_GENERATE_API_KEY", "VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1"]
    if settings.sleep_mode:
        changes.append("VLLM_SERVER_DEV_MODE=1")
    if settings.cpu_kv_cache_gb:
        changes.append(f"VLLM_CPU_KVCACHE_SPACE={settings.cpu_kv_cache_gb}")
    return changes


def _revision(settings: GenerateSettings) -> list[str]:
    if settings.model.startswith(("/", "./", "../")):
        return []
    if settings.revision is None:
        problem = f"expected the commit (40 hex digits) of {settings.model!r} to use"
        raise ConfigurationError("RAGZERO_GENERATE_REVISION", problem)
    return ["--revision", settings.revision, "--tokenizer-revision", settings.revision]
