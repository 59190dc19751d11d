"""From the source to a system that answers: steps that may each be repeated, so that a deployment goes on where it stopped."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from botocore.exceptions import ClientError
from psycopg.conninfo import make_conninfo

from scripts import migrate
from scripts.deployment import models
from scripts.deployment.smoke import smoke
from scripts.deployment.stack import ENVIRONMENTS, TerraformFailed
from scripts.deployment.target import Target
from scripts.packaging.__main__ import main as build
from scripts.packaging.layers import MODEL
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.tenants import TenantStore
from shared.core.credentials import digest, mint
from shared.core.errors import ConfigurationError, RagzeroError
from shared.settings import MigrateSettings

Say = Callable[[str], None]


class Stopped(RagzeroError):
    """A step failed; those before it are done."""

    def __init__(self, step: str, target: Target, error: RagzeroError) -> None:
        command = "deploy" if target.name in ENVIRONMENTS else "env up"
        super().__init__(
            f"{step} failed: {error}\nOnce that is mended: scripts/{command} {target.name} --from {step}"
        )
        self.step = step


@dataclass
class Deployment:
    """say: who is told of progress. skip: stacks, or modal, that this environment does without."""

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
            **(
                {}
                if models.STEP in self.skip
                else {models.STEP: lambda: models.deploy(self.target, self.say)}
            ),
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
        """Says what each step would do; what can only be known after an earlier stack says so."""
        self.check_states()
        for name in self.steps:
            if name in self._foreseen:
                self.say(f"{name}: {self._foreseen[name]}")
            else:
                self.say(f"{name}: {self._planned(name)}")

    @property
    def _foreseen(self) -> Mapping[str, str]:
        """Of the steps that are not Terraform's."""
        target = self.target
        left_out = models.reason_to_leave_out(target)
        return {
            "build": f"makes the packages in {target.folder / 'packages'}; now, because the app's plan needs them",
            "migrate": "brings the database to the current schema",
            models.STEP: f"left out, because {left_out}" if left_out else "deploys infra/modal",
            "smoke": "uploads a document, asks about it, deletes it; prints the address and a key",
        }

    def _planned(self, name: str) -> str:
        if name == "app":
            self._build()
        stack = self.target.stack(name)
        try:
            self.target.init(stack)
            return stack.run("plan", "-input=false", "-no-color", "-compact-warnings", *stack.options)
        except TerraformFailed as error:
            if name != "app" or self.target.stored("query"):
                raise
            return f"planned after the database stack is applied, which tells it of the database\n{error}"

    def check_states(self) -> None:
        """Raises ConfigurationError when the account lacks what stacks/state makes once."""
        try:
            self.target.client("s3").head_bucket(Bucket=self.target.states)
        except ClientError as error:
            problem = "is not there or not yours; once per account, see infra/terraform/stacks/state"
            raise ConfigurationError(f"the bucket {self.target.states}", problem) from error

    def _build(self) -> None:
        target = self.target
        made = ["--arch", target.architecture, "--python", target.python]
        if build([*made, "--out", str(target.folder / "packages")]) != 0:
            raise ConfigurationError("scripts/build", "failed; see above")

    def _apply(self, name: str) -> None:
        stack = self.target.init(self.target.stack(name))
        stack.apply()
        if name == "app":
            self.found["url"] = self.target.url(stack)
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

    def _smoke(self) -> None:
        key = first_key(self.target)
        url = self.found.get("url") or self.target.url(self.target.init(self.target.stack("app")))
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
