"""Brings the database of DATABASE_ADMIN_URL to the current schema and registers the model's embedding space."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from shared.adapters.onnx_embedder import Manifest
from shared.adapters.postgres.migrate import migrate
from shared.adapters.postgres.space_tables import ensure_model, renew_functions
from shared.core.errors import RagzeroError
from shared.core.models import Space, Storage
from shared.settings import MigrateSettings


def run(settings: MigrateSettings, model_dir: Path | None) -> list[str]:
    """What was done, in words."""
    url = settings.admin_url.get_secret_value()
    passwords = {
        "ragzero_owner": settings.owner_password,
        "ragzero_ingest": settings.ingest_password,
        "ragzero_query": settings.query_password,
        "ragzero_embed": settings.embed_password,
        "ragzero_reindex": settings.reindex_password,
    }
    applied = migrate(url, {role: secret.get_secret_value() for role, secret in passwords.items()})
    renew_functions(url)
    done = [f"applied {name}" for name in applied] or ["the schema is current"]
    if model_dir is None:
        return done
    manifest = Manifest.read(model_dir)
    space = space_of(manifest)
    return [*done, f"space {ensure_model(url, space)}: {space.name}, {space.dimension} dimensions"]


def space_of(manifest: Manifest, storage: Storage = Storage.FLOAT16) -> Space:
    """The space of a model that is still to be made."""
    name = manifest.name if storage is Storage.FLOAT16 else f"{manifest.name}:{storage}"
    return Space(
        0,
        name,
        manifest.model,
        manifest.revision,
        manifest.dimension,
        manifest.fingerprint,
        storage=storage,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="folder made by scripts/build-model")
    arguments = parser.parse_args()
    try:
        print("\n".join(run(MigrateSettings.load(), arguments.model)))
    except RagzeroError as error:
        print(f"migrate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
