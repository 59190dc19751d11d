"""python -m functions.generate, configured by RAGZERO_GENERATE_*; events as JSON lines on stdout."""

import asyncio

from functions.generate.service import announce, serve
from shared.core.errors import RagzeroError
from shared.settings import GenerateSettings


def main() -> int:
    try:
        return asyncio.run(serve(GenerateSettings.load()))
    except RagzeroError as error:
        announce("failed", error=type(error).__name__, message=str(error))
        return 1


raise SystemExit(main())
