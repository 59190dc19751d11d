"""The embedding job on Modal: numbers and their reasons; what happens is in functions/embed.

    export RAGZERO_EMBED_MODEL=org/model RAGZERO_EMBED_REVISION=<commit> RAGZERO_MODEL_DIR=<made by scripts/build-model>
    modal deploy --env dev infra/modal/embed.py
    modal run --env dev infra/modal/embed.py    asks the deployed one whether it is well

From the repository's root. The Secret `ragzero-embed` holds DATABASE_URL (of the role ragzero_embed) and
RAGZERO_EMBED_KEY; callers need a proxy token (Modal-Key, Modal-Secret) besides.
"""

from dataclasses import dataclass
from typing import Any

import modal

from functions.embed import handler
from functions.embed.probe import probe
from functions.embed.wake import create_app
from shared.settings import EmbedDeployment, WakeSettings

MINUTES = 60
DEPLOYMENT = EmbedDeployment.load()


@dataclass(frozen=True)
class Scaling:
    max_containers: int
    """Also the bound of what a model that fails to load can cost: Modal starts it again and again."""
    scaledown_window: int
    """Seconds that a container waits for the next knock, and costs."""


# The idle tail of one backlog costs containers x scaledown_window x the GPU's price per second: in prod at
# most 4 x 60 s of it. The work lies in the database, so a short tail costs the next backlog a start, no more.
SCALING = {
    "dev": Scaling(max_containers=1, scaledown_window=10),
    "staging": Scaling(max_containers=1, scaledown_window=10),
    "prod": Scaling(max_containers=4, scaledown_window=60),
}[DEPLOYMENT.environment]

RUN = 30 * MINUTES  # one call; the queue lies in the database, so what is left over waits for the next
WRAP_UP = 2 * MINUTES  # storing what is encoded, and handing leases back

weights = modal.Volume.from_name("ragzero-weights", create_if_missing=True)
secret = modal.Secret.from_name("ragzero-embed", required_keys=["DATABASE_URL", "RAGZERO_EMBED_KEY"])

# One image: the door below imports no torch, and what a container does not read is not fetched.
image = (
    modal.Image.debian_slim(python_version="3.12")
    .uv_pip_install(requirements=["functions/embed/requirements.txt"])
    .env(
        {
            "HF_HOME": "/weights",
            "RAGZERO_MODEL_DIR": "/space",
            "RAGZERO_EMBED_MODEL": DEPLOYMENT.model,
            "RAGZERO_EMBED_REVISION": DEPLOYMENT.revision,
        }
    )
    .add_local_file(DEPLOYMENT.model_dir / "manifest.json", "/space/manifest.json")
    .add_local_python_source("functions", "shared")
)

app = modal.App("ragzero-embed")


@app.cls(
    image=image,
    gpu=DEPLOYMENT.gpu,
    volumes={"/weights": weights},
    secrets=[secret],
    min_containers=0,
    max_containers=SCALING.max_containers,
    scaledown_window=SCALING.scaledown_window,
    startup_timeout=10 * MINUTES,  # the first start downloads; later ones find the weights on the Volume
    timeout=RUN + WRAP_UP,
    retries=modal.Retries(max_retries=2, initial_delay=5.0, backoff_coefficient=2.0),
    enable_memory_snapshot=True,
)
class Embed:
    @modal.enter(snap=True)
    def load(self) -> None:
        handler.load()  # on the CPU; reads no secret, which the snapshot would freeze

    @modal.enter(snap=False)
    def place(self) -> None:
        handler.place()

    @modal.method()
    def run(self) -> dict[str, Any]:
        return handler.run(RUN)

    @modal.exit()
    def stop(self) -> None:
        handler.stop()


@app.function(
    image=image,
    secrets=[secret],
    min_containers=0,
    max_containers=2,
    scaledown_window=10,  # its idle tail costs 10 s of the smallest container, and no GPU
    timeout=1 * MINUTES,
)
@modal.concurrent(max_inputs=20)
@modal.asgi_app(requires_proxy_auth=True)
def door() -> Any:
    return create_app(Embed().run.spawn, WakeSettings.load().key.get_secret_value(), SCALING.max_containers)


@app.local_entrypoint()
def health() -> None:
    url = modal.Function.from_name("ragzero-embed", "door").get_web_url()
    print(probe(url))  # noqa: T201 - for the person who asked
