"""``stage.ps1``, ``receive.ps1`` and ``assemble.ps1`` told once more in Python: how a file comes to a server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from wsusfix.lab.behaviours.shared import (
    ABSENT,
    Answer,
    Parameters,
    package_folder,
    package_path,
    refused_answer,
    segment_name,
    staging_path,
    staging_refusal,
    whole_segments,
)
from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts.contracts import Refusal

__all__ = ["assemble", "receive", "stage"]


def stage(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``stage.ps1``: make or check the closed folder, and tell what is there of one file."""
    staging = staging_path(windows, parameters["staging_name"])
    folder = package_folder(staging, parameters["sha256"])
    answer: Answer = {
        "refused": "",
        "detail": "",
        "path": package_path(folder, parameters["name"]),
        "complete": False,
        "segments": "",
        "free": windows.get_free_space(staging),
    }
    refusal = staging_refusal(windows, staging)
    if refusal not in ("", ABSENT):
        return refused_answer(answer, refusal, staging)
    there = 0
    if not refusal:
        answer["complete"] = windows.get_file_sha256(answer["path"]) == parameters["sha256"]
        segments = whole_segments(windows, folder)
        there = sum(size for _, size, _ in segments)
        answer["segments"] = "\n".join(f"{offset}-{size}" for offset, size, _ in segments)
    if answer["complete"]:
        return answer
    needed = 2 * int(parameters["size"]) - there + int(parameters["reserve"])
    if int(answer["free"]) < needed:
        return refused_answer(answer, Refusal.NO_SPACE, f"bytes needed: {needed}")
    if refusal == ABSENT:
        windows.new_closed_folder(staging)
        if refusal := windows.get_folder_trust(staging):
            return refused_answer(answer, refusal, staging)
    windows.new_plain_folder(f"{folder}\\parts")
    return answer


def receive(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``receive.ps1``: write a stretch of a file from the byte arrays of the input, each segment when it is whole."""
    staging = staging_path(windows, parameters["staging_name"])
    folder = package_folder(staging, parameters["sha256"]) + "\\parts"
    answer: Answer = {"refused": "", "detail": "", "received": "0"}
    refusal = staging_refusal(windows, staging)
    if refusal == ABSENT or (not refusal and not windows.test_folder(folder)):
        return refused_answer(answer, Refusal.NOT_STAGED, folder)
    if refusal:
        return refused_answer(answer, refusal, staging)
    free = windows.get_free_space(staging)
    if int(free) < int(parameters["length"]):
        return refused_answer(answer, Refusal.NO_SPACE, f"bytes free: {free}")
    expected, received, begun = int(parameters["length"]), 0, 0
    temporary = f"{folder}\\incoming-{uuid.uuid4().hex}"
    try:
        for chunk in chunks:
            data = _bytes_of(chunk)
            windows.add_binary_file(temporary, data)
            begun += len(data)
            received += len(data)
            if received <= expected and (begun >= int(parameters["segment"]) or received == expected):
                name = segment_name(int(parameters["offset"]) + received - begun, begun)
                windows.move_file_to_new(temporary, f"{folder}\\{name}")
                windows.remove_file(temporary)
                begun = 0
    finally:
        windows.remove_file(temporary)
    answer["received"] = str(received)
    if received != expected:
        return refused_answer(answer, Refusal.SHORT_SEGMENT, f"bytes expected: {parameters['length']}")
    return answer


def _bytes_of(chunk: object) -> bytes:
    if not isinstance(chunk, (bytes, bytearray)):
        raise WindowsError_(f"cannot convert {type(chunk).__name__} to System.Byte[]")
    return bytes(chunk)


def assemble(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``assemble.ps1``: join the segments, hash the whole, and put it in its place."""
    staging = staging_path(windows, parameters["staging_name"])
    folder = package_folder(staging, parameters["sha256"])
    parts = f"{folder}\\parts"
    answer: Answer = {
        "refused": "",
        "detail": "",
        "path": package_path(folder, parameters["name"]),
        "found_sha256": "",
    }
    refusal = staging_refusal(windows, staging)
    if refusal not in ("", ABSENT):
        return refused_answer(answer, refusal, staging)
    if not refusal:
        answer["found_sha256"] = windows.get_file_sha256(answer["path"]) or ""
        if answer["found_sha256"] == parameters["sha256"]:
            windows.remove_tree(parts)
            return answer
    if refusal == ABSENT or not windows.test_folder(parts):
        return refused_answer(answer, Refusal.NOT_STAGED, folder)
    size = int(parameters["size"])
    paths, reached = _path_through(whole_segments(windows, folder), size)
    if reached < size:
        return refused_answer(answer, Refusal.MISSING_SEGMENT, f"offset: {reached}")
    free = windows.get_free_space(staging)
    if int(free) < size:
        return refused_answer(answer, Refusal.NO_SPACE, f"bytes free: {free}")
    joined = f"{folder}\\joined-{uuid.uuid4().hex}"
    try:
        try:
            windows.join_files(paths, joined)
        except WindowsError_:
            # Somebody who was quicker has put the file in its place, and cleared its segments away.
            answer["found_sha256"] = windows.get_file_sha256(answer["path"]) or ""
            if answer["found_sha256"] == parameters["sha256"]:
                return answer
            raise
        answer["found_sha256"] = windows.get_file_sha256(joined)
        if answer["found_sha256"] != parameters["sha256"]:
            windows.remove_tree(parts)
            return refused_answer(answer, Refusal.HASH_MISMATCH, answer["path"])
        windows.remove_file(answer["path"])
        windows.move_file_to_new(joined, answer["path"])
    finally:
        windows.remove_file(joined)
    windows.remove_tree(parts)
    return answer


def _path_through(segments: list[tuple[int, int, str]], size: int) -> tuple[list[str], int]:
    """From what is reached, the longest segment that begins there: the files, and how far they reach."""
    reached, paths = 0, []
    while reached < size:
        fitting = [
            (length, path) for offset, length, path in segments if offset == reached and 0 < length <= size - reached
        ]
        if not fitting:
            break
        length, path = max(fitting, key=lambda each: each[0])
        paths.append(path)
        reached += length
    return paths, reached
