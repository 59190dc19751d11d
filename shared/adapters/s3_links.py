"""Addresses that let somebody without a key of the bucket's put or get exactly one object, for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from shared.adapters.s3 import Bucket, to_header, translated


class Links:
    """seconds: how long each holds."""

    def __init__(self, bucket: Bucket, seconds: int) -> None:
        self._bucket = bucket
        self.seconds = seconds

    def post(
        self, key: str, size: int, content_type: str, metadata: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """(address, form fields) of an upload of at most that many bytes, by a form whose last field is `file`."""
        fields = {"Content-Type": content_type} | {
            f"x-amz-meta-{name}": to_header(value) for name, value in metadata.items()
        }
        conditions: list[Any] = [{name: value} for name, value in fields.items()]
        with translated(key):
            made = self._bucket.client.generate_presigned_post(
                self._bucket.name,
                key,
                Fields=fields,
                Conditions=[*conditions, ["content-length-range", size, size]],
                ExpiresIn=self.seconds,
            )
        return made["url"], dict(made["fields"])

    def begin_parts(self, key: str, content_type: str, metadata: Mapping[str, str]) -> str:
        """The bucket's id of an upload in parts."""
        with translated(key):
            return self._bucket.client.create_multipart_upload(
                Bucket=self._bucket.name,
                Key=key,
                ContentType=content_type,
                Metadata={name: to_header(value) for name, value in metadata.items()},
            )["UploadId"]

    def parts(self, key: str, upload: str, sizes: Sequence[int]) -> list[str]:
        """Addresses to PUT parts of exactly these sizes to."""
        with translated(key):
            return [
                self._bucket.client.generate_presigned_url(
                    "upload_part",
                    Params={
                        "Bucket": self._bucket.name,
                        "Key": key,
                        "UploadId": upload,
                        "PartNumber": number,
                        "ContentLength": size,
                    },
                    ExpiresIn=self.seconds,
                )
                for number, size in enumerate(sizes, 1)
            ]

    def arrived(self, key: str, upload: str) -> int:
        """Bytes of the parts that are there."""
        where: dict[str, Any] = {"Bucket": self._bucket.name, "Key": key, "UploadId": upload}
        with translated(key):
            pages = self._bucket.client.get_paginator("list_parts").paginate(**where)
            return sum(part["Size"] for page in pages for part in page.get("Parts", []))

    def finish_parts(self, key: str, upload: str, etags: Sequence[str]) -> None:
        parts: Any = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        with translated(key):
            self._bucket.client.complete_multipart_upload(
                Bucket=self._bucket.name, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
            )

    def abort_parts(self, key: str, upload: str) -> None:
        with translated(key):
            self._bucket.client.abort_multipart_upload(Bucket=self._bucket.name, Key=key, UploadId=upload)

    def get(self, key: str) -> str:
        """Of a file to be saved: what stands in it never runs in a browser."""
        name = quote(PurePosixPath(key).name, safe="")
        with translated(key):
            return self._bucket.client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._bucket.name,
                    "Key": key,
                    "ResponseContentDisposition": f"attachment; filename*=UTF-8''{name}",
                    "ResponseContentType": "application/octet-stream",
                },
                ExpiresIn=self.seconds,
            )
