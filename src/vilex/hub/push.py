"""An encoder's way to the hub: its files and a model card, as one commit."""

from pathlib import Path
from typing import Any, cast

from vilex.errors import InputError
from vilex.hub.card import card_for
from vilex.hub.public import public_files


def push(
    folder: Path,
    repository: str,
    private: bool = False,
    revision: str | None = None,
    base: str | None = None,
    overwrite: bool = False,
) -> str:
    """Upload a finished encoder with its model card, without paths of this machine; returns the commit's address.

    Args:
        repository: "owner/name". revision: a branch, made if it is not there.
        base: hub id of the frozen model, where the encoder names a folder of this machine.
        overwrite: whether a new commit may replace files that the repository has.
    Raises:
        InputError: the folder holds no encoder, its base model is nobody else's, the repository has such files
            already, or the hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    card = card_for(folder, repository, base)
    files = public_files(folder, base) | {"README.md": card.encode()}
    api = HfApi()
    transport = cast(type[Exception], HfHubHTTPError.__bases__[0])  # of httpx or httpx2, as the hub's version has it
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        if revision:
            api.create_branch(repository, branch=revision, exist_ok=True)
        there = api.list_repo_files(repository, revision=revision)
        if (taken := sorted(files.keys() & set(there))) and not overwrite:
            raise InputError(f"{repository}: has {taken[0]} already; --overwrite makes a new commit of it")
        old = [name for name in there if name.endswith(".safetensors") and name not in files]  # of other shards, say
        changes: list[Any] = [CommitOperationDelete(name) for name in old]
        changes += [CommitOperationAdd(name, content) for name, content in files.items()]
        done = api.create_commit(repository, changes, commit_message="Upload with vilex", revision=revision)
    except (transport, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if not isinstance(error, HfHubHTTPError):
            raise InputError(f"{repository}: the hub was not reached ({reason}); try again when it can be") from None
        raise InputError(f"{repository}: the hub refused ({reason}); log in with `hf auth login`") from None
    return str(done.commit_url)
