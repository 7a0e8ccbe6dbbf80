"""Captions of short clips, as frames: 16 of them, every ninth of the clip; a short clip is repeated from its start.

MSR-VTT's videos vanish from the web: big_vision's own numbers are on 4,663 / 316 / 2,094 clips (April 2024) of the
6,513 / 497 / 2,990 that were published.
"""

from collections import defaultdict
from pathlib import Path

from PIL import Image

from vilex.errors import InputError
from vilex.extras import needs
from vilex.paths import replacing
from vilex.pictures.load import EXTENSIONS
from vilex.understand.examples import Example
from vilex.understand.tasks.captioning import caption_prefix
from vilex.understand.tasks.reading import needs_split, not_empty, read_record, the_files
from vilex.understand.tasks.task import DecodeNumbers, Published, Task, TransferNumbers

FRAMES, STRIDE = 16, 9
VIDEOS = (".mp4", ".webm", ".mkv", ".avi", ".mov")
FRAME_FOLDER = "frames"


def read_msrvtt(source: Published) -> list[Example]:
    """`train_val_videodatainfo.json` or the test set's; `images` holds `video7.mp4`, or a folder `video7` of frames.

    Splits: train, validate, test. Frames of an mp4 are written once, as JPEG, below `images/frames`.

    Raises:
        InputError: the file has another form, or clips are missing.
    """
    (path,) = the_files(source, 1, "train_val_videodatainfo.json")
    data = read_record(path)
    videos = {video.text("video_id"): video.text("split") for video in data.records("videos")}
    split = needs_split(source, set(videos.values()))
    captions: dict[str, list[str]] = defaultdict(list)
    for sentence in data.records("sentences"):
        captions[sentence.text("video_id")].append(sentence.text("caption"))
    names = [name for name, part in videos.items() if part == split]
    there = {name: clip for name in names if (clip := _clip(source.images, name))}
    if missing := [name for name in names if name not in there]:
        raise InputError(
            f"{source.images}: {len(missing)} of {len(names)} clips are missing, {missing[0]} among them; add them, or "
            f"remove them from {path.name}, and say on how many clips you report"
        )
    examples = [
        Example(
            tuple(frames_of(there[name], source.images / FRAME_FOLDER)), caption_prefix(), tuple(captions[name]), name
        )
        for name in names
    ]
    return not_empty(examples, source)


def sampled(count: int, frames: int = FRAMES, stride: int = STRIDE) -> list[int]:
    """Which of a clip's `count` frames are looked at: every `stride`-th, repeated from the start where they run out.

    >>> sampled(30, frames=5)
    [0, 9, 18, 27, 0]
    """
    there = range(0, count, stride)[:frames]
    return [there[i % len(there)] for i in range(frames)]


def frames_of(clip: Path, folder: Path, frames: int = FRAMES, stride: int = STRIDE) -> list[Path]:
    """The frames of a clip that are looked at, as pictures on disk.

    Args:
        clip: a folder of frames in the order of their names, or a video, which the extra `video` opens.
        folder: where a video's frames are kept.
    Raises:
        InputError: there are none, or the video cannot be read.
    """
    if clip.is_dir():
        found = sorted(path for path in clip.iterdir() if path.suffix.lower() in EXTENSIONS)
        if not found:
            raise InputError(f"{clip}: no frames in this folder; give pictures named in their order")
        return [found[i] for i in sampled(len(found), frames, stride)]
    kept = folder / f"{clip.stem}-{frames}x{stride}"
    there = sorted(kept.glob("*.jpg")) if (kept / "whole").is_file() else _write_frames(clip, kept, frames, stride)
    return [there[i % len(there)] for i in range(frames)]


def _write_frames(clip: Path, kept: Path, frames: int, stride: int) -> list[Path]:
    """Decode a video's frames 0, stride, 2 stride, ..., so many as are wanted."""
    with needs("video"):
        import av
    paths = []
    try:
        with av.open(str(clip)) as video:
            for number, frame in enumerate(video.decode(video=0)):
                if number % stride == 0:
                    paths.append(_write(Image.fromarray(frame.to_ndarray(format="rgb24")), kept / f"{number:06d}.jpg"))
                if len(paths) == frames:
                    break
    except (av.FFmpegError, IndexError, OSError) as error:
        raise InputError(f"{clip}: cannot be read as a video ({error}); convert it to mp4") from None
    if not paths:
        raise InputError(f"{clip}: a video without frames; convert it to mp4")
    (kept / "whole").touch()
    return paths


def _write(frame: Image.Image, path: Path) -> Path:
    with replacing(path) as aside:
        frame.save(aside, "JPEG", quality=95)
    return path


def _clip(images: Path, name: str) -> Path | None:
    if (images / name).is_dir():
        return images / name
    return next((path for suffix in VIDEOS if (path := images / f"{name}{suffix}").is_file()), None)


VIDEO = (
    Task("msrvtt", "train_val_videodatainfo.json", read_msrvtt, "captions", "cider",
         TransferNumbers(epochs=20, batch_size=128, freeze_tower=True), DecodeNumbers(), frames=FRAMES,
         splits=True),
)  # fmt: skip
