"""An environment in an account: its stacks, where their states lie, what is stored for it in SSM."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import boto3

from scripts.deployment.openapi import write_openapi
from scripts.deployment.stack import ENVIRONMENTS, ROOT, SOURCE, Stack, said, stacks_of
from scripts.local.aws import by_path
from scripts.packaging.recipes import PYTHON
from shared.core.errors import ConfigurationError

STATE = ROOT / ".local" / "deploy"


@dataclass(frozen=True)
class Target:
    """like: the environment whose files it takes, which is another one for a short-lived environment. tags: of all
    that it is made of. source: infra/terraform, or a copy of it with other environments' files."""

    name: str
    like: str
    tags: Mapping[str, str] = field(default_factory=dict)
    source: Path = SOURCE

    @classmethod
    def named(cls, name: str, source: Path = SOURCE) -> Target:
        return cls(name, name if name in ENVIRONMENTS else "dev", source=source)

    @cached_property
    def region(self) -> str:
        """That of its file: the shell may have another one."""
        found = self._said("region", "")
        assert found, f"{self.like}.tfvars names no region"
        return found

    @property
    def architecture(self) -> str:
        return self._said("architecture", "arm64")

    @property
    def python(self) -> str:
        return self._said("runtime", f"python{PYTHON}").removeprefix("python")

    @property
    def folder(self) -> Path:
        """Its packages and what its stacks are told in files."""
        return STATE / self.name

    def _said(self, name: str, default: str) -> str:
        return said(self.like, name, default, self.source)

    def client(self, service: str) -> Any:
        make: Any = boto3.client  # the stubs want the service's name as a literal
        return make(service, region_name=self.region)

    @cached_property
    def account(self) -> str:
        return str(self.client("sts").get_caller_identity()["Account"])

    @property
    def tenant(self) -> UUID:
        """Owns what is uploaded without a tenant's prefix; the same one each time."""
        return uuid5(NAMESPACE_URL, f"ragzero:{self.account}:{self.name}")

    @property
    def states(self) -> str:
        return f"ragzero-state-{self.account}"

    @property
    def stacks(self) -> list[Stack]:
        """In the order in which they are applied, each with what it is told."""
        return [self.stack(name) for name in stacks_of(self.like, self.source)]

    def stack(self, name: str) -> Stack:
        tags = ",".join(f'{key}="{value}"' for key, value in self.tags.items())
        told = [f"-var=environment={self.name}", *([f"-var=tags={{{tags}}}"] if tags else [])]
        if name == "app":
            files = {"openapi_file": self.folder / "openapi.json", "package_dir": self.folder / "packages"}
            told += [f"-var=default_tenant={self.tenant}"]
            told += [f"-var={name}={path}" for name, path in files.items()]
            told += _emulator()
        stack = Stack(name, self.source)
        return stack.with_options(*stack.files(self.like), *told)

    def doomed(self, stack: Stack) -> Stack:
        """As it is destroyed: planned first, with empty packages, because who destroys it has built none."""
        empty = stack.folder / "tests" / "packages"
        return stack.with_options(f"-var=package_dir={empty}") if stack.name == "app" else stack

    def init(self, stack: Stack) -> Stack:
        """With its state in the account's bucket, below the environment's name."""
        if stack.name == "app":
            write_openapi(self.folder / "openapi.json")
        where = {"bucket": self.states, "key": f"{self.name}/{stack.name}.tfstate"}
        backend = self.source / "environments" / f"{self.like}.tfbackend"
        options = [f"-backend-config={name}={value}" for name, value in where.items()]
        return stack.init("-reconfigure", f"-backend-config={backend}", *options)

    def stored(self, reader: str) -> dict[str, str]:
        """The parameters of one reader, decrypted, by their last names."""
        path = f"/ragzero/{self.name}/{reader}"
        pages = self.client("ssm").get_paginator("get_parameters_by_path")
        found = [one for page in pages.paginate(Path=path, WithDecryption=True) for one in page["Parameters"]]
        return {one["Name"].rpartition("/")[2]: one["Value"] for one in found}

    def required(self, reader: str, name: str) -> str:
        """Raises ConfigurationError when nobody has stored it yet."""
        try:
            return self.stored(reader)[name]
        except KeyError:
            problem = "is not stored; the database stack makes it, or you do for a database of your own"
            raise ConfigurationError(f"/ragzero/{self.name}/{reader}/{name}", problem) from None

    def url(self, stack: Stack) -> str:
        """Where the app stack's API answers."""
        url, emulator = str(stack.outputs()["url"]), os.environ.get("AWS_ENDPOINT_URL")
        return by_path(emulator, url) if emulator else url

    def store(self, parameters: Mapping[str, Mapping[str, str]]) -> None:
        """By reader, as functions read them."""
        ssm = self.client("ssm")
        for reader, values in parameters.items():
            for name, value in values.items():
                path = f"/ragzero/{self.name}/{reader}/{name}"
                ssm.put_parameter(Name=path, Value=value, Type="SecureString", Overwrite=True)

    def forget(self, parameters: Mapping[str, Iterable[str]]) -> None:
        ssm = self.client("ssm")
        for reader, names in parameters.items():
            for name in sorted(set(names) & set(self.stored(reader))):
                ssm.delete_parameter(Name=f"/ragzero/{self.name}/{reader}/{name}")


def _emulator() -> list[str]:
    url = os.environ.get("AWS_ENDPOINT_URL")
    return [f"-var=endpoint_url={url}"] if url else []
