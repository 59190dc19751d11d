"""The generator on Modal: numbers and their reasons; what happens is in functions/generate.

    export RAGZERO_GENERATE_MODEL=org/model RAGZERO_GENERATE_REVISION=<commit>
    modal deploy --env dev infra/modal/generate.py
    modal run --env dev infra/modal/generate.py    asks the deployed one whether it is well

From the repository's root. The Secret `ragzero-generate` holds RAGZERO_GENERATE_API_KEY; callers need a proxy
token (Modal-Key, Modal-Secret) besides.
"""

from dataclasses import dataclass

import modal

from functions.generate.container import Container
from functions.generate.probe import probe
from shared.settings import GenerateDeployment

MINUTES = 60
PORT = 8000
DEPLOYMENT = GenerateDeployment.load()


@dataclass(frozen=True)
class Scaling:
    max_containers: int
    """Also the bound of what a model that fails to load can cost: Modal starts it again and again."""
    scaledown_window: int
    """Seconds that a container waits for the next question, and costs."""


# The idle tail of one visit costs scaledown_window x the GPU's price per second (RAGZERO_PRICE_GPU_SECOND of
# the query function): in prod 300 s of it. Whoever comes within it waits for no start.
SCALING = {
    "dev": Scaling(max_containers=1, scaledown_window=1 * MINUTES),
    "staging": Scaling(max_containers=1, scaledown_window=2 * MINUTES),
    "prod": Scaling(max_containers=4, scaledown_window=5 * MINUTES),
}[DEPLOYMENT.environment]

MAX_SEQUENCES = 32  # a first guess: more share a GPU's cost among more answers, and make each of them slower
STARTUP = 20 * MINUTES  # the first start downloads and compiles; later ones find both on the Volumes

weights = modal.Volume.from_name("ragzero-weights", create_if_missing=True)
compiled = modal.Volume.from_name("ragzero-vllm-cache", create_if_missing=True)
secret = modal.Secret.from_name("ragzero-generate", required_keys=["RAGZERO_GENERATE_API_KEY"])

image = (
    modal.Image.from_registry("nvidia/cuda:13.0.1-devel-ubuntu24.04", add_python="3.12")
    .entrypoint([])
    .uv_pip_install(requirements=["functions/generate/requirements.txt"])
    .env(
        {
            "HF_HOME": "/weights",
            "RAGZERO_GENERATE_MODEL": DEPLOYMENT.model,
            "RAGZERO_GENERATE_REVISION": DEPLOYMENT.revision,
            "RAGZERO_GENERATE_HOST": "0.0.0.0",  # noqa: S104 - Modal's proxy comes from outside the container
            "RAGZERO_GENERATE_PORT": str(PORT),
            "RAGZERO_GENERATE_MAX_MODEL_LEN": "8192",
            "RAGZERO_GENERATE_MAX_SEQUENCES": str(MAX_SEQUENCES),
            "RAGZERO_GENERATE_STARTUP_SECONDS": str(STARTUP - MINUTES),  # we tell why
            "RAGZERO_GENERATE_GPU_SNAPSHOT": str(int(DEPLOYMENT.gpu_snapshot)),
            "RAGZERO_GENERATE_SLEEP_MODE": str(int(DEPLOYMENT.gpu_snapshot)),
        }
    )
    .add_local_python_source("functions", "shared")
)

app = modal.App("ragzero-generate")


@app.cls(
    image=image,
    gpu=DEPLOYMENT.gpu,
    volumes={"/weights": weights, "/root/.cache/vllm": compiled},
    secrets=[secret],
    min_containers=0,
    max_containers=SCALING.max_containers,
    scaledown_window=SCALING.scaledown_window,
    startup_timeout=STARTUP,
    timeout=10 * MINUTES,  # one answer; the caller's deadline is far shorter
    enable_memory_snapshot=DEPLOYMENT.gpu_snapshot,
    experimental_options={"enable_gpu_snapshot": DEPLOYMENT.gpu_snapshot},
)
# More than the engine runs at once wait in its queue, where prefixes are shared, rather than in a new container.
@modal.concurrent(max_inputs=2 * MAX_SEQUENCES, target_inputs=MAX_SEQUENCES)
class Generate:
    @modal.enter(snap=DEPLOYMENT.gpu_snapshot)
    def start(self) -> None:
        self.container = Container()  # with a snapshot, the key is in it: deploy again to change the key
        self.container.start()

    @modal.enter()
    def wake(self) -> None:
        self.container.wake()

    @modal.web_server(PORT, startup_timeout=STARTUP, requires_proxy_auth=True)
    def serve(self) -> None:
        """The port is open already."""

    @modal.exit()
    def stop(self) -> None:
        self.container.stop()


@app.local_entrypoint()
def health() -> None:
    url = modal.Cls.from_name("ragzero-generate", "Generate")().serve.get_web_url()
    print(probe(url))  # noqa: T201 - for the person who asked
