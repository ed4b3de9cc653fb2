"""Bytes from the gateway, for the installer: bounded in time and length, and resumable.

python-tuf's own fetcher has a gap timeout only and starts from the beginning; a car on a bad link
needs a total deadline, and needs to go on where it was cut.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import httpx
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    SlowRetrievalError,
)
from tuf.ngclient import FetcherInterface

from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.identity import Identity


class Link(Protocol):
    """Where bytes come from."""

    def read(self, url: str, offset: int = 0) -> Generator[bytes, None, None]:
        """Yield the content of `url` from byte `offset` on.

        Raises:
            DownloadHTTPError: the other side says no.
            SlowRetrievalError: too slow.
            DownloadError: anything else that went wrong on the way.
        """
        ...


class HttpLink:
    """The gateway over HTTPS; both sides show who they are.

    Args:
        clock: for the total deadline.
        identity: of the car; None speaks as nobody, to a mirror that asks for nothing: what is
            installed is believed because it is signed, whoever hands it out.
        gap_s: longest silence.
        total_s: longest time for one file; then the download is resumed by a later try.
    """

    def __init__(
        self,
        clock: Clock,
        identity: Identity | None = None,
        *,
        gap_s: float = 10.0,
        total_s: float = 300.0,
    ) -> None:
        self._clock = clock
        self._gap_s = gap_s
        self._total_s = total_s
        self._client = httpx.Client(
            timeout=gap_s,
            headers={"Accept-Encoding": "identity"},
            verify=identity.context if identity else True,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def read(self, url: str, offset: int = 0) -> Generator[bytes, None, None]:
        """Yield the content of `url` from byte `offset` on; redirects are not followed."""
        end_ns = self._clock.mono_ns() + int(self._total_s * 1e9)
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                if response.status_code not in (200, 206):
                    code = response.status_code
                    raise DownloadHTTPError(f"{url} answers {code}", code)
                skip = offset if response.status_code == 200 else 0
                for piece in response.iter_raw():
                    if self._clock.mono_ns() > end_ns:
                        raise SlowRetrievalError(f"{url}: not done in {self._total_s:g} s")
                    kept = piece[skip:]
                    skip = max(0, skip - len(piece))
                    if kept:
                        yield kept
        except httpx.TimeoutException as error:
            raise SlowRetrievalError(f"{url}: silent for {self._gap_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DownloadError(f"{url}: {type(error).__name__}: {error}") from error


class TufFetcher(FetcherInterface):
    """Lets python-tuf's client read over a Link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._link.read(url)


def download(link: Link, url: str, path: Path, length: int) -> int:
    """Fetch `url` into `path`, going on after what is there; return the bytes received now.

    What was received stays on disk when the link breaks. The content is not checked here.

    Raises:
        DownloadLengthMismatchError: more than `length` bytes; nothing is kept.
        DownloadError: the link broke; call again to go on.
    """
    offset = path.stat().st_size if path.exists() else 0
    if offset > length:
        path.unlink()
        offset = 0
    received = 0
    with path.open("ab") as file, closing(link.read(url, offset)) as pieces:
        try:
            if offset < length:
                for piece in pieces:
                    received += len(piece)
                    if offset + received > length:
                        path.unlink()
                        raise DownloadLengthMismatchError(
                            f"{url} sends more than the {length} bytes that were signed"
                        )
                    file.write(piece)
        finally:
            file.flush()
            os.fsync(file.fileno())
    wire.sync_folder(path.parent)
    return received
