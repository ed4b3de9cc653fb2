"""A signed release as one parcel: what a car that no gateway reaches needs to install it.

Nothing is signed here: the repository's own files travel as they are, and the car's installer reads
them as it reads a gateway. A car that has been away long needs every root since its own.
"""

from fleet.sign import Repository
from vehicle.contracts import parcel
from vehicle.contracts.wire import RefusedError


class NothingToSendError(RefusedError):
    """No release fits the car."""


def release_parcel(repository: Repository, rig_digest: str) -> bytes:
    """Return the newest release for some cameras, with the metadata that proves it.

    Raises:
        NothingToSendError: there is none.
        NoRepositoryError, RepositoryDamagedError: see `fleet.sign`.
    """
    fitting = [r for r in repository.releases() if r.rig_digest == rig_digest]
    if not fitting:
        raise NothingToSendError(
            f"no release is for rig {rig_digest[:12]}; see `roadloop fleet releases`"
        )
    release = max(fitting, key=lambda r: r.release_counter)
    folder, _, name = release.target_path.rpartition("/")
    archive = f"targets/{folder}/{release.archive.sha256}.{name}"
    chain = repository.current_files()
    contents = {f"metadata/{n}": (repository.metadata_folder / n).read_bytes() for n in chain}
    contents[archive] = (repository.folder / archive).read_bytes()
    return parcel.pack(contents)
