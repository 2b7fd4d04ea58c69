"""The parser beyond the table of client cases: any cut, and its bounds."""

import random
import unittest

from vx11_events._frames import LARGEST, Frame, FrameParser, NotAStreamError

PARTS = [
    "data",
    "id",
    "event",
    "retry",
    "topic",
    "x",
    ":",
    ": ",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "7",
    "\0",
    "ä😀",
]


def parsed(stream: bytes, size: int) -> list[Frame]:
    parser = FrameParser()
    chunks = (stream[at : at + size] for at in range(0, len(stream), size))
    return [frame for chunk in chunks for frame in parser.push(chunk)]


class Frames(unittest.TestCase):
    def test_frames_are_read_alike_however_they_are_cut(self) -> None:
        choose = random.Random(7)
        for _ in range(300):
            parts = choose.choices(PARTS, k=choose.randrange(60))
            stream = f"{''.join(parts)}\n\n:".encode()
            whole = parsed(stream, len(stream))
            for size in range(1, 8):
                self.assertEqual(parsed(stream, size), whole, stream)

    def test_a_line_and_data_are_bounded_in_bytes(self) -> None:
        line, data = b"x" * 65_536, b"data: " + b"x" * 30 + b"\n"
        for chunk in (line, data * 2_048, b"data\n" * 65_536):
            parser = FrameParser()
            with self.assertRaises(NotAStreamError):
                for _ in range(100):
                    parser.push(chunk)

    def test_the_bound_is_of_one_line_and_one_frame(self) -> None:
        parser = FrameParser()
        event = b"data: " + b"x" * (LARGEST // 2) + b"\n\n"
        self.assertEqual(sum(len(parser.push(event)) for _ in range(10)), 10)

    def test_a_retry_is_digits_only(self) -> None:
        for text, expected in (
            ("5", 5),
            ("-5", None),
            ("5.0", None),
            ("\u0665", None),
            ("", None),
            ("9" * 5_000, None),
        ):
            (frame,) = FrameParser().push(f"retry: {text}\nid: 1\n\n".encode())
            self.assertEqual(frame.retry_ms, expected, text[:10])


if __name__ == "__main__":
    unittest.main()
