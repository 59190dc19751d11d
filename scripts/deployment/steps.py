"""From the source to a system that answers: steps that may each be repeated, so that a deployment goes on where it stopped."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from botocore.exceptions import ClientError
from psycopg.conninfo import make_conninfo

from scripts import migrate
from scripts.deployment.smoke import smoke
from scripts.deployment.stack import ENVIRONMENTS, ROOT, TerraformFailed
from scripts.deployment.target import Target
from scripts.packaging.__main__ import main as build
from scripts.packaging.layers import MODEL
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.tenants import TenantStore
from shared.core.credentials import digest, mint
from shared.core.errors import ConfigurationError, RagzeroError
from shared.settings import MigrateSettings

Say = Callable[[str], None]
_MODELS = (
    "RAGZERO_EMBED_MODEL",
    "RAGZERO_EMBED_REVISION",
    "RAGZERO_GENERATE_MODEL",
    "RAGZERO_GENERATE_REVISION",
)


class Stopped(RagzeroError):
    """A step failed; those before it are done."""

    def __init__(self, step: str, target: Target, error: RagzeroError) -> None:
        super().__init__(
            f"{step} failed: {error}\nOnce that is mended: scripts/deploy {target.name} --from {step}"
        )
        self.step = step


@dataclass
class Deployment:
    """say: who is told of progress. skip: names of stacks that this environment does without."""

    target: Target
    say: Say
    skip: Sequence[str] = ()
    found: dict[str, str] = field(default_factory=dict)

    @property
    def steps(self) -> Mapping[str, Callable[[], None]]:
        """In their order."""
        stacks = [stack.name for stack in self.target.stacks if stack.name not in self.skip]
        before = {name: lambda name=name: self._apply(name) for name in stacks if name != "app"}
        return {
            "build": self._build,
            **before,
            "migrate": self._migrate,
            "modal": self._modal,
            "app": lambda: self._apply("app"),
            "smoke": self._smoke,
        }

    def run(self, first: str = "build") -> None:
        """From that step on. Raises Stopped."""
        names = list(self.steps)
        if first not in names:
            raise ConfigurationError("--from", f"expected one of {', '.join(names)}, got {first}")
        self.check_states()
        for name in names[names.index(first) :]:
            self.say(f"{name} ...")
            try:
                self.steps[name]()
            except RagzeroError as error:
                raise Stopped(name, self.target, error) from error

    def plan(self) -> None:
        """Says what would happen; what can only be known after an earlier stack says so."""
        self._build()
        self.check_states()
        for stack in self.target.stacks:
            if stack.name in self.skip:
                continue
            try:
                self.target.init(stack)
                self.say(stack.run("plan", "-input=false", "-no-color", "-compact-warnings", *stack.options))
            except TerraformFailed as error:
                if stack.name != "app" or self.target.stored("query"):
                    raise
                self.say(
                    f"app: planned after the database stack is applied, which tells it of the database\n{error}"
                )

    def check_states(self) -> None:
        """Raises ConfigurationError when the account lacks what stacks/state makes once."""
        try:
            self.target.client("s3").head_bucket(Bucket=self.target.states)
        except ClientError as error:
            problem = "is not there or not yours; once per account, see infra/terraform/stacks/state"
            raise ConfigurationError(f"the bucket {self.target.states}", problem) from error

    def _build(self) -> None:
        if build([]) != 0:
            raise ConfigurationError("scripts/build", "failed; see above")

    def _apply(self, name: str) -> None:
        stack = self.target.init(self.target.stack(name))
        stack.apply()
        if name == "app":
            self.found["url"] = stack.outputs()["url"]
            self._say_what_nobody_stored(stack.outputs()["parameters"])

    def _say_what_nobody_stored(self, wanted: Mapping[str, Sequence[str]]) -> None:
        for reader, names in wanted.items():
            there = self.target.stored(reader)
            missing = [name for name in names if name.rpartition("/")[2] not in there]
            if missing:
                self.say(f"{reader} does without, until somebody stores it in SSM: {', '.join(missing)}")

    def _migrate(self) -> None:
        stored = self.target.stored("migrate")
        wanted = {
            name: str(each.validation_alias)
            for name, each in MigrateSettings.model_fields.items()
            if each.is_required()
        }
        given = {name: stored[alias] for name, alias in wanted.items() if alias in stored}
        for line in migrate.run(MigrateSettings.load(**given), MODEL):
            self.say(f"  {line}")

    def _modal(self) -> None:
        if self.target.name not in ENVIRONMENTS:
            self.say(f"  uses the models of {self.target.like}, where their addresses are stored")
        elif missing := [name for name in _MODELS if not os.environ.get(name)]:
            self.say(f"  left out, because {', '.join(missing)} are not set: answers are quotes")
        elif (
            subprocess.run([ROOT / "scripts" / "deploy-modal", self.target.name], check=False).returncode != 0
        ):
            raise ConfigurationError("scripts/deploy-modal", "failed; see above")

    def _smoke(self) -> None:
        key = first_key(self.target)
        url = self.found.get("url") or self.target.init(self.target.stack("app")).outputs()["url"]
        self.say(f"  {smoke(url, key)}")
        self.say(f"{url}\n{_shown(key)}")


def _shown(key: str) -> str:
    """A pipeline's log is read by more people than a terminal."""
    return "(the key is not shown where CI is set)" if os.environ.get("CI") else key


def first_key(target: Target) -> str:
    """The default tenant's first key: the same one each time, because it is made of the pepper."""
    pepper = target.required("query", "RAGZERO_KEY_PEPPER")
    key, text = mint(target.name, hmac.digest(pepper.encode(), b"first key", hashlib.sha256), pepper)
    database = Database(
        make_conninfo(
            target.required("migrate", "DATABASE_ADMIN_URL"),
            user="ragzero_owner",
            password=target.required("migrate", "RAGZERO_OWNER_PASSWORD"),
        )
    )
    try:
        tenants = TenantStore(database)
        tenants.ensure_tenant(target.tenant, "default")
        scopes = ["query", "ingest", "admin"]
        tenants.ensure_key(target.tenant, key.id, "first", digest(key.secret, pepper), scopes)
    finally:
        database.close()
    return text
