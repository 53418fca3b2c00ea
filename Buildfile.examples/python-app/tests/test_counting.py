"""Run in the build: ``imgbuild build --target test .``"""

import io
import json
import unittest

from app.counting import count_words
from app.service import application


class Counting(unittest.TestCase):
    def test_ranks_by_frequency_and_then_by_name(self) -> None:
        self.assertEqual(
            count_words("to be or not to be", most=3),
            {"words": 6, "different": 4, "most": {"be": 2, "to": 2, "not": 1}},
        )

    def test_case_numbers_and_apostrophes(self) -> None:
        self.assertEqual(count_words("Don't 42 DON'T")["most"], {"don't": 2})


class Service(unittest.TestCase):
    def post(self, body: bytes) -> tuple[str, bytes]:
        seen: list[str] = []
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/count",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
        }
        answer = application(environ, lambda status, headers, exc_info=None: seen.append(status))
        return seen[0], b"".join(answer)

    def test_counts_the_body(self) -> None:
        status, body = self.post(b"one two two")
        self.assertEqual((status, json.loads(body)["words"]), ("200 OK", 3))

    def test_refuses_what_is_no_text(self) -> None:
        self.assertEqual(self.post(b"\xff")[0], "400 Bad Request")


if __name__ == "__main__":
    unittest.main()
