"""An encoder's way to the hub: its folder with a model card, uploaded."""

from pathlib import Path

from vilex.errors import InputError
from vilex.hub.card import write_card


def push(folder: Path, repository: str, private: bool = False, revision: str | None = None) -> str:
    """Upload a finished encoder's folder with its model card; returns the address of the commit.

    Args:
        repository: "owner/name". revision: a branch, made if it is not there.
    Raises:
        InputError: the folder holds no encoder, or the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    write_card(folder, repository)
    api, transport = HfApi(), HfHubHTTPError.__bases__[0]  # of httpx or httpx2, as the hub's version has it
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        if revision:
            api.create_branch(repository, branch=revision, exist_ok=True)
        done = api.upload_folder(repo_id=repository, folder_path=folder, revision=revision)
    except (transport, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{repository}: the hub refused ({reason}); log in with `hf auth login`") from None
    return str(done)
