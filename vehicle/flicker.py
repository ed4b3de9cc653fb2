"""Detections that come and go: road users nearby that the network loses and finds again."""

from typing import Final

import numpy as np

NEAR_M: Final = 40.0
"""Farther away a good network flickers too."""

WINDOW_NS: Final = 1_000_000_000

_FIRST, _NEAR, _BLINK, _LOST = range(4)
"""Of a track: first told, last nearby, last blink (ns); ticks since it was detected."""

_NEVER: Final = -(1 << 62)


class Flicker:
    """Remembers for a second which tracks dropped out."""

    def __init__(self) -> None:
        self._tracks: dict[int, list[int]] = {}

    def of(self, tracks: np.ndarray, now_ns: int) -> float:
        """Return the share of the near tracks of the last second that blinked in it, 0..1.

        A track blinks when it is detected again after ticks without a detection, and when it is
        gone within a second of its first detection. NaN where nobody was near.

        Args:
            tracks: TRACK [N] of a frame the network looked at.
            now_ns: of that frame.
        """
        known, oldest_ns = self._tracks, now_ns - WINDOW_NS
        ids, coasted = tracks["track_id"].tolist(), tracks["coasted_ticks"].tolist()
        near = (np.hypot(tracks["x_m"], tracks["y_m"]) <= NEAR_M).tolist()
        for number, is_near, missed in zip(ids, near, coasted, strict=True):
            track = known.get(number)
            if track is not None:
                if track[_LOST] and not missed:
                    track[_BLINK] = now_ns
                track[_NEAR], track[_LOST] = now_ns if is_near else track[_NEAR], missed
            elif is_near:
                known[number] = [now_ns, now_ns, _NEVER, missed]
        present = set(ids)
        for number in [n for n, track in known.items() if track[_NEAR] < oldest_ns]:
            del known[number]
        for number, track in known.items():
            if number not in present and track[_NEAR] - track[_FIRST] < WINDOW_NS:
                track[_BLINK] = track[_NEAR]
        blinking = sum(track[_BLINK] >= oldest_ns for track in known.values())
        return blinking / len(known) if known else float("nan")
